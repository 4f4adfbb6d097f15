#!/usr/bin/env bash
# The CUDA kernels without a GPU (docs/gpu.md, section 4), in the two ways of building that see the most: with
# AddressSanitizer and UndefinedBehaviorSanitizer, and with the checker of memory accesses (clang). scripts/test.sh runs
# them plainly.
#
#   scripts/test_emulation.sh [sanitize] [check]     without a word: both
#
# Needs the CUDA Toolkit's headers and nvcc, and for `check` the package clang-19.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- sanitize check

# Operation tests at sizes that fit in some minutes; every kernel family is in one of them.
tests="seeded_bugs norm_emulated memory_emulated head_optimizer_emulated exchange_emulated cache_emulated"

for way in "$@"; do
  case "$way" in
    sanitize) options=(-DSTRAND_SANITIZE=ON) ;;
    check) options=(-DSTRAND_GPU_CHECKER=ON -DCMAKE_CXX_COMPILER=clang++-19) ;;
    *) echo "test_emulation.sh: unknown way '$way': sanitize or check" >&2; exit 2 ;;
  esac
  folder=build-emulation-$way
  echo "== Build ($folder)"
  cmake -S . -B "$folder" -G Ninja -DSTRAND_CUDA=ON -DSTRAND_MPI=OFF "${options[@]}"
  targets=()
  for test in $tests; do targets+=("test_$test"); done
  cmake --build "$folder" --target "${targets[@]}"
  echo "== Tests ($way)"
  for test in $tests; do
    echo "-- $test"
    OMP_NUM_THREADS=1 ASAN_OPTIONS=allocator_may_return_null=1 "$folder/test_$test"
  done
done
