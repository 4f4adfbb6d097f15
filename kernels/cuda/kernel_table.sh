#!/usr/bin/env bash
# The registers, shared memory and spilled bytes of every kernel on every architecture, as nvcc's ptxas gave them in a
# build: what a kernel costs a GPU that is not at hand.
#
#   kernels/cuda/kernel_table.sh BUILD            prints the table
#   kernels/cuda/kernel_table.sh BUILD --check    compares it with kernels/cuda/kernel_table.txt: exit status 1 when
#                                                 they differ. Says SKIPPED where another nvcc made the build
#   kernels/cuda/kernel_table.sh BUILD --update   writes that file
set -euo pipefail
build=$1
mode=${2:---print}
file=$(dirname "$0")/kernel_table.txt
nvcc=$(sed -n 's/^STRAND_NVCC:[A-Z]*=//p' "$build/CMakeCache.txt")
version=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p')

rows() {
  local logs
  logs=$(find "$build/kernels/cuda/CMakeFiles/strand_cuda.dir" -name '*.ptxas' | sort)
  [ -n "$logs" ] || { echo "kernel_table.sh: error: no build of strand_cuda in $build" >&2; exit 1; }
  # shellcheck disable=SC2086
  awk '
    /Compiling entry function/ { split($0, q, "\x27"); kernel = q[2]; arch = q[4] }
    /bytes stack frame/ { spilled = $5 + $9 }
    /Used [0-9]+ registers/ {
      shared = 0
      if (match($0, /[0-9]+ bytes smem/)) shared = substr($0, RSTART, RLENGTH) + 0
      match($0, /Used [0-9]+/)
      print kernel, arch, substr($0, RSTART + 5, RLENGTH - 5), shared, spilled
    }' $logs |
    c++filt |
    # Hashes of files in anonymous namespaces, and the parameters, say nothing to a reader.
    sed -E 's/\(anonymous namespace\)::|_GLOBAL__N__[0-9a-z_]*::|strand::gpu::|strand:://g; s/^void //; s/\(.*\) (sm_[0-9]+)/ \1/' |
    awk '{ spilled = $NF; shared = $(NF-1); registers = $(NF-2); arch = $(NF-3); $NF = $(NF-1) = $(NF-2) = $(NF-3) = ""
           sub(/ +$/, ""); printf "%-90s %-7s %9d %12d %12d\n", $0, arch, registers, shared, spilled }' |
    LC_ALL=C sort -u
}

table() {
  echo "# Made by kernels/cuda/kernel_table.sh from a build by nvcc $version. Bytes of static shared memory, and of spilled"
  echo "# registers (stores and loads)."
  printf '%-90s %-7s %9s %12s %12s\n' "# kernel" "" registers "shared" "spilled"
  rows
}

case $mode in
  --print) table ;;
  --update) table >"$file.new" && mv "$file.new" "$file" ;;
  --check)
    grep -q "by nvcc $version\." "$file" || { echo "SKIPPED: the table is of another nvcc than $version"; exit 0; }
    if ! diff <(table) "$file"; then
      echo "Kernels cost something else than $file says (< now, > the file). If that is meant to be:"
      echo "kernels/cuda/kernel_table.sh $build --update"
      exit 1
    fi ;;
esac
