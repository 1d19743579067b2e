"""For tests that need Python packages: the same test again, under a Python that has them."""
import os
import pathlib
import subprocess
import sys

SKIPPED = 77  # to ctest
FOUND = "LATHE_TEST_HAS_PACKAGES"


def can_import(python, packages):
    return os.path.exists(python) and subprocess.run(
        [python, "-c", f"import {packages}"], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL).returncode == 0


def require(packages, folder, script, variable, **environment):
    """Starts this program again, with `environment` as well, under the first Python that can import
    `packages`: the one that `variable` names, build/FOLDER, which `script` makes, or the one that runs
    this. Where none can, says so and exits with 77."""
    if os.environ.get(FOUND) == "1":
        return
    made = pathlib.Path(os.environ["LATHE_BINARY"]).parent / folder / "bin/python"
    for python in filter(None, (os.environ.get(variable), str(made), sys.executable)):
        if can_import(python, packages):
            os.execve(python, [python, *sys.argv], dict(os.environ, **environment, **{FOUND: "1"}))
    print(f"{pathlib.Path(sys.argv[0]).name} did not run: no Python with {packages}; {script} makes "
          f"build/{folder}, {variable} names another")
    sys.exit(SKIPPED)
