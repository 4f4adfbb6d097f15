#!/usr/bin/env bash
# Installs the packages of Debian 12 or 13, or of Ubuntu 24.04 (with "universe"), that strand is built from. This is the one list of them.
#
#   scripts/install_dependencies.sh [build] [test] [browser] [clang]     without a word: build
#
#   build   compiler, build tools and libraries
#   test    what the tests need besides: Catch2, Python's venv for the checks by other people's readers, iproute2
#   browser Chromium (300 MB), in which tests look at the pages of strand report; without it they are skipped
#   clang   another compiler: scripts/test_emulation.sh checks the CUDA kernels' memory accesses with it
#
# Packages that are there are left alone, so this needs root only when one is missing.
set -euo pipefail

build_packages=(
  g++ cmake ninja-build pkg-config # C++20: g++ 12
  ccache                           # makes the second build quick
  libdnnl-dev                      # matrix products (oneDNN)
  libsentencepiece-dev             # tokenizers: SentencePiece
  libpcre2-dev libicu-dev          # and byte-level BPE
  libyaml-cpp-dev                  # configurations
  nlohmann-json3-dev               # log.jsonl, manifests, safetensors headers
  libcli11-dev                     # command lines
  libspdlog-dev libfmt-dev         # messages
  libzstd-dev zlib1g-dev           # compressed text
  libxxhash-dev                    # checksums of checkpoints
  libjs-dygraphs                   # charts of strand report
  libopenmpi-dev openmpi-bin       # several processes
)
test_packages=(
  catch2       # version 2 or 3
  python3-venv # tests/python; brings the certificates that pip needs
  iproute2     # two hosts on one machine, for scripts/launch/hosts.sh
  qemu-user    # older CPUs, emulated
)
clang_packages=(
  clang-19 libomp-19-dev # and its OpenMP
)

browser_packages=(
  chromium
)

fail() {
  echo "install_dependencies.sh: error: $*" >&2
  exit 1
}

wanted=()
[ $# -gt 0 ] || set -- build
for group in "$@"; do
  case "$group" in
    build) wanted+=("${build_packages[@]}") ;;
    test) wanted+=("${test_packages[@]}") ;;
    browser) wanted+=("${browser_packages[@]}") ;;
    clang) wanted+=("${clang_packages[@]}") ;;
    *) echo "install_dependencies.sh: unknown group '$group': use build, test, browser or clang" >&2; exit 2 ;;
  esac
done

command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
  fail "this is not a Debian system; install these packages' equivalents by hand: ${wanted[*]}"

missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [ "$status" = "install ok installed" ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "all ${#wanted[@]} packages are installed"
  exit 0
fi

echo "missing: ${missing[*]}"
[ "$(id -u)" = 0 ] || fail "only root can install packages; run: sudo apt-get install --no-install-recommends ${missing[*]}"

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# run COMMAND...: silent when it succeeds.
run() {
  "$@" >"$log" 2>&1 </dev/null && return
  cat "$log" >&2
  return 1
}
run apt-get update || fail "apt-get update failed; is there a network, and does /etc/apt name a Debian mirror?"
run apt-get install -y --no-install-recommends "${missing[@]}" ||
  fail "apt-get could not install: ${missing[*]} (strand's packages are those of Debian 12 and 13 and of Ubuntu 24.04 with 'universe')"
echo "installed ${#missing[@]} packages"
