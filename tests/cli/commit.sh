#!/usr/bin/env bash
# The commit that `strand --version` names: that of the sources, and none where there is none to name.
#
#   commit.sh CMAKE SOURCES STRAND
set -euo pipefail
cmake=$1 sources=$2 strand=$3
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

# expect COMMIT FOLDER: what is written for the sources in FOLDER
expect() {
  "$cmake" -D sources="$2" -D header="$place/commit.h" -P "$sources/cmake/WriteCommit.cmake" 2>"$place/said"
  [ ! -s "$place/said" ] || fail "cmake says: $(cat "$place/said")"
  [ "$(cat "$place/commit.h")" = "#define STRAND_COMMIT \"$1\"" ] || fail "expected '$1': $(cat "$place/commit.h")"
}

# The program says a commit in this form, or none.
form=$'^strand [0-9.]+\ncommit [0-9a-f]{12}(-dirty)?$'
said=$("$strand" --version)
[ "$(wc -l <<<"$said")" = 1 ] || [[ "$said" =~ $form ]] || fail "strand --version: $said"

mkdir -p "$place/clone/unpacked"
expect '' "$place/clone" # no repository (the folder of temporary files is in none)
command -v git >/dev/null || { echo "SKIPPED: no git on this machine"; exit 0; }
git() { command git -c user.name=tester -c user.email=tester@example.org -C "$place/clone" "$@"; }
git init -q
expect '' "$place/clone" # no commit
echo one >"$place/clone/file"
git add file
git commit -q -m one
head=$(git rev-parse HEAD)
expect "${head:0:12}" "$place/clone"
echo two >"$place/clone/untracked"
expect "${head:0:12}" "$place/clone"
touch -d '1 hour ago' "$place/clone/file" # another time, the same content
expect "${head:0:12}" "$place/clone"
echo three >"$place/clone/file"
expect "${head:0:12}-dirty" "$place/clone"
expect '' "$place/clone/unpacked" # inside another project's repository

# An unchanged commit leaves the file alone, so that nothing is compiled.
expect "${head:0:12}-dirty" "$place/clone"
touch -d '1 hour ago' "$place/commit.h"
before=$(stat -c %Y "$place/commit.h")
expect "${head:0:12}-dirty" "$place/clone"
[ "$(stat -c %Y "$place/commit.h")" = "$before" ] || fail "the file was written though nothing had changed"
