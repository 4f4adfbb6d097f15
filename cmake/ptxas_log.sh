#!/bin/sh
# ptxas_log.sh COMPILER ARGUMENTS...: compiles, and keeps what ptxas says of each kernel (-Xptxas=-v) in OBJECT.ptxas
# instead of showing it. kernels/cuda/kernel_table.sh makes a table of these files.
object=
before=
for argument in "$@"; do
  [ "$before" = -o ] && object=$argument
  before=$argument
done
log=$object.ptxas
"$@" 2>"$log.all"
status=$?
if [ -s "$log.all" ]; then
  grep -E '^ptxas info|bytes stack frame' "$log.all" >"$log"
  grep -vE '^ptxas info|bytes stack frame' "$log.all" >&2
fi
rm -f "$log.all"
exit $status
