#!/usr/bin/env bash
# Times strand and the same training step in PyTorch on this machine, in alternation, and prints them side by side.
#
#   scripts/bench_against_pytorch.sh [--shape tiny|small] [--rounds N] [--steps N] [--threads N] [--precision fp32|bf16]
#
# Each round runs strand, then PyTorch (eager), in each precision: fp32 against fp32, bf16 against autocast to bf16.
# Needs build/strand (STRAND_BENCH_BINARY names another). PyTorch comes from PyPI into build/bench-venv, about 1 GB, the
# first time; STRAND_BENCH_PYTHON names a Python that has it already. Results stay in build/bench-pytorch/.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
shape=tiny rounds=3 steps=10 threads=2 precisions="fp32 bf16"

usage() {
  sed -n '2,10s/^# \{0,1\}//p' "$0"
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

results=$root/build/bench-pytorch
mkdir -p "$results"
rm -f "$results"/*.json
for ((round = 1; round <= rounds; ++round)); do
  for precision in $precisions; do
    echo "round $round of $rounds, $precision" >&2
    "$strand" bench "$root/configs/bench_$shape.yaml" --set run.precision="$precision" --set run.threads="$threads" \
      --steps "$steps" --json "$results/strand_${precision}_$round.json" >"$results/strand_${precision}_$round.txt"
    [[ $precision == bf16 ]] && dtype=autocast || dtype=fp32
    "$python" "$root/scripts/peer_torch_moe.py" --shape "$shape" --dtype $dtype --steps "$steps" --threads "$threads" \
      >"$results/pytorch_${precision}_$round.json"
  done
done

"$python" - "$results" $precisions <<'PYTHON'
import glob, json, statistics, sys

def measured(who, precision):
    runs = [json.load(open(path)) for path in sorted(glob.glob(f"{sys.argv[1]}/{who}_{precision}_*.json"))]
    steps = [s for run in runs for s in run["step_seconds"]]
    rate = runs[0]["tokens_per_second"]["best"] * min(runs[0]["step_seconds"])  # tokens in a step
    memory = max(r["memory"]["peak_resident_bytes"] if "memory" in r else r["peak_resident_bytes"] for r in runs)
    return {"best": rate / min(steps), "median": rate / statistics.median(steps), "memory": memory / 2**30, "runs": runs}

print(f"{'tokens a second':<18}{'strand best':>12}{'median':>9}{'PyTorch best':>14}{'median':>9}{'ratio best':>12}"
      f"{'median':>9}{'strand GiB':>12}{'PyTorch GiB':>13}")
for precision in sys.argv[2:]:
    ours, theirs = measured("strand", precision), measured("pytorch", precision)
    print(f"{precision:<18}{ours['best']:>12.0f}{ours['median']:>9.0f}{theirs['best']:>14.0f}{theirs['median']:>9.0f}"
          f"{ours['best'] / theirs['best']:>12.2f}{ours['median'] / theirs['median']:>9.2f}{ours['memory']:>12.2f}"
          f"{theirs['memory']:>13.2f}")
one = measured("strand", sys.argv[2])["runs"][0]
peer = measured("pytorch", sys.argv[2])["runs"][0]
print(f"{one['machine']['cpu']}, strand {one['threads']} threads, PyTorch {peer['torch']} {peer['threads']} threads, "
      f"{one['tokens_per_step']} tokens a step; strand's time by operation: {sys.argv[1]}/*.txt")
PYTHON
