#!/usr/bin/env bash
# Several processes on several hosts, which mpirun reaches by ssh.
#
#   scripts/launch/hosts.sh HOSTFILE COMMAND...
#
#   scripts/launch/hosts.sh hosts.txt train configs/paper_small.yaml --set parallel.expert_parallel=8
#
# HOSTFILE has a line a host: its name and how many processes it runs ("node1 slots=2"). Ranks are numbered host by host,
# so that an expert group of up to `slots` ranks stays on one. The same strand and the same files are at the same path
# on every host (a shared file system), and ssh asks for no password. COMMAND... goes to build/strand (another program:
# STRAND=path). Each process takes its share of its host's cores. Options for mpirun: MPIRUN_OPTIONS, for instance
# "--mca btl_tcp_if_include eth0" where hosts have several networks.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
hostfile=$1
shift
[ -r "$hostfile" ] || { echo "hosts.sh: error: cannot read the hostfile $hostfile" >&2; exit 1; }
strand=${STRAND:-$(cd "$(dirname "$0")/../.." && pwd)/build/strand}
[ -x "$strand" ] || { echo "hosts.sh: error: no program $strand; scripts/build.sh build strand makes it" >&2; exit 1; }

# As in local.sh: root needs to say so, and processes are bound to no cores.
if [ "$(id -u)" = 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
# The settings of OpenMP travel with the processes where they are set.
for name in OMP_WAIT_POLICY GOMP_SPINCOUNT KMP_BLOCKTIME; do
  [ -z "${!name+set}" ] || MPIRUN_OPTIONS="${MPIRUN_OPTIONS:-} -x $name"
done
# shellcheck disable=SC2086 # options are words
exec mpirun --hostfile "$hostfile" --map-by slot --bind-to none ${MPIRUN_OPTIONS:-} "$strand" "$@"
