#!/usr/bin/env bash
# Installs what is missing, builds everything, runs every test. On a bare Debian 12 or 13 or Ubuntu 24.04 as root; as
# anybody where the packages are installed.
#
#   scripts/test.sh [--require-python] [--hf] [--sanitize] [--werror] [--compiler CXX] [-- CTEST OPTION...]
#
#   --require-python  end with an error when PyPI cannot be reached; otherwise CTest then lists the checks by Python's
#                    readers of safetensors and TensorBoard as skipped
#   --hf             compare exports with Hugging Face transformers, and the program with the oracle in PyTorch
#                    (downloads PyPI's torch: some GB, minutes)
#   --sanitize       with AddressSanitizer and UndefinedBehaviorSanitizer
#   --werror         a warning of the compiler ends the build, as in continuous integration
#   --compiler CXX   another compiler than g++, for instance clang++-19 (packages clang-19 and libomp-19-dev)
#   --               what follows goes to ctest, for instance: -R checkpoint, -L kernels
#
# Each way of building has a folder of its own: build, build-sanitize, build-clang++-19, ... The output ends with CTest's
# summary.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' scripts/test.sh
}

folder=build
options=(-DSTRAND_TESTS=ON)
hf=
werror=OFF
require_python=
while [ $# -gt 0 ]; do
  case "$1" in
    --require-python) require_python=yes ;;
    --hf) hf=yes ;;
    --sanitize) folder+=-sanitize; options+=(-DSTRAND_SANITIZE=ON) ;;
    --werror) werror=ON ;;
    --compiler)
      [ $# -ge 2 ] || { echo "test.sh: --compiler needs a name" >&2; exit 2; }
      command -v "$2" >/dev/null || { echo "test.sh: error: no compiler $2 on this machine" >&2; exit 1; }
      folder+=-$(basename "$2"); options+=("-DCMAKE_CXX_COMPILER=$2"); shift ;;
    --) shift; break ;;
    -h | --help) usage; exit 0 ;;
    *) echo "test.sh: unknown option '$1'" >&2; usage >&2; exit 2 ;;
  esac
  shift
done

echo "== Packages"
scripts/install_dependencies.sh build test

# The tests in tests/python let the reference implementations of safetensors and TensorBoard read strand's files.
echo "== Python, for the checks by other readers"
python=$PWD/build/python/bin/python
requirements=tests/python/requirements.txt
if ! cmp -s "$requirements" build/python/installed.txt; then
  rm -rf build/python
  mkdir -p build
  /usr/bin/python3 -m venv build/python
  if "$python" -m pip install --quiet --disable-pip-version-check --retries 1 -r "$requirements"; then
    cp "$requirements" build/python/installed.txt
  elif [ -n "$require_python" ]; then
    echo "test.sh: error: pip could not install $requirements; is there a network?" >&2
    exit 1
  else
    echo "test.sh: warning: pip could not install $requirements, so the tests in tests/python will be SKIPPED" >&2
    python=
  fi
fi
echo "${python:-none}"

if [ -n "$hf" ]; then
  options+=("-DSTRAND_TEST_HF_PYTHON=$PWD/build/hf-venv/bin/python")
  scripts/hf_parity.sh --install-only >build/hf-install.log 2>&1 & # while the compiler works
  hf_install=$!
fi

echo "== Build ($folder)"
scripts/build.sh "$folder" all "${options[@]}" -DSTRAND_WERROR=$werror -DSTRAND_TEST_PYTHON="$python"

if [ -n "$hf" ]; then
  wait "$hf_install" || { cat build/hf-install.log >&2; exit 1; }
fi

echo "== Tests"
exec ctest --test-dir "$folder" --output-on-failure --parallel "$(nproc)" "$@"
