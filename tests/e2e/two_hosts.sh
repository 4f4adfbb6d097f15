#!/usr/bin/env bash
# Two hosts on one machine: two network namespaces, host-a and host-b, with host names of their own and one cable (a veth
# pair) between them. Their addresses, 10.77.0.1 and 10.77.0.2, exist inside these namespaces only.
#
#   two_hosts.sh up FOLDER               makes them; FOLDER gets hosts.txt for mpirun and agent, which stands for ssh
#   two_hosts.sh on FOLDER a|b COMMAND...
#   two_hosts.sh cut FOLDER              pulls the cable
#   two_hosts.sh mend FOLDER             puts it back
#   two_hosts.sh slow FOLDER             makes it slow, both ways, and lets packets get lost: only a few can wait
#   two_hosts.sh kill FOLDER             kills every process of host-b but its namespaces' keeper
#   two_hosts.sh freeze FOLDER           stops them all; thaw lets them go on
#   two_hosts.sh ranks FOLDER            prints how many of them are processes of strand
#   two_hosts.sh down FOLDER             ends them and all that runs in them
#
# `up` exits with 77, and says why, where the system does not let it make namespaces.
set -euo pipefail

inside() { # HOST COMMAND...: in the namespaces of a host
  local keeper
  keeper=$(cat "$folder/$1.pid")
  shift
  exec nsenter --target "$keeper" --net --uts -- "$@"
}

# The processes in a host's network, its keeper excepted.
processes_of() {
  local keeper net
  keeper=$(cat "$folder/$1.pid")
  net=$(readlink "/proc/$keeper/ns/net") || return 0
  # One program for all of them, so that little time passes between the first and the last.
  find /proc/[0-9]*/ns -maxdepth 1 -name net -printf '%l %p\n' 2>/dev/null | grep -F "$net " | cut -d / -f 3 |
    grep -vx "$keeper" || true
}

keeper() { # HOST: a process that holds new namespaces, with the host name set
  # It gives up on its own after an hour, should nobody end it.
  unshare --net --uts sh -c "hostname host-$1 && exec sleep 3600" </dev/null >/dev/null 2>"$folder/$1.log" &
  echo $! >"$folder/$1.pid"
  local _
  for _ in $(seq 100); do
    [ "$(nsenter --target $! --uts hostname 2>/dev/null)" != "host-$1" ] || return 0
    kill -0 $! 2>/dev/null || break
    sleep 0.05
  done
  return 1
}

skip() {
  echo "SKIPPED: two hosts need network namespaces: $*" >&2
  exit 77
}

up() {
  local tool
  for tool in ip tc nsenter unshare; do
    command -v $tool >/dev/null || skip "no program $tool (packages iproute2, util-linux)"
  done
  mkdir -p "$folder"
  for host in a b; do keeper $host || skip "$(cat "$folder/$host.log" 2>/dev/null)"; done
  (inside a ip link add name cable type veth peer name cable netns "$(cat "$folder/b.pid")") 2>"$folder/cable.log" ||
    { down; skip "$(cat "$folder/cable.log")"; }
  local number=1
  for host in a b; do
    (inside $host ip link set lo up)
    (inside $host ip address add 10.77.0.$number/24 dev cable)
    (inside $host ip link set cable up)
    number=$((number + 1))
  done
  printf '10.77.0.1 slots=1\n10.77.0.2 slots=1\n' >"$folder/hosts.txt"
  # mpirun calls the agent as `ssh HOST COMMAND LINE`; like ssh it starts a shell there with an environment and a session
  # of its own. (In mpirun's session, the kernel would send SIGHUP and SIGCONT to a frozen host when mpirun ends.)
  cat >"$folder/agent" <<END
#!/bin/sh
case \$1 in
  10.77.0.1) host=a ;;
  10.77.0.2) host=b ;;
  *) echo "agent: no host \$1" >&2; exit 255 ;;
esac
shift
exec setsid --wait "$here/two_hosts.sh" on "$folder" \$host /usr/bin/env -i HOME="\$HOME" PATH=/usr/local/bin:/usr/bin:/bin sh -c "\$*"
END
  chmod +x "$folder/agent"
}

# To all processes of host b. Some, of a shell that looks something up, may have ended since they were listed.
signal() { processes_of b | xargs -r -n 1 kill -"$1" 2>/dev/null || true; }

# A process of strand under mpirun has a number among all.
ranks() {
  local process count=0
  for process in $(processes_of b); do
    ! tr '\0' '\n' 2>/dev/null <"/proc/$process/environ" | grep -qE '^(OMPI_COMM_WORLD_RANK|PMIX_RANK)=' ||
      count=$((count + 1))
  done
  echo $count
}

# A token bucket in front of the cable: 20 Mbit/s, and 6 kB may wait, which TCP's bursts exceed.
slow() {
  local host
  for host in a b; do (inside $host tc qdisc replace dev cable root tbf rate 20mbit burst 3000 limit 6000); done
}

down() {
  local host processes
  for host in a b; do
    [ -e "$folder/$host.pid" ] || continue
    processes=$(processes_of $host)
    # shellcheck disable=SC2086 # numbers
    kill -KILL $processes "$(cat "$folder/$host.pid")" 2>/dev/null || true
  done
}

[ $# -ge 2 ] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
action=$1
folder=$2
shift 2
case $action in
  up) up "$@" ;;
  on) inside "$@" ;;
  cut) inside a ip link set cable down ;;
  mend) inside a ip link set cable up ;;
  slow) slow ;;
  kill) signal KILL ;;
  freeze) signal STOP ;;
  thaw) signal CONT ;;
  ranks) ranks ;;
  down) down ;;
  *) echo "two_hosts.sh: unknown action '$action'" >&2; exit 2 ;;
esac
