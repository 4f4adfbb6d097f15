#!/usr/bin/env bash
# What a person with an NVIDIA GPU runs first: builds strand with its CUDA backend and holds the backend against the
# reference on the GPU itself. It ends with a report to paste into an issue; build-gpu/report.txt keeps it.
#
#   scripts/test_gpu.sh [--prebuilt FOLDER]
#
#   --prebuilt FOLDER  do not build: run the programs in FOLDER, which were built elsewhere (FOLDER/lib, if it is
#                      there, holds libraries that they need)
set -uo pipefail
cd "$(dirname "$0")/.."

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' scripts/test_gpu.sh
}

folder=build-gpu
build=yes
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

operation_tests="memory linear norm attention router coupling experts exchange exchange_pairs head_optimizer step_numbers
                 properties cache grouped_gemm cuda_limits"

if [ -n "$build" ]; then
  echo "== Build ($folder)"
  cmake -S . -B "$folder" -DSTRAND_CUDA=ON || exit 1
  targets=()
  for test in $operation_tests; do targets+=("test_${test}_gpu"); done
  cmake --build "$folder" --parallel --target "${targets[@]}" || exit 1
fi
[ -d "$folder/lib" ] && export LD_LIBRARY_PATH=$PWD/$folder/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

report=$folder/report.txt
logs=$folder/test_gpu_logs
mkdir -p "$logs"
: >"$report"
failures=0

# say LINE...: on the screen and in the report.
say() { printf '%s\n' "$*" | tee -a "$report"; }

# check NAME COMMAND...: runs it with its output in a log, and says how it went.
check() {
  local name=$1 started=$SECONDS
  shift
  if "$@" >"$logs/$name.log" 2>&1; then
    if grep -q "^SKIPPED" "$logs/$name.log"; then
      say "SKIPPED  $name: $(grep -m1 '^SKIPPED' "$logs/$name.log" | sed 's/^SKIPPED: *//')"
    else
      say "ok       $name ($((SECONDS - started)) s)"
    fi
  else
    say "FAILED   $name (exit status $?, $((SECONDS - started)) s); the end of $logs/$name.log:"
    tail -n 25 "$logs/$name.log" | sed 's/^/         | /' | tee -a "$report"
    failures=$((failures + 1))
  fi
}

say "== Machine"
say "$(date -u '+%Y-%m-%d %H:%M UTC'), $(git describe --always --dirty 2>/dev/null || echo 'no git')"
if command -v nvidia-smi >/dev/null; then
  nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader 2>&1 | tee -a "$report"
else
  say "no nvidia-smi: is a driver installed?"
fi
command -v nvcc >/dev/null && say "$(nvcc --version | grep release)"

say "== Operations, fp32 and bf16, against the reference in double precision"
for test in $operation_tests; do check "$test" "$folder/test_${test}_gpu"; done

say "== $failures failed"
echo "The report is in $report; the output of every check is in $logs."
[ "$failures" -eq 0 ]
