#!/usr/bin/env bash
# What a maintainer runs before a release: both commands of the README, in a bare Debian 12, a bare Debian 13 and a bare
# Ubuntu 24.04.
#
#   scripts/test_distributions.sh [--keep] [SUITE...]      without a word: bookworm trixie noble
#
# Each suite gets a root of its own, made by debootstrap (package debootstrap) with nothing in it but the base system and
# a clone of the last commit here, in build/distributions/SUITE. There, scripts/test.sh --werror and then
# scripts/quickstart.sh run as root; what they say is in build/distributions/SUITE.log, and the last lines are shown.
# The mirror of Debian, its keys, and how to reach it are those of this machine's apt. Ubuntu's packages come from
# archive.ubuntu.com, or from the mirror that UBUNTU_MIRROR names, and are checked with Ubuntu's own keys. Needs root,
# 8 GB of disk a suite and, on two cores, an hour a suite. --keep leaves the roots there, and goes on in those that are.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' scripts/test_distributions.sh; }
fail() {
  echo "test_distributions.sh: error: $*" >&2
  exit 1
}

keep=
suites=()
while [ $# -gt 0 ]; do
  case "$1" in
    --keep) keep=yes ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "test_distributions.sh: unknown option '$1'" >&2; usage >&2; exit 2 ;;
    *) suites+=("$1") ;;
  esac
  shift
done
[ ${#suites[@]} -gt 0 ] || suites=(bookworm trixie noble)
[ "$(id -u)" = 0 ] || fail "only root can make and enter these roots"
command -v debootstrap >/dev/null || fail "no debootstrap on this machine: apt-get install debootstrap"

# The mirror of Debian itself, in either of apt's two formats; not that of security updates or of other archives.
debian=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
  grep -v '^ *#' | grep -oE '(https?|file)://[^] ]+' | grep -E '/debian/?$' | grep -v snapshot | head -n 1 || true)
debian=${debian:-http://deb.debian.org/debian}
ubuntu=${UBUNTU_MIRROR:-http://archive.ubuntu.com/ubuntu}
ubuntu_keys=/usr/share/keyrings/ubuntu-archive-keyring.gpg
folder=$PWD/build/distributions
mkdir -p "$folder"

# mirror_of SUITE
mirror_of() {
  case "$1" in
    noble) echo "$ubuntu" ;;
    *) echo "$debian" ;;
  esac
}

# make_root SUITE ROOT
make_root() {
  local suite=$1 root=$2 mirror
  local -a options=() script=()
  mirror=$(mirror_of "$suite")
  if [ "$suite" = noble ]; then
    [ -e "$ubuntu_keys" ] ||
      fail "no $ubuntu_keys, Ubuntu's keys: they are in the package ubuntu-keyring (of Ubuntu, or of newer Debians)"
    options=("--components=main,universe" "--keyring=$ubuntu_keys")
    # The one script for all Ubuntus, as older versions of debootstrap do not know this name.
    script=(/usr/share/debootstrap/scripts/gutsy)
  fi
  rm -rf --one-file-system "$root"
  debootstrap --variant=minbase "${options[@]}" "$suite" "$root" "$mirror" "${script[@]}" \
    >"$folder/$suite-debootstrap.log" 2>&1 || {
    tail -n 5 "$folder/$suite-debootstrap.log" >&2
    fail "debootstrap could not make $suite from $mirror"
  }
  # Proxies, certificates and names: how this machine reaches its mirror.
  local file
  for file in /etc/apt/apt.conf.d/*; do
    ! grep -qiE 'proxy|verify|certificate' "$file" || cp "$file" "$root/etc/apt/apt.conf.d/"
  done
  mkdir -p "$root/etc/ssl"
  cp -aL /etc/ssl/certs "$root/etc/ssl/" 2>/dev/null || true
  # Under a name that the package ca-certificates does not write over.
  cp -L "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$root/etc/ssl/of-this-machine.crt" 2>/dev/null || true
  cp -L /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || true
  git clone -q "$PWD" "$root/src"
}

# enter ROOT COMMAND: in mounts of its own, which go with it.
enter() {
  # shellcheck disable=SC2016 # for the inner shell
  unshare --mount bash -c '
    root=$1
    mount --rbind /proc "$root/proc" && mount --rbind /dev "$root/dev" && mount --rbind /sys "$root/sys" || exit 1
    variables=()
    while IFS= read -r line; do variables+=("$line"); done < <(env | grep -iE "^(https?_proxy|no_proxy|PIP_[A-Z_]*)=")
    [ ! -s "$root/etc/ssl/of-this-machine.crt" ] || variables+=({PIP_CERT,SSL_CERT_FILE}=/etc/ssl/of-this-machine.crt)
    exec env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
      "${variables[@]}" chroot "$root" bash -c "cd /src && $2"' enter "$1" "$2"
}

failed=()
for suite in "${suites[@]}"; do
  root=$folder/$suite
  log=$folder/$suite.log
  echo "== $suite, from $(mirror_of "$suite") (log: $log)"
  if [ -n "$keep" ] && [ -d "$root/src/.git" ]; then
    git --git-dir="$root/src/.git" fetch -q "$PWD" HEAD
    git --git-dir="$root/src/.git" --work-tree="$root/src" reset -q --hard FETCH_HEAD
  else
    make_root "$suite" "$root"
  fi
  : >"$log"
  for command in 'scripts/test.sh --werror' scripts/quickstart.sh; do
    begin=$SECONDS
    if enter "$root" "$command" >>"$log" 2>&1 </dev/null; then
      echo "passed: $command ($((SECONDS - begin)) s)"
    else
      tail -n 40 "$log"
      echo "FAILED: $command in $suite"
      failed+=("$suite: $command")
    fi
  done
  grep -E 'tests passed|\(Skipped\)' "$log" || true
  [ -n "$keep" ] || rm -rf --one-file-system "$root"
done
[ ${#failed[@]} -eq 0 ] || fail "failed: ${failed[*]}"
echo "all suites pass"
