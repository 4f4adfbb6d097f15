#!/usr/bin/env bash
# Several processes on this machine.
#
#   scripts/launch/local.sh RANKS COMMAND...
#
#   scripts/launch/local.sh 4 train configs/quickstart.yaml --set parallel.expert_parallel=2
#
# COMMAND... goes to build/strand (another program: STRAND=path). Each process takes its share of the cores for its
# threads; run.threads says otherwise. More ranks than cores are allowed, and slow. Options for mpirun: MPIRUN_OPTIONS.
#
# To make `train` save and end, signal the processes, not mpirun, which gives them a second: pkill -TERM -x strand
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
ranks=$1
shift
strand=${STRAND:-$(cd "$(dirname "$0")/../.." && pwd)/build/strand}
[ -x "$strand" ] || { echo "local.sh: error: no program $strand; scripts/build.sh build strand makes it" >&2; exit 1; }

# Open MPI does not run as root unless told so twice; in a container there is nobody else.
if [ "$(id -u)" = 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
# By itself mpirun gives each of two processes one core, however many there are.
# shellcheck disable=SC2086 # options are words
exec mpirun --oversubscribe --bind-to none ${MPIRUN_OPTIONS:-} -n "$ranks" "$strand" "$@"
