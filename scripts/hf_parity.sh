#!/usr/bin/env bash
# Compares strand with Hugging Face transformers (scripts/hf_parity.py), in a virtual environment of its own:
#   scripts/hf_parity.sh [ARGUMENTS of hf_parity.py]
# STRAND_BUILD: build folder (default build). The environment lies in it, and is made when it is missing or its
# requirements changed: PyPI's torch is some GB and takes a few minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${STRAND_BUILD:-build}
venv=$build/hf-venv
requirements=scripts/requirements-hf.txt

if ! cmp -s "$requirements" "$venv/installed-requirements.txt"; then
  echo "hf_parity: making $venv (once; downloads some GB)" >&2
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements" || {
    echo "hf_parity: error: pip could not install $requirements; is there a network?" >&2
    exit 1
  }
  cp "$requirements" "$venv/installed-requirements.txt"
fi
if [[ ${1:-} == --install-only ]]; then
  echo "$venv/bin/python"
  exit 0
fi
exec "$venv/bin/python" scripts/hf_parity.py --strand "$build/strand" "$@"
