#!/usr/bin/env bash
# What a person with an NVIDIA GPU runs first: builds strand with its CUDA backend and holds it against the reference
# and against the CPU on the GPU itself: every operation, the reference files, a short training run, several GPUs if
# there are, compute-sanitizer if it is found; and measures speed. It ends with a report to paste into an issue;
# build-gpu/report.txt keeps it. Some ten minutes after the build.
#
#   scripts/test_gpu.sh [--prebuilt FOLDER]
#
#   --prebuilt FOLDER  do not build: run the programs in FOLDER, which were built elsewhere (FOLDER/lib, if it is
#                      there, holds libraries that they need)
#
# STRAND_TEST_GPU_EMULATED=PROGRAM is for a test of this script: it runs PROGRAM, which has emulated GPUs
# (STRAND_TEST_GPU_COUNT of them, 2), on the smallest inputs, and leaves out what needs a card.
set -uo pipefail
cd "$(dirname "$0")/.."

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' scripts/test_gpu.sh
}
fail() {
  echo "test_gpu.sh: error: $*" >&2
  exit 1
}

folder=build-gpu
build=yes
emulated=${STRAND_TEST_GPU_EMULATED:-}
while [ $# -gt 0 ]; do
  case "$1" in
    --prebuilt)
      [ $# -ge 2 ] || { echo "test_gpu.sh: --prebuilt needs a folder" >&2; exit 2; }
      folder=$2 build=; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "test_gpu.sh: unknown option '$1'" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

folder=$(realpath -m "$folder")

operation_tests="memory linear norm attention latent router coupling experts exchange exchange_pairs head_optimizer step_numbers
                 properties cache grouped_gemm cuda_limits"

# ---- What is there --------------------------------------------------------------------------------------------------
if [ -n "$emulated" ]; then
  [ -x "$emulated" ] || fail "no program $emulated (STRAND_TEST_GPU_EMULATED)"
  program=$(realpath "$emulated") build=
  gpus=${STRAND_TEST_GPU_COUNT:-2}
else
  command -v nvidia-smi >/dev/null ||
    fail "no nvidia-smi here, so no NVIDIA driver: install one. Without a GPU, scripts/test_emulation.sh runs the kernels"
  listed=$(nvidia-smi -L 2>&1) || true
  gpus=$(grep -c '^GPU [0-9]' <<<"$listed") ||
    fail "no NVIDIA GPU can be used; nvidia-smi says: $(head -n 1 <<<"$listed"). Without one, scripts/test_emulation.sh runs the kernels"
  program=$folder/strand
fi

if [ -n "$build" ]; then
  echo "== Build ($folder)"
  cmake -S . -B "$folder" -DSTRAND_CUDA=ON || exit 1
  targets=(strand cuda_bench)
  for test in $operation_tests; do targets+=("test_${test}_gpu"); done
  cmake --build "$folder" --parallel --target "${targets[@]}" || exit 1
fi
[ -d "$folder/lib" ] && export LD_LIBRARY_PATH=$folder/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

report=$folder/report.txt
logs=$folder/test_gpu_logs
rm -rf "$logs"
mkdir -p "$logs"
: >"$report"
passed=0 skipped=0 failures=0

# ---- Checks and their report ----------------------------------------------------------------------------------------
# say LINE...: on the screen and in the report.
say() { printf '%s\n' "$*" | tee -a "$report"; }

# skip NAME REASON
skip() { say "SKIPPED  $1: $2"; skipped=$((skipped + 1)); }

# check NAME COMMAND...: runs it with its output in a log, and says how it went.
check() {
  local name=$1 started=$SECONDS status
  shift
  "$@" >"$logs/$name.log" 2>&1
  status=$?
  if [ $status -ne 0 ]; then
    say "FAILED   $name (exit status $status, $((SECONDS - started)) s); the end of $logs/$name.log:"
    tail -n 25 "$logs/$name.log" | sed 's/^/         | /' | tee -a "$report"
    failures=$((failures + 1))
  elif grep -q "^SKIPPED" "$logs/$name.log"; then
    skip "$name" "$(sed -n 's/^SKIPPED: *//p' "$logs/$name.log" | head -n 1)"
  else
    say "ok       $name ($((SECONDS - started)) s)"
    passed=$((passed + 1))
  fi
}

# figures NAME: what a check has printed, into the report.
figures() { sed 's/^/         | /' "$logs/$1.log" | tee -a "$report"; }

# on_ranks N COMMAND...: of $program, one process a GPU.
on_ranks() {
  local ranks=$1
  shift
  STRAND=$program scripts/launch/local.sh "$ranks" "$@"
}

# ---- Machine --------------------------------------------------------------------------------------------------------
say "== Machine"
say "$(date -u '+%Y-%m-%d %H:%M UTC'), commit $(git describe --always --dirty 2>/dev/null || echo unknown)"
if [ -n "$emulated" ]; then
  say "emulated GPUs: nothing below says anything about a real one"
else
  nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader 2>&1 | tee -a "$report"
fi
nvcc=$(sed -n 's/^STRAND_NVCC:[A-Z]*=//p' "$folder/CMakeCache.txt" 2>/dev/null)
[ -n "$nvcc" ] || nvcc=$(command -v nvcc)
say "toolkit: $([ -n "$nvcc" ] && "$nvcc" --version | sed -n 's/.*\(release .*\)/\1/p' || echo unknown)"

# ---- Operations -----------------------------------------------------------------------------------------------------
say "== Operations, fp32 and bf16, against the reference in double precision"
if [ -n "$emulated" ]; then
  skip operations "they need a card"
else
  for test in $operation_tests; do check "$test" "$folder/test_${test}_gpu"; done
fi

# ---- Reference files ------------------------------------------------------------------------------------------------
say "== Reference files: every loss term, gradient and training step"
references=(tests/data/*.safetensors)
[ -z "$emulated" ] || references=(tests/data/{ce_only,sp_only}.safetensors)
for precision in fp32 bf16; do
  check "verify_$precision" "$program" verify --device cuda --precision $precision "${references[@]}"
done

# ---- Training -------------------------------------------------------------------------------------------------------
say "== Training in fp32: the CPU's losses, and the same bits again"
work=$logs/training
steps=8
[ -z "$emulated" ] || steps=3

# Text for eight steps: this repository's own pages.
prepare_training() {
  mkdir -p "$work/text" &&
    for page in README.md docs/*.md; do cp "$page" "$work/text/$(basename "$page" .md).txt" || return 1; done &&
    "$program" train-tokenizer "$work/text" --vocab-size 512 --out "$work/tokenizer.model" &&
    "$program" tokenize "$work/text" --tokenizer "$work/tokenizer.model" --out "$work/train" &&
    cat >"$work/small.yaml" <<EOF
model: {hidden_size: 64, num_layers: 2, num_heads: 4, num_kv_heads: 2, head_dim: 16}
moe: {num_experts: 8, top_k: 2, expert_ffn: 48}
losses: {lb_weight: 1.0e-2, z_weight: 1.0e-3, sp_weight: 2.0e-3, cp_weight: 1.0e-3}
data: {train: $work/train, tokenizer: $work/tokenizer.model, sequence_length: 32}
optimizer: {lr: 3.0e-3}
schedule: {kind: constant, warmup_steps: 1}
train: {steps: $steps, global_batch_size: $((2 * gpus)), micro_batch_size: 2, log_every: 1}
EOF
}

# training NAME OPTION...: the arguments of a run of that name.
training() {
  local name=$1
  shift
  echo train "$work/small.yaml" --set "run.name=$name" --set "run.dir=$work/runs" "$@"
}

# same_curve ONE OTHER: the losses of two runs differ by rounding in fp32 alone. (A nearly tied choice of experts may
# tip in later steps, so runs are short.)
same_curve() {
  local part
  for part in "$1" "$2"; do
    sed -n 's/^{"step":\([0-9]*\),"loss":\([-0-9.e+]*\).*/\1 \2/p' "$work/runs/$part/log.jsonl" >"$work/$part.losses"
  done
  join "$work/$1.losses" "$work/$2.losses" | awk -v steps=$steps '
    { difference = $2 - $3; if (difference < 0) difference = -difference
      relative = difference / $2; if (relative > worst) worst = relative; print "step", $1, "loss", $2, $3 }
    END { print NR, "steps, largest relative difference", worst; exit !(NR == steps && worst <= 1e-5) }'
}
same_weights() {
  cmp "$work/runs/$1/checkpoints/step_$(printf %08d $steps)/model.safetensors" \
    "$work/runs/$2/checkpoints/step_$(printf %08d $steps)/model.safetensors"
}

check training_data prepare_training
# shellcheck disable=SC2046 # words
{
  check train_cpu "$program" $(training cpu)
  check train_cuda "$program" $(training cuda --set run.device=cuda)
  check train_cuda_again "$program" $(training again --set run.device=cuda)
}
check losses_as_on_the_cpu same_curve cpu cuda
check the_same_bits_again same_weights cuda again
tail -n 1 "$logs/losses_as_on_the_cpu.log" | sed 's/^/         | /' | tee -a "$report"

# ---- Several GPUs ---------------------------------------------------------------------------------------------------
say "== Several GPUs: NCCL"
if [ "$gpus" -lt 2 ]; then
  skip nccl "one GPU"
elif ! command -v mpirun >/dev/null; then
  skip nccl "$gpus GPUs, but no mpirun"
elif on_ranks 2 verify --device cuda tests/data/ranks_softmax_bias.safetensors 2>&1 | tee "$logs/nccl.log" |
  grep -q "built without"; then
  skip nccl "$(grep -m 1 -o "built without [^,]*" "$logs/nccl.log")"
else
  for ranks in 2 4; do
    [ "$ranks" -le "$gpus" ] || continue
    for group in 1 2 4; do
      [ "$group" -le "$ranks" ] || continue
      check "verify_on_${ranks}_gpus_in_groups_of_$group" on_ranks "$ranks" verify --device cuda \
        --expert-parallel "$group" tests/data/ranks_*.safetensors
    done
  done
  group=1
  while [ $((gpus % (2 * group))) = 0 ] && [ "$group" -lt 8 ]; do group=$((2 * group)); done
  # shellcheck disable=SC2046 # words
  {
    layout="--set parallel.expert_parallel=$group --set run.threads=1"
    check "train_on_${gpus}_cpu_processes" on_ranks "$gpus" $(training all_cpu $layout)
    check "train_on_${gpus}_gpus" on_ranks "$gpus" $(training all_cuda $layout --set run.device=cuda)
    check "train_on_${gpus}_gpus_in_rank_order" on_ranks "$gpus" \
      $(training all_ordered $layout --set run.device=cuda --set parallel.deterministic=true)
  }
  check "losses_on_${gpus}_gpus" same_curve all_cpu all_cuda
  check "losses_on_${gpus}_gpus_in_rank_order" same_curve all_cpu all_ordered
fi

# ---- compute-sanitizer ----------------------------------------------------------------------------------------------
say "== compute-sanitizer"
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
if [ -n "$emulated" ]; then
  skip compute-sanitizer "it needs a card"
elif [ -z "$sanitizer" ]; then
  skip compute-sanitizer "not found"
else
  for tool in memcheck racecheck synccheck; do
    check "sanitizer_$tool" "$sanitizer" --tool $tool --error-exitcode 9 "$program" verify --device cuda \
      --precision bf16 tests/data/sigmoid_bias_shared.safetensors
  done
fi

# ---- Speed ----------------------------------------------------------------------------------------------------------
say "== Speed"
if [ -n "$emulated" ]; then
  check bench "$program" bench "$work/small.yaml" --set run.device=cuda --steps 1 --warmup 1 --profiled 1
  figures bench
else
  for config in bench_tiny bench_small; do
    check "$config" "$program" bench "configs/$config.yaml" --set run.device=cuda --set run.precision=bf16 \
      --set train.global_batch_size=16 --set train.micro_batch_size=16 --json "$logs/$config.json"
    figures "$config"
  done
  if [ -x "$folder/cuda_bench" ]; then
    check cuda_bench "$folder/cuda_bench"
    figures cuda_bench
  fi
fi

say "== $passed passed, $failures failed, $skipped skipped"
echo "Please paste $report; the output of every check is in $logs."
[ "$failures" -eq 0 ]
