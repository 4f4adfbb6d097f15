#!/usr/bin/env bash
# Configures strand as it would be on other machines. Nothing is compiled, except a small program by nvcc where there is one.
#
#   configure.sh CMAKE SOURCES GENERATOR MAKE_PROGRAM CXX_COMPILER
set -euo pipefail
cmake=$1 sources=$2 generator=$3 make=$4 compiler=$5
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

# configure NAME OPTION...: what cmake says is in $place/NAME.said, each message on a line of its own
configure() {
  local name=$1 status=0
  shift
  "$cmake" -S "$sources" -B "$place/$name" -G "$generator" -DCMAKE_MAKE_PROGRAM="$make" -DCMAKE_CXX_COMPILER="$compiler" \
    -DSTRAND_MPI=OFF "$@" >"$place/output" 2>&1 || status=$?
  tr -s '\n ' ' ' <"$place/output" >"$place/$name.said"
  return $status
}
says() { grep -qF -- "$2" "$place/$1.said" || fail "$1: '$2' is not in: $(cat "$place/$1.said")"; }

# nvcc BODY: a compiler of a version to come, which does BODY instead of compiling
# shellcheck disable=SC2016 # these are for the inner shell
nvcc() {
  mkdir -p "$place/bin"
  printf '#!/bin/sh\n[ "$1" != --version ] || { echo "Cuda compilation tools, release 99.9, V99.9.1"; exit 0; }\n%s\n' "$1" \
    >"$place/bin/nvcc"
  chmod +x "$place/bin/nvcc"
}

# nvcc does not accept the C++ compiler of a newer Debian. Who asked for nothing gets strand without CUDA, and a word.
nvcc 'echo "host_config.h:143:2: error: #error -- unsupported GNU version! gcc versions later than 13 are not supported!" >&2; exit 1'
configure refused -DSTRAND_NVCC="$place/bin/nvcc" -DSTRAND_TESTS=OFF || fail "nvcc, which cannot be used, stops cmake: $(cat "$place/output")"
says refused "cannot build a small program here"
says refused "unsupported GNU version! gcc versions later than 13 are not supported!"
says refused "CMAKE_CUDA_HOST_COMPILER"
says refused "no device: cuda"
! grep -q strand_cuda.dir "$place/refused/compile_commands.json" || fail "CUDA is built all the same"
! configure refused -DSTRAND_CUDA=ON || fail "STRAND_CUDA=ON without a usable nvcc"
says refused "STRAND_CUDA=ON, but $place/bin/nvcc cannot build a small program here"

# shellcheck disable=SC2016 # for the inner shell
# It compiles, but the libraries are not there for this kind of machine.
nvcc 'while [ $# -gt 0 ]; do [ "$1" = -o ] && : >"$2"; shift; done'
configure incomplete -DSTRAND_NVCC="$place/bin/nvcc" -DSTRAND_TESTS=OFF || fail "half a toolkit stops cmake: $(cat "$place/output")"
says incomplete "no device: cuda"

nvcc 'exit 1'
sed -i 's/99\.9/11.8/g' "$place/bin/nvcc"
configure old -DSTRAND_NVCC="$place/bin/nvcc" -DSTRAND_TESTS=OFF || fail "an old nvcc stops cmake: $(cat "$place/output")"
says old "is version 11.8, and 12.4 is needed"

# Next to clang CMake finds lld, which does not know an option that the kernels' levels need of GNU ld.
printf '#!/bin/sh\necho "LLD 99.0 (compatible with GNU linkers)"\n' >"$place/bin/ld.lld"
chmod +x "$place/bin/ld.lld"
configure lld -DSTRAND_CUDA=OFF -DSTRAND_TESTS=OFF -DCMAKE_LINKER="$place/bin/ld.lld" || fail "with lld: $(cat "$place/output")"
grep -rhoE --include=build.ninja --include=build.make '[^ ]+ -r --force-group-allocation' "$place/lld" >"$place/linkers" || true
[ -s "$place/linkers" ] || fail "the levels of the kernels are not linked"
! grep -F "$place/bin" "$place/linkers" || fail "a linker that is not GNU ld"

# Warnings are errors where that is asked for, and in no file otherwise: newer compilers warn of more.
configure default -DSTRAND_TESTS=ON || fail "the default: $(cat "$place/output")"
! grep -rn --include=compile_commands.json --include=build.ninja --include=flags.make -e -Werror "$place/default" ||
  fail "warnings are errors by default"
configure strict -DSTRAND_TESTS=ON -DSTRAND_WERROR=ON || fail "STRAND_WERROR=ON: $(cat "$place/output")"
grep -o '"command": .*' "$place/strict/compile_commands.json" | grep -v -- -Werror >"$place/lax" || true
[ ! -s "$place/lax" ] || fail "warnings are no errors in $(wc -l <"$place/lax") files, $(head -n 1 "$place/lax")"
echo "configure.sh: all as expected"
