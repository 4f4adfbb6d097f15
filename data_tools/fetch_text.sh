#!/bin/sh
# Real English text, from Debian packages: fetched with `apt-get download`, unpacked without installing, cleaned.
#
#   data_tools/fetch_text.sh DIRECTORY [SOURCE...]
#
# Each SOURCE becomes DIRECTORY/SOURCE/, which `strand train-tokenizer` and `strand tokenize` take as it is:
#   gcide      The Collaborative International Dictionary of English (package dict-gcide, GPL-2+): 30 MB of prose,
#              several entries a document, .jsonl
#   anarchism  An Anarchist FAQ (package anarchism, GPL-2+): 10 MB of essays, one a .txt
#   python     The manual of Debian's Python (package python3-doc, PSF): 11 MB of technical prose, one page a .txt
# Without SOURCE: gcide and anarchism.
#
# Needs Debian 12 or 13 and nothing beyond its base system (apt, dpkg, gzip, awk, coreutils, findutils). As root it runs
# `apt-get update` when the package lists are missing. A source that is there and matches its checksums is not fetched
# again; one that is incomplete is replaced. Nothing half-done is left under a final name.
set -eu
LC_ALL=C # bytes are bytes, and the order of files is the same everywhere
export LC_ALL

here=$(cd "$(dirname "$0")" && pwd)

fail() {
  echo "fetch_text.sh: error: $*" >&2
  exit 1
}

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}

# unpack PACKAGE: its files under $work/PACKAGE.
unpack() {
  mkdir "$work/debs"
  if [ "$(id -u)" = 0 ] && id _apt >/dev/null 2>&1; then chown _apt "$work/debs"; fi # apt's own user does the download
  if ! (cd "$work/debs" && apt-get -qq download "$1" >/dev/null 2>&1); then
    [ "$(id -u)" = 0 ] || fail "cannot download package $1; as root, run: apt-get update"
    apt-get -qq update || fail "apt-get update failed; is there a network?"
    (cd "$work/debs" && apt-get -qq download "$1") || fail "cannot download package $1"
  fi
  dpkg-deb -x "$work/debs"/*.deb "$work/$1" || fail "cannot unpack package $1"
  rm -r "$work/debs"
}

# make_SOURCE OUT: the text of a source, as files in OUT.
make_gcide() {
  unpack dict-gcide
  # ASCII but for three bytes in 40 million: two apostrophes and a c with cedilla in older encodings.
  gzip -dc <"$work/dict-gcide/usr/share/dictd/gcide.dict.dz" | tr '\222\271\347' "''c" | tr -d '\200-\377' >"$work/gcide.dict"
  awk -f "$here/gcide.awk" "$work/gcide.dict" >"$1/gcide.jsonl"
}

make_anarchism() {
  unpack anarchism
  pages="$work/anarchism/usr/share/doc/anarchism/markdown"
  for page in "$pages"/sec*.md.gz "$pages"/append*.md.gz "$pages"/intro.md.gz "$pages"/10years.md.gz; do
    gzip -dc "$page" >"$work/page.md"
    awk -f "$here/markdown.awk" "$work/page.md" >"$1/$(basename "$page" .md.gz).txt"
  done
}

# The manual of this Debian's Python 3, by its package's name: python3.11-doc in Debian 12, python3.13-doc in 13.
python_manual() {
  apt-cache depends python3-doc 2>/dev/null | sed -n 's/^ *Depends: \(python3\.[0-9]*-doc\)$/\1/p'
}

make_python() {
  manual=$(python_manual)
  if [ -z "$manual" ] && [ "$(id -u)" = 0 ]; then
    apt-get -qq update || fail "apt-get update failed; is there a network?"
    manual=$(python_manual)
  fi
  [ -n "$manual" ] || fail "apt knows no package python3-doc; as root, run: apt-get update"
  unpack "$manual"
  pages="$work/$manual/usr/share/doc/${manual%-doc}/html/_sources"
  (cd "$pages" && find . -name '*.rst.txt' | sed 's|^\./||' | sort) >"$work/pages"
  [ -s "$work/pages" ] || fail "package $manual holds no .rst.txt pages"
  while read -r page; do
    cp "$pages/$page" "$1/$(echo "$page" | tr / - | sed 's/\.rst\.txt$/.txt/')"
  done <"$work/pages"
}

# Checksums lie in a hidden file, which the readers of text leave out.
is_complete() {
  [ -s "$1/.sha256" ] && (cd "$1" && sha256sum --check --quiet .sha256 >/dev/null 2>&1)
}

fetch() {
  target="$directory/$1"
  if is_complete "$target"; then
    echo "$target: already there"
    return
  fi
  staged="$work/staged"
  mkdir "$staged"
  "make_$1" "$staged"
  bytes=$(find "$staged" -type f -exec cat {} + | wc -c)
  [ "$bytes" -ge 1000000 ] || fail "source $1 gave only $bytes bytes of text: its package has changed"
  (cd "$staged" && find . -type f ! -name .sha256 | sort | xargs sha256sum >"$work/sha256")
  mv "$work/sha256" "$staged/.sha256"
  sync
  rm -rf "$target"
  mv "$staged" "$target"
  echo "$target: $bytes bytes of text"
}

case "${1:-}" in
  '') usage >&2; exit 2 ;;
  -h | --help) usage; exit 0 ;;
esac
directory=$1
shift
[ $# -gt 0 ] || set -- gcide anarchism
for source in "$@"; do
  case "$source" in
    gcide | anarchism | python) ;;
    *) echo "fetch_text.sh: unknown source '$source': use gcide, anarchism or python" >&2; exit 2 ;;
  esac
done
for tool in apt-get dpkg-deb gzip awk sha256sum; do
  command -v "$tool" >/dev/null || fail "$tool is needed (this script is for Debian)"
done

mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
work=$(mktemp -d "$directory/.fetch.XXXXXX") # beside the target, so that the last step is a rename
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
chmod 755 "$work"
for source in "$@"; do fetch "$source"; done
