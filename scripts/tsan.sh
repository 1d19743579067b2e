#!/usr/bin/env bash
# Looks for data races with ThreadSanitizer in what runs beside training: threads that share out an
# operation, the loader that reads ahead, checkpoints saved in the background, ranks that are threads.
# Builds these tests in build-tsan/.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

tests=(checkpoint_saver_test data_loader_test rank_threads_test thread_team_test train_test)
scripts/install_packages.sh "${build_packages[@]}" "${test_packages[@]}"
cmake --preset tsan >/dev/null
cmake --build build-tsan --target "${tests[@]}"
# Of whole runs, which are slow here, those that save in the background and are interrupted.
export GTEST_FILTER='Saver.*:Data*:RankThreads.*:ThreadTeam.*:Train.SavingInTheBackground*:Train.AnInterrupted*'
# The sanitizer wants its memory where address randomisation may have put something else.
setarch -R ctest --test-dir build-tsan --output-on-failure --timeout 300 \
  --tests-regex "^($(IFS='|'; echo "${tests[*]}"))\$"
