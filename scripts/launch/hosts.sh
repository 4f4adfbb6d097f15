#!/usr/bin/env bash
# Several processes on several hosts, which mpirun reaches by ssh.
#
#   scripts/launch/hosts.sh HOSTFILE COMMAND...
#
#   scripts/launch/hosts.sh hosts.txt train configs/paper_small.yaml --set parallel.expert_parallel=8
#
# HOSTFILE has a line a host: its name and how many processes it runs ("node1 slots=2"). Ranks are numbered host by host,
# so that an expert group of up to `slots` ranks stays on one. Start this on a host of HOSTFILE. The same strand and the
# same files are at the same path on every host, and the run directory is on a file system that all share; ssh asks for
# no password. COMMAND... goes to build/strand (another program: STRAND=path). Each process takes its share of its host's
# cores. Options for mpirun: MPIRUN_OPTIONS, for instance "--mca btl_tcp_if_include eth0" where hosts have several
# networks. Another program than ssh: AGENT=path, which is called as ssh is.
#
# When a host or the network between hosts is lost, strand's processes end after parallel.watchdog_seconds at the latest.
# mpirun may wait much longer for hosts that it cannot reach; when the processes of this host have ended it gets
# END_SECONDS (20) to end too, and is then ended by this script. On a lost host mpirun's daemon may stay for a while; it
# computes nothing.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
hostfile=$1
shift
[ -r "$hostfile" ] || { echo "hosts.sh: error: cannot read the hostfile $hostfile" >&2; exit 1; }
strand=${STRAND:-$(cd "$(dirname "$0")/../.." && pwd)/build/strand}
[ -x "$strand" ] || { echo "hosts.sh: error: no program $strand; scripts/build.sh build strand makes it" >&2; exit 1; }
patience=${END_SECONDS:-20}
[[ $patience =~ ^[0-9]+$ ]] || { echo "hosts.sh: error: END_SECONDS is $patience, not a number of seconds" >&2; exit 2; }

# As in local.sh: root needs to say so, and processes are bound to no cores.
if [ "$(id -u)" = 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1 # Open MPI 5
fi
# mpirun's connections to its daemons: silent for 10 s, asked 3 times in 15 s, given up. Open MPI 4's name, then 5's.
for prefix in OMPI_MCA_ PRTE_MCA_; do
  declare -x "${prefix}oob_tcp_keepalive_time=10" "${prefix}oob_tcp_keepalive_intvl=5" \
    "${prefix}oob_tcp_keepalive_probes=3"
done
if [ -n "${AGENT:-}" ]; then
  export OMPI_MCA_plm_rsh_agent=$AGENT PRTE_MCA_plm_ssh_agent=$AGENT
fi
# The settings of OpenMP travel with the processes where they are set.
for name in OMP_WAIT_POLICY GOMP_SPINCOUNT KMP_BLOCKTIME; do
  [ -z "${!name+set}" ] || MPIRUN_OPTIONS="${MPIRUN_OPTIONS:-} -x $name"
done

# Open MPI 5's mpirun says that it lost a host and returns 0, so its errors pass through here on their way.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkfifo "$scratch/errors"
tee >(grep -a 'lost communication with a remote daemon' >"$scratch/lost") <"$scratch/errors" >&2 &
errors=$!
# shellcheck disable=SC2086 # options are words
mpirun --hostfile "$hostfile" --map-by slot --bind-to none ${MPIRUN_OPTIONS:-} "$strand" "$@" 2>"$scratch/errors" &
mpirun=$!
for signal in TERM INT HUP; do
  # shellcheck disable=SC2064 # the number is that of now
  trap "kill -$signal $mpirun 2>/dev/null || true" $signal
done

# mpirun's children on this host, each with the time of its start, as numbers are used again.
children() {
  local child
  for child in $(cat "/proc/$mpirun/task/$mpirun/children" 2>/dev/null); do
    echo "$child:$(start_of "$child")"
  done
}
start_of() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }
# Whether one of them is a process of strand: unlike mpirun's agents it has a number among all.
is_rank() { tr '\0' '\n' 2>/dev/null <"/proc/${1%:*}/environ" | grep -qE '^(OMPI_COMM_WORLD_RANK|PMIX_RANK)='; }

ranks_seen=
without_ranks=0
killed=
agents=()
while kill -0 "$mpirun" 2>/dev/null; do
  ranks=0
  now=()
  for child in $(children); do
    if is_rank "$child"; then ranks=$((ranks + 1)); else now+=("$child"); fi
  done
  [ ${#now[@]} -eq 0 ] || agents=("${now[@]}")
  if [ $ranks -gt 0 ]; then
    ranks_seen=yes
    without_ranks=0
  elif [ -n "$ranks_seen" ]; then
    without_ranks=$((without_ranks + 1))
    if [ $without_ranks -eq "$patience" ]; then
      echo "hosts.sh: error: strand's processes on $(hostname) ended $patience s ago and mpirun did not: ending it" >&2
      kill -KILL "$mpirun" || true # it takes SIGTERM for a wish to wait on
      killed=yes
    fi
  fi
  sleep 1 &
  { wait -n "$mpirun" $! || true; } 2>/dev/null # whichever ends first, or a signal
done
{ wait "$mpirun" && status=0 || status=$?; } 2>/dev/null
if [ -n "$killed" ]; then
  status=1
  rm -rf "${TMPDIR:-/tmp}/ompi.$(hostname).$(id -u)/pid.$mpirun" # what it had no time to remove
fi

# An ssh to a host that is gone would wait on, and hold this script's output open.
for agent in "${agents[@]}"; do
  [ "$agent" != "${agent%:*}:$(start_of "${agent%:*}")" ] || kill "${agent%:*}" 2>/dev/null || true
done

# Its last words, for which a daemon that is left over may keep us waiting.
for _ in $(seq 20); do
  kill -0 "$errors" 2>/dev/null || break
  sleep 0.1
done
if [ -s "$scratch/lost" ] && [ "$status" = 0 ]; then status=1; fi
exit "$status"
