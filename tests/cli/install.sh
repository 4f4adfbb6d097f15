#!/usr/bin/env bash
# Installs the program as a user does, and tries what was installed.
#
#   install.sh CMAKE BUILD SOURCES VERSION
set -euo pipefail
cmake=$1 build=$2 sources=$3 version=$4
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

"$cmake" --install "$build" --prefix "$prefix" >"$prefix/log" || { cat "$prefix/log"; fail "cmake --install"; }
strand=$prefix/bin/strand
share=$prefix/share

[ "$("$strand" --version | head -n 1)" = "strand $version" ] || fail "the version of the installed program"
"$strand" config "$share/strand/configs/quickstart.yaml" >/dev/null || fail "an installed configuration"
"$strand" verify "$share/strand/reference/sp_only.safetensors" >/dev/null || fail "an installed reference file"
[ "$(find "$share/strand/reference" -name '*.safetensors' | wc -l)" = \
  "$(find "$sources/tests/data" -name '*.safetensors' | wc -l)" ] || fail "the number of reference files"
find "$share" -name README.md | grep -q . || fail "the documentation"

page=$share/man/man1/strand.1
grep -q "strand $version" "$page" || fail "the version in the manual page"
if command -v man >/dev/null; then
  # man says what it does not understand; LL is the width of a line.
  LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>"$prefix/warnings" >/dev/null ||
    fail "man cannot read the page"
  [ ! -s "$prefix/warnings" ] || { cat "$prefix/warnings"; fail "warnings of man"; }
fi

bash -c 'source "$1"; complete -p strand >/dev/null' - "$share/bash-completion/completions/strand" || fail "bash"
if command -v zsh >/dev/null; then zsh -n "$share/zsh/site-functions/_strand" || fail "zsh"; fi
fish=$share/fish/vendor_completions.d/strand.fish
if command -v fish >/dev/null; then
  [ "$(fish --no-config -c "source $fish; complete -C 'strand verify --precision f' | sort | cut -f 1" | tr '\n' ' ')" = \
    "fp32 fp64 " ] || fail "fish"
fi
grep -q "^#compdef strand" "$share/zsh/site-functions/_strand" || fail "zsh's first line"
echo "installed and tried"
