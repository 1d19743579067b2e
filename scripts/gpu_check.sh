#!/usr/bin/env bash
# Proves and measures Lathe on a machine with a GPU; docs/gpu_check.md says what each stage shows.
#
#     scripts/gpu_check.sh [OUT] [--stage build|test|train|bench|peer]... [--rehearse]
#
# Leaves OUT/report.json and OUT/report.md (default: build-gpu/report), written after every check, and
# OUT/log.txt. Needs CUDA 13 with compute-sanitizer, CMake, Ninja, g++ and python3 with PyTorch; no network:
# libraries come from deps/ (scripts/pack_deps.sh) where that is. --rehearse does the same without a GPU, at
# small shapes on the PTX machine, in build-rehearsal. The exit code is 1 when any check failed.
set -euo pipefail
cd "$(dirname "$0")/.."

stage_seconds=230  # of one stage
total_seconds=590  # of all

usage() {
  sed -n 's/^#  *scripts/usage: scripts/p' "$0" >&2
  exit 2
}

rehearse=false out='' stages=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --rehearse) rehearse=true ;;
    --stage)
      [[ ${2:-} =~ ^(build|test|train|bench|peer)$ ]] || usage
      stages+=("$2")
      shift
      ;;
    -*) usage ;;
    *) out=$1 ;;
  esac
  shift
done
[[ ${#stages[@]} -gt 0 ]] || stages=(build test train bench peer)

# Each configuration: name, layers, heads, channels, T, and B: the first that fits.
if $rehearse; then
  stage_seconds=1800 total_seconds=7200  # slow, and proves nothing about time
  build='build-rehearsal'
  lathe=$build/tests/lathe_simulated
  shape=(--layers 1 --heads 2 --channels 32 --context 32 --micro-batch 2 --batch-tokens 128)
  configurations=("tiny 1 2 32 32 2,1")
else
  build='build-gpu'
  lathe=$build/lathe
  shape=(--layers 4 --heads 4 --channels 256 --context 256 --micro-batch 4 --batch-tokens 2048)
  configurations=("gpt2-b64 12 12 768 1024 64" "gpt2-b4 12 12 768 1024 4" "gpt2-xl 48 25 1600 1024 16,8,4")
fi
if ! $rehearse && ! command -v nvidia-smi >/dev/null; then
  echo "scripts/gpu_check.sh: no nvidia-smi, so no GPU; --rehearse does without" >&2
  exit 2
fi
out=${out:-$build/report}
work=$build/check # the runs, and what the checks print
mkdir -p "$out" "$work"

report() { python3 scripts/gpu_report.py "$out" "$@"; }
reads() { python3 scripts/gpu_read.py "$@"; }

# What a command's output comes to in one line: its last, or its last few where it failed. JSON is kept
# elsewhere.
last_lines() {
  cat "$work/stdout" "$work/stderr" | tr -d '\r' | grep -vE '^([[:space:]]*$|\{|\[\{)' | tail -n "$1" | tail -c 600 |
    paste -sd / || true
}

# check NAME SECONDS COMMAND...: passes when the command ends with 0 in that time, and in what is left of
# the stage's. Never ends the script; $passed says how it went.
check() {
  local name=$1 limit=$2 began=$SECONDS code=0 status=passed detail
  shift 2
  [[ $((deadline - SECONDS)) -ge $limit ]] || limit=$((deadline - SECONDS))
  if [[ $limit -le 0 ]]; then
    passed=false
    echo "$stage: $name: failed, no time left"
    report check "$stage" "$name" failed 0 "no time left"
    return
  fi
  timeout --kill-after=5 "$limit" "$@" >"$work/stdout" 2>"$work/stderr" </dev/null || code=$?
  { echo "=== $stage: $name: $*"; cat "$work/stdout" "$work/stderr"; } >>"$out/log.txt"
  passed=true detail=$(last_lines 1)
  if [[ $code -ne 0 ]]; then
    passed=false status=failed detail="exit code $code: $(last_lines 6)"
    [[ $code -ne 124 ]] || detail="stopped after $limit s: $(last_lines 2)"
  fi
  echo "$stage: $name: $status, $((SECONDS - began)) s: $detail"
  report check "$stage" "$name" "$status" "$((SECONDS - began))" "$detail"
}

not_run() {
  echo "$stage: $1: not run: $2"
  report check "$stage" "$1" 'not run' 0 "$2"
}

# Keeps what the last check printed, JSON, under a name.
keep() {
  if $passed && ! report value "$stage" "$1" "$work/stdout"; then
    report check "$stage" "$1" failed 0 'printed something else than JSON'
  fi
}

# A toolkit may be little more than the compiler: cuBLASLt is among PyTorch's packages, too.
find_cublaslt() {
  local nvcc toolkit packages
  nvcc=$(command -v nvcc) || return 0
  toolkit=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
  [[ ! -e $toolkit/lib64/libcublasLt.so.13 ]] || return 0
  packages=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)/cu13 || return 0
  export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$packages/lib
  export CPATH=${CPATH:+$CPATH:}$packages/include
}

# So is NCCL, the header with it.
nccl_option=()
find_nccl() {
  local packages
  ! find "$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")" -name nccl.h 2>/dev/null | grep -q . || return 0
  packages=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)/nccl || return 0
  [[ -e $packages/include/nccl.h ]] || return 0
  export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$packages/lib
  nccl_option=("-DLATHE_NCCL_INCLUDE_DIR=$packages/include")
}

