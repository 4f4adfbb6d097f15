#!/usr/bin/env bash
# Trains, saves, resumes and verifies with a toy model, through the program alone.
#
#   whole_program.sh STRAND DATA EXPECTED [LAUNCHER...]
#
#   DATA       the folder of reference files
#   EXPECTED   the level that must be announced ("avx2"); "any": whichever
#   LAUNCHER   what runs STRAND: an emulator and its options
set -euo pipefail
strand=$1 data=$2 expected=$3
shift 3

skip() {
  echo "SKIPPED: $*"
  exit 0
}
if [ $# -gt 0 ]; then command -v "$1" >/dev/null || skip "no $1 on this machine (package qemu-user)"; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Otherwise strand sets how its threads wait and starts itself again, without the emulator.
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1

run() {
  if "$@" >"$work/output" 2>&1; then return; fi
  cat "$work/output"
  if grep -q "this CPU does not have" "$work/output"; then skip "this CPU does not have this level"; fi
  echo "FAILED: $*"
  exit 1
}
announced() {
  [ "$expected" = any ] || grep -q "instructions of the kernels: $expected, " "$work/output" || {
    cat "$work/output"
    echo "FAILED: level $expected was not announced"
    exit 1
  }
}

# 4000 ids below 320 in the format of llm.c: 256 numbers of 32 bits (magic, version, count), then ids of 16.
bytes=$(awk 'BEGIN {
  magic = "\\x88\\xd8\\x34\\x01\\x01\\x00\\x00\\x00\\xa0\\x0f\\x00\\x00"
  printf "%s", magic
  for (i = 12; i < 1024; ++i) printf "\\x00"
  x = 1
  for (i = 0; i < 4000; ++i) { x = (x * 1103 + 12345) % 65521; id = x % 320; printf "\\x%02x\\x%02x", id % 256, int(id / 256) }
}')
printf "$bytes" >"$work/tokens.bin"
cat >"$work/toy.yaml" <<YAML
run: {name: toy, dir: $work, seed: 3, threads: 1}
model: {vocab_size: 320, hidden_size: 32, num_layers: 2, num_heads: 2, init_std: 0.1}
moe: {num_experts: 4, top_k: 2, expert_ffn: 16}
losses: {lb_weight: 1.0e-2, z_weight: 1.0e-3, sp_weight: 1.0e-3, cp_weight: 1.0e-3}
data: {train: $work/tokens.bin, sequence_length: 16}
optimizer: {lr: 1.0e-3, min_lr: 1.0e-4}
schedule: {kind: cosine, warmup_steps: 2}
train: {steps: 6, global_batch_size: 4, micro_batch_size: 2, log_every: 1, checkpoint_every: 3, keep: 5}
YAML

# The reference files that together use every operation; all of them where no emulator slows them down.
files=("$data"/*.safetensors)
[ $# -eq 0 ] || files=("$data"/{paper_weights,sigmoid_bias_shared,qknorm_full_partial_rope_dense}.safetensors)

weights() { # of the sixth step of a run
  local sixth
  sixth=$(find "$work/$1/checkpoints" -mindepth 1 -maxdepth 1 -name '*6')
  find "$sixth" -name 'model*.safetensors' | sort | xargs cat | sha256sum
}
for precision in fp32 bf16; do
  run "$@" "$strand" train "$work/toy.yaml" --set "run.precision=$precision" --set "run.name=$precision"
  announced
  third=$(find "$work/$precision/checkpoints" -mindepth 1 -maxdepth 1 -name '*3')
  [ -n "$third" ] || { echo "FAILED: no checkpoint of step 3"; ls "$work/$precision/checkpoints"; exit 1; }
  run "$@" "$strand" train "$work/toy.yaml" --set "run.precision=$precision" --set "run.name=$precision-resumed" \
    --resume "$third"
  [ "$(weights "$precision")" = "$(weights "$precision-resumed")" ] || {
    echo "FAILED: the resumed run in $precision has other weights"
    exit 1
  }
  run "$@" "$strand" verify --threads 1 --precision "$precision" "${files[@]}"
  announced
  tail -1 "$work/output"
  # Every other command that computes, as each asks the CPU in an order of its own.
  run "$@" "$strand" bench "$work/toy.yaml" --steps 1 --warmup 0 --set "run.precision=$precision"
  announced
  run "$@" "$strand" eval "$work/$precision" --data "$work/tokens.bin" --precision "$precision" --threads 1
done
