#!/usr/bin/env bash
# Times strand and the same training step in PyTorch on this machine, in alternation, and prints them side by side.
#
#   scripts/bench_against_pytorch.sh [--shape tiny|small] [--rounds N] [--steps N] [--threads N] [--precision fp32|bf16]
#                                    [--mode eager|compiled]
#
# Each round runs strand, then PyTorch (eager and compiled, or the one that is named), in each precision: fp32 against
# fp32, bf16 against autocast to bf16. STRAND_ISA limits strand's instructions, and PyTorch's alike (avx2, avx512).
# Needs build/strand (STRAND_BENCH_BINARY names another). PyTorch comes from PyPI into build/bench-venv, about 1 GB, the
# first time; STRAND_BENCH_PYTHON names a Python that has it already. Results stay in build/bench-pytorch/.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
shape=tiny rounds=3 steps=10 threads=2 precisions="fp32 bf16" modes="eager compiled"

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
  exit "$1"
}

while (($#)); do
  case $1 in
    --help | -h) usage 0 ;;
  esac
  (($# >= 2)) || usage 2 >&2
  case $1 in
    --shape) shape=$2 ;;
    --rounds) rounds=$2 ;;
    --steps) steps=$2 ;;
    --threads) threads=$2 ;;
    --precision) precisions=$2 ;;
    --mode) modes=$2 ;;
    *) usage 2 >&2 ;;
  esac
  shift 2
done

strand=${STRAND_BENCH_BINARY:-$root/build/strand}
[[ -x $strand ]] || { echo "$strand is not there: build strand first, or set STRAND_BENCH_BINARY" >&2; exit 1; }

python=${STRAND_BENCH_PYTHON:-$root/build/bench-venv/bin/python3}
if [[ ! -x $python ]]; then
  echo "installing PyTorch into $root/build/bench-venv" >&2
  python3 -m venv "$root/build/bench-venv"
  "$root/build/bench-venv/bin/pip" install --quiet torch numpy
fi

# PyTorch dispatches its own kernels by ATEN_CPU_CAPABILITY, and those of oneDNN and MKL by variables of theirs.
case ${STRAND_ISA:-} in
  avx2) export ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 ;;
  avx512) export ATEN_CPU_CAPABILITY=avx512 ONEDNN_MAX_CPU_ISA=AVX512_CORE MKL_ENABLE_INSTRUCTIONS=AVX512 ;;
esac

results=$root/build/bench-pytorch
mkdir -p "$results"
rm -f "$results"/*.json
for ((round = 1; round <= rounds; ++round)); do
  for precision in $precisions; do
    echo "round $round of $rounds, $precision" >&2
    "$strand" bench "$root/configs/bench_$shape.yaml" --set run.precision="$precision" --set run.threads="$threads" \
      --steps "$steps" --json "$results/strand_${precision}_$round.json" >"$results/strand_${precision}_$round.txt"
    [[ $precision == bf16 ]] && dtype=autocast || dtype=fp32
    for mode in $modes; do
      "$python" "$root/scripts/peer_torch_moe.py" --shape "$shape" --dtype $dtype --mode "$mode" --steps "$steps" \
        --warmup 3 --threads "$threads" >"$results/${mode}_${precision}_$round.json"
    done
  done
done

"$python" - "$results" "$precisions" "$modes" <<'PYTHON'
import glob, json, statistics, sys

def measured(who, precision):
    runs = [json.load(open(path)) for path in sorted(glob.glob(f"{sys.argv[1]}/{who}_{precision}_*.json"))]
    steps = [s for run in runs for s in run["step_seconds"]]
    rate = runs[0]["tokens_per_second"]["best"] * min(runs[0]["step_seconds"])  # tokens in a step
    memory = max(r["memory"]["peak_resident_bytes"] if "memory" in r else r["peak_resident_bytes"] for r in runs)
    return {"best": rate / min(steps), "median": rate / statistics.median(steps), "memory": memory / 2**30, "runs": runs}

precisions, modes = sys.argv[2].split(), sys.argv[3].split()
print(f"{'tokens a second':<18}{'strand best':>12}{'median':>9}{'PyTorch best':>14}{'median':>9}{'ratio best':>12}"
      f"{'median':>9}{'strand GiB':>12}{'PyTorch GiB':>13}")
for precision in precisions:
    for mode in modes:
        ours, theirs = measured("strand", precision), measured(mode, precision)
        print(f"{precision + ', ' + mode:<18}{ours['best']:>12.0f}{ours['median']:>9.0f}{theirs['best']:>14.0f}"
              f"{theirs['median']:>9.0f}{ours['best'] / theirs['best']:>12.2f}{ours['median'] / theirs['median']:>9.2f}"
              f"{ours['memory']:>12.2f}{theirs['memory']:>13.2f}")
one = measured("strand", precisions[0])["runs"][0]
peer = measured(modes[0], precisions[0])["runs"][0]
print(f"{one['machine']['cpu']}, strand {one['threads']} threads, PyTorch {peer['torch']} {peer['threads']} threads, "
      f"{one['tokens_per_step']} tokens a step; strand's time by operation: {sys.argv[1]}/*.txt")
PYTHON
