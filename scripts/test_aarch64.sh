#!/usr/bin/env bash
# Compiles strand for Arm (aarch64) on an x86-64 Debian, and runs the operation tests and the whole program in an
# emulator. As root: debootstrap makes the folder of arm64 libraries, which are Debian's.
#
#   scripts/test_aarch64.sh [CTEST OPTION...]      for instance: -R linear
#
# Build and libraries are in build-aarch64/. MPI and CUDA are left out. Emulated code is some thirty times slower than
# real: the whole takes about half an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=bookworm
root=$PWD/build-aarch64/root
libraries=libdnnl-dev,libsentencepiece-dev,libyaml-cpp-dev,nlohmann-json3-dev,libcli11-dev,libspdlog-dev,libfmt-dev
libraries+=,libpcre2-dev,libicu-dev,libzstd-dev,zlib1g-dev,libxxhash-dev,catch2,libgomp1,libstdc++-12-dev,libc6-dev

fail() {
  echo "test_aarch64.sh: error: $*" >&2
  exit 1
}

echo "== Compiler and emulator"
missing=()
for package in g++-aarch64-linux-gnu debootstrap qemu-user ninja-build cmake pkg-config; do
  [ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)" = "install ok installed" ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || fail "only root can install packages; run: sudo apt-get install ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

echo "== Libraries for arm64"
if [ ! -e "$root/complete" ]; then
  [ "$(id -u)" = 0 ] || fail "debootstrap needs root"
  rm -rf "$root"
  mkdir -p "$root"
  # Fetched with what they depend on, and unpacked. Nothing of them runs before the tests do.
  debootstrap --foreign --arch=arm64 --variant=minbase --include="$libraries" "$suite" "$root" >build-aarch64/debootstrap.log ||
    { tail -5 build-aarch64/debootstrap.log >&2; fail "debootstrap failed; see build-aarch64/debootstrap.log"; }
  for package in "$root"/var/cache/apt/archives/*.deb; do dpkg -x "$package" "$root"; done
  if [ ! -L "$root/lib" ]; then # packages that still write to /lib
    cp -a "$root/lib/." "$root/usr/lib/"
    rm -rf "${root:?}/lib"
    ln -s usr/lib "$root/lib"
  fi
  touch "$root/complete"
fi

echo "== Build"
cat >build-aarch64/toolchain.cmake <<CMAKE
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_SYSROOT $root)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64;-L;$root)
CMAKE
export PKG_CONFIG_LIBDIR=$root/usr/lib/aarch64-linux-gnu/pkgconfig:$root/usr/share/pkgconfig
export PKG_CONFIG_SYSROOT_DIR=$root
cmake -G Ninja -S . -B build-aarch64/build -DCMAKE_TOOLCHAIN_FILE="$PWD/build-aarch64/toolchain.cmake" \
  -DSTRAND_MPI=OFF -DSTRAND_CUDA=OFF -DSTRAND_TESTS=ON >build-aarch64/cmake.log
ninja -C build-aarch64/build strand tests/kernels/all

echo "== Operation tests, emulated"
ctest --test-dir build-aarch64/build -L kernels --output-on-failure --parallel "$(nproc)" "$@"

echo "== The whole program, emulated"
tests/e2e/whole_program.sh "$PWD/build-aarch64/build/strand" "$PWD/tests/data" any qemu-aarch64 -L "$root"
echo "operation tests and program pass on aarch64"
