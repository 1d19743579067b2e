#!/usr/bin/env bash
# Everything that has to hold before a change goes in: format, warnings, clang-tidy, all tests, and
# the tests again under AddressSanitizer and UndefinedBehaviorSanitizer. Installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

step=start
began=$SECONDS
finish() {
  local code=$?
  # A signal leaves with the code of the last command: only the end of the script is success.
  if [[ $code -eq 0 && $step == done ]]; then
    echo "scripts/test.sh: passed: format, build, lint, tests, tests with sanitizers;" \
      "$((SECONDS - began)) s"
  else
    echo "scripts/test.sh: FAILED at: $step; $((SECONDS - began)) s" >&2
  fi
}
trap finish EXIT
begin() {
  step=$1
  echo "--- $step ($((SECONDS - began)) s)"
}

# Files that lie beside the checkout serve the tests that want real data; those skip without them.
if [[ -d ../shared ]]; then
  LATHE_TEST_DATA=$(realpath ../shared)
  export LATHE_TEST_DATA
fi

begin packages
scripts/install_packages.sh "${build_packages[@]}" "${test_packages[@]}"

begin format
find include src kernels tests -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' |
  xargs clang-format-14 --dry-run -Werror

# What some tests need of others' Python packages comes meanwhile; those tests do not run without.
install_python_packages() {
  scripts/install_transformers.sh || echo 'transformers cannot be installed here: transformers_test will not run'
  for package in tensorboard optuna; do
    scripts/install_from_pypi.sh "$package" || echo "$package cannot be installed here: its test will not run"
  done
}

begin build
# A new build compiles each folder of src/ at once (CONTRIBUTING.md); one that is there stays as it is.
new_build=()
[[ -f build/CMakeCache.txt ]] || new_build=(-DLATHE_UNITY=ON)
cmake --preset release -DLATHE_BUILD_TESTS=ON "${new_build[@]}"
install_python_packages &
cmake --build build

begin 'Python packages'
wait

begin lint
scripts/lint.sh build

# One more at a time than there are processors: many wait for ranks, disks and signals.
begin tests
ctest --test-dir build --output-on-failure --parallel $(($(nproc) + 1)) --timeout 300

# The parts that read untrusted files, move memory or run threads; all of them would take longer than
# everything above.
begin 'tests with sanitizers'
sanitized=(attention_test checkpoint_test cli_test convert_test data_loader_test decoder_test
  files_test fuzz_test golden_test inspect_test model_import_test multiple_choice_test options_test
  safetensors_test sample_test tokenize_test tokenizer_test train_test)
cmake --preset asan
cmake --build build-asan --target "${sanitized[@]}"
ctest --test-dir build-asan --output-on-failure --parallel "$(nproc)" --timeout 600 \
  --tests-regex "^($(IFS='|'; echo "${sanitized[*]}"))\$"
step=done