# --- build: the program and its tests, for this GPU alone ---

build_stage() {
  local options=(-DCMAKE_BUILD_TYPE=Release -DLATHE_GPU_TESTS=ON -DLATHE_WARNINGS_AS_ERRORS=OFF "${nccl_option[@]}")
  local targets=(lathe gpu_tests instruction_kernels)
  if $rehearse; then
    options+=(-DLATHE_GPU_ARCHITECTURES=80)
    targets=(lathe_simulated cuda_linear_test cuda_reductions_test cuda_gemm_test cuda_simulated_gemm_test
      instruction_kernels_simulated instruction_golden_test gpu_linear_test instruction_kernels)
  fi
  if [[ -d deps ]]; then
    # An rpath of the old kind, which libraries' own libraries are found by too: oneDNN's OpenCL.
    options+=("-DCMAKE_PREFIX_PATH=$PWD/deps/usr"
      "-DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags,-rpath,$PWD/deps/usr/lib/x86_64-linux-gnu")
  fi
  check machine 60 python3 scripts/gpu_read.py machine
  keep machine
  check configure 120 cmake -G Ninja -B "$build" "${options[@]}"
  check compile "$stage_seconds" cmake --build "$build" --target "${targets[@]}"
  check 'kernel resources' 30 python3 scripts/kernel_resources.py "$build" --json
  keep kernels
}

# --- test: the tests of operations, model and training on the GPU ---

test_stage() {
  local test tests=("$build"/tests/gpu_*_test) instructions=instruction_kernels
  if $rehearse; then
    tests=("$build"/tests/cuda_{linear,reductions,gemm,simulated_gemm}_test)
    instructions=instruction_kernels_simulated
    # Linked as on a GPU, where there is none: it must say so.
    check 'without a GPU, tests fail' 60 bash -c "! $build/tests/gpu_linear_test --gtest_brief=1"
  fi
  for test in "${tests[@]}"; do
    check "$(basename "$test")" 90 "$test" --gtest_brief=1
  done
  check 'results of instructions' 30 "$build/tests/instruction_kernels/$instructions"
  if $passed; then cp "$work/stdout" "$out/instructions.json"; fi
}

# --- train: whole runs ---

# train_run NAME STEPS OPTIONS...: the schedule is that of a longer run, which ends without a sample.
train_run() {
  local name=$1 steps=$2
  shift 2
  check "run $name" 60 "$lathe" train --out "$work/runs/$name" --overwrite --quiet "${shape[@]}" \
    --steps 1000 --stop-at-step "$steps" --lr 3e-4 --warmup-steps 0 --val-tokens 1024 "$@"
}

same_weights() {
  check "$1" 20 diff -rq --exclude=state.json "$work/runs/$2/checkpoints/step-00000010" \
    "$work/runs/$3/checkpoints/step-00000010"
}

# sanitize TOOL PRECISION: every kernel of two steps, launched one by one.
sanitize() {
  if $rehearse; then
    not_run "$1, $2" 'not rehearsed: needs a GPU'
    return
  fi
  check "$1, $2" 60 compute-sanitizer --tool "$1" --error-exitcode 1 "$lathe" train \
    --out "$work/runs/$1-$2" --overwrite --quiet --layers 1 --heads 2 --channels 64 --context 64 \
    --micro-batch 2 --batch-tokens 256 --steps 1000 --stop-at-step 2 --val-tokens 128 --device cuda \
    --precision "$2" --no-graph --gemm-tuning off
}

