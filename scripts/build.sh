#!/usr/bin/env bash
# Configures and builds.
#
#   scripts/build.sh FOLDER TARGET [CMAKE OPTION...]
#
# FOLDER is relative to the repository; TARGET is one of Ninja's: strand (the program), all (with every test).
# On a machine with little memory fewer compilers run at once than there are cores: each may take 1 GiB.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -ge 2 ] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
folder=$1
target=$2
shift 2

cores=$(nproc)
memory_gib=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
jobs=$((memory_gib < cores ? memory_gib : cores))
[ "$jobs" -ge 1 ] || jobs=1

quiet=()
[ -t 1 ] || quiet=(--quiet) # a terminal shows progress on one line, a log would get one a file
cmake -S . -B "$folder" -G Ninja --log-level=WARNING "$@" >/dev/null
ninja "${quiet[@]}" -C "$folder" -j "$jobs" "$target"
echo "built in $SECONDS s"
