#!/usr/bin/env bash
# The CUDA kernels without a GPU (docs/gpu.md, section 4), in the two ways of building that see the most: with
# AddressSanitizer and UndefinedBehaviorSanitizer, and with the checker of memory accesses (clang). scripts/test.sh runs
# them plainly.
#
#   scripts/test_emulation.sh [--werror] [sanitize] [check]     without a way: both
#
#   --werror   a warning of the compiler ends the build, as in continuous integration
#
# Builds in build-emulation-WAY. Needs the CUDA Toolkit, which no package of Debian brings; installs the packages that
# are missing (clang-19 for `check`) where it may.
set -euo pipefail
cd "$(dirname "$0")/.."

werror=OFF
ways=()
while [ $# -gt 0 ]; do
  case "$1" in
    --werror) werror=ON ;;
    sanitize | check) ways+=("$1") ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' scripts/test_emulation.sh; exit 0 ;;
    *) echo "test_emulation.sh: unknown way '$1': sanitize or check" >&2; exit 2 ;;
  esac
  shift
done
[ ${#ways[@]} -gt 0 ] || ways=(sanitize check)

# Programs whose cases are small: every kernel at one or two tiles and a ragged edge, every seeded and every planted
# bug, and operation tests of the families where sizes matter most.
all_programs="test_seeded_bugs test_planted_bugs test_cuda_limits_emulated test_memory_emulated test_exchange_emulated
              test_cuda_device"

for way in "${ways[@]}"; do
  echo "== Packages ($way)"
  case "$way" in
    sanitize)
      scripts/install_dependencies.sh build test
      programs=$all_programs
      options=(-DSTRAND_SANITIZE=ON) ;;
    check)
      scripts/install_dependencies.sh build test clang
      programs=${all_programs% *} # the last one writes pinned memory on the host, which the checker does not see
      options=(-DSTRAND_GPU_CHECKER=ON -DCMAKE_CXX_COMPILER=clang++-19) ;;
  esac
  folder=build-emulation-$way
  echo "== Build ($folder)"
  started=$SECONDS
  cmake -S . -B "$folder" -G Ninja --log-level=WARNING -DSTRAND_CUDA=ON -DSTRAND_MPI=OFF -DSTRAND_WERROR=$werror \
    "${options[@]}" >/dev/null
  # shellcheck disable=SC2086
  ninja --quiet -C "$folder" $programs
  echo "built in $((SECONDS - started)) s"
  echo "== Tests ($folder)"
  # shellcheck disable=SC2086
  OMP_NUM_THREADS=1 ctest --test-dir "$folder" --output-on-failure --parallel "$(nproc)" --no-tests=error \
    --tests-regex "\\.($(echo $programs | tr ' ' '|'))\$"
done