train_stage() {
  local precision plans=(--device cuda --precision bf16 --gemm-plans "$work/runs/gpu-bf16/gemm_plans.json")
  # Of a loss, times the step. For bf16 twice what its rounding moves this very run away from fp32 on a CPU
  # (8.4e-4 at step 10); cut into other micro-batches fp32 moves by 1e-7, bf16 by 5e-5.
  local -A tolerance=([fp32]=1e-5 [bf16]=2e-4)
  for precision in fp32 bf16; do
    train_run "cpu-$precision" 10 --device cpu --precision "$precision"
    train_run "gpu-$precision" 10 --device cuda --precision "$precision"
    check "losses and norms in $precision are the CPU's" 20 python3 scripts/gpu_read.py steps \
      "$work/runs/gpu-$precision" "$work/runs/cpu-$precision" "${tolerance[$precision]}"
  done
  train_run again 10 "${plans[@]}"
  same_weights "a second run with the first's plans gives the same bits" gpu-bf16 again
  train_run no-graph 10 "${plans[@]}" --no-graph
  same_weights 'recorded work gives the same bits' gpu-bf16 no-graph
  train_run cut 5 "${plans[@]}"
  check 'run cut, resumed' 60 "$lathe" train --out "$work/runs/cut" --resume --stop-at-step 10 --quiet
  same_weights 'a resumed run gives the same bits' gpu-bf16 cut
  if grep -q '^LATHE_NCCL_INCLUDE_DIR:PATH=/' "$build/CMakeCache.txt"; then
    train_run nccl 10 "${plans[@]}" --gpus 1
    same_weights 'a world of one GPU through NCCL gives the same bits' gpu-bf16 nccl
  else
    not_run 'a world of one GPU through NCCL' 'no nccl.h in the toolkit or among the packages of PyTorch'
  fi
  for precision in bf16 fp32; do
    sanitize memcheck "$precision"
    sanitize racecheck "$precision"
  done
}

# --- bench: the speed of training steps, and what the GPU can do at best ---

bench_stage() {
  local name layers heads channels seq_len micro_batches configuration vocab=50257
  if $rehearse; then
    vocab=256
    not_run ceilings 'not rehearsed: needs a GPU'
  else
    check ceilings 60 python3 scripts/bench_pytorch.py --ceilings
    keep ceilings
  fi
  for configuration in "${configurations[@]}"; do
    read -r name layers heads channels seq_len micro_batches <<<"$configuration"
    check "bench $name" 80 python3 scripts/gpu_read.py bench "$lathe" "$name" "$layers" "$channels" "$seq_len" \
      "$micro_batches" -- "--layers=$layers" "--heads=$heads" "--channels=$channels" "--context=$seq_len" \
      "--vocab=$vocab" --device=cuda --precision=bf16 --steps=10
    keep "bench $name"
    if $passed; then cp "$work/stdout" "$work/bench-$name.json"; fi
  done
}

# --- peer: PyTorch at the same shapes ---

peer_stage() {
  local name layers heads channels seq_len micro_batches configuration compile
  if $rehearse; then
    not_run PyTorch 'not rehearsed: needs a GPU'
    return
  fi
  : >"$work/peers.jsonl"
  for configuration in "${configurations[@]}"; do
    read -r name layers heads channels seq_len micro_batches <<<"$configuration"
    # The batch that Lathe had, if it was measured.
    [[ ! -e $work/bench-$name.json ]] || micro_batches=$(reads field "$work/bench-$name.json" micro_batch)
    # To compile 48 blocks as one takes minutes; they are the same block.
    compile=model
    [[ $layers -le 12 ]] || compile=block
    check "PyTorch $name" 90 python3 scripts/bench_pytorch.py --name "$name" --layers "$layers" --heads "$heads" \
      --channels "$channels" --seq-len "$seq_len" --micro-batches "$micro_batches" --compile "$compile"
    # Settings that finished count, whatever became of the others.
    grep '^{' "$work/stdout" >>"$work/peers.jsonl" || true
    if reads list "$work/peers.jsonl" >"$work/peers.json"; then
      report value peer peers "$work/peers.json"
    fi
  done
}

find_cublaslt
find_nccl
for stage in "${stages[@]}"; do
  report begin "$stage"
  deadline=$((SECONDS + stage_seconds))
  [[ $deadline -le $total_seconds ]] || deadline=$total_seconds
  "${stage}_stage"
done
report end "${stages[@]}"
