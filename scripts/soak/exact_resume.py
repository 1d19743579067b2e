"""Saves at step k, goes on to step 40, and compares with the run that nothing interrupted: in fp32 and
bf16, with and without accumulation, saving in the background or not. See exact_resume.sh."""
import itertools

from common import Scratch, Tally, Unbroken, each, number, require_built, run

STEPS = 40


def options(precision, accumulation, background):
    return ["--precision", precision, "--batch-tokens", str(32 * accumulation), "--val-every", "7",
            "--checkpoint-every", "3", "--keep", "1",
            "--background-save" if background else "--no-background-save"]


def main(pairs):
    require_built()
    scratch = Scratch()
    kinds = list(itertools.product(("fp32", "bf16"), (1, 4), (True, False)))
    unbroken = {kind: Unbroken(scratch, options(*kind), STEPS) for kind in kinds}
    cases = list(itertools.islice(itertools.product(range(1, STEPS), kinds), pairs))
    tally = Tally(len(cases))

    def check(case):
        step, kind = case
        folder = scratch.folder() / "run"
        cut = run(unbroken[kind].train(folder, "--stop-at-step", str(step)))
        problem = "" if cut.code == 0 else f"until step {step}: {cut}"
        tally.add(f"step {step}, {kind}", problem or unbroken[kind].finish(folder), str(kind))

    each(cases, check)
    return tally.finish(least=len(cases))


if __name__ == "__main__":
    raise SystemExit(main(number(240)))
