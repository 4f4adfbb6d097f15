#!/bin/sh
# Real English text, from Debian packages: fetched with `apt-get download`, unpacked without installing, cleaned.
#
#   data_tools/fetch_text.sh [--hold-out] DIRECTORY [SOURCE...]
#
# Each SOURCE becomes DIRECTORY/SOURCE/, which `strand train-tokenizer` and `strand tokenize` take as it is:
#   gcide      The Collaborative International Dictionary of English (package dict-gcide, GPL-2+): 30 MB of prose,
#              several entries a document, .jsonl
#   anarchism  An Anarchist FAQ (package anarchism, GPL-2+): 10 MB of essays, one a .txt
#   python     The manual of Debian's Python (package python3-doc, PSF): 11 MB of technical prose, one page a .txt
#   sage       Reference and tutorials of SageMath (package sagemath-doc, CC-BY-SA, GPL): mathematics, one page a .txt
#   kernel     Documentation of the Linux kernel (package linux-doc, GPL-2): 24 MB, one page a .txt
#   go         Source code of Go's own library (package golang-src, BSD), without tests, one file a .txt
#   bible      The King James Bible (packages bible-kjv and bible-kjv-text, public domain): 4 MB, one book a .txt
#   wordnet    Definitions and examples of WordNet (package wordnet-base, BSD-like): 9 MB of short sentences, .txt
#   handbook   The Debian Administrator's Handbook in the languages other than English (package debian-handbook,
#              GPL-2+, CC-BY-SA-3.0): one folder a language, one page a .txt
# Without SOURCE: gcide and anarchism. These nine overlap little, so that each can be a domain of its own.
#
# With --hold-out, every 25th file of a source, in the order of names, goes to DIRECTORY/SOURCE-held-out/ instead, to validate
# on; a source of one file is cut into 100 first. Parts of one page are then never on both sides.
#
# DIRECTORY/.manifest.json has the packages, their versions and checksums, and a checksum of each source's text.
#
# Needs Debian 12 or 13 and nothing beyond its base system (apt, dpkg, gzip, awk, coreutils, findutils); the bible's own
# program needs libreadline too. As root it runs `apt-get update` when the package lists are missing. A source that is
# there and matches its checksums is not fetched again; one that is incomplete is replaced. Nothing half-done is left
# under a final name.
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
  # For the manifest: one line a package.
  printf '%s %s %s\n' "$1" "$(dpkg-deb -f "$work/debs"/*.deb Version)" "$(cat "$work/debs"/*.deb | sha256sum | cut -d ' ' -f 1)" \
    >>"$work/packages"
  rm -r "$work/debs"
}

# dependency META PATTERN: the package that META depends on and whose name matches, such as golang-1.19-src of golang-src.
dependency() {
  apt-cache depends "$1" 2>/dev/null | sed -n "s/^ *Depends: \\($2\\)\$/\\1/p" | head -n 1
}

# versioned META PATTERN: the same, with the package lists fetched if they are missing.
versioned() {
  found=$(dependency "$1" "$2")
  if [ -z "$found" ] && [ "$(id -u)" = 0 ]; then
    apt-get -qq update || fail "apt-get update failed; is there a network?"
    found=$(dependency "$1" "$2")
  fi
  [ -n "$found" ] || fail "apt knows no package $1; as root, run: apt-get update"
}

# flat PATH: a path as one file name.
flat() {
  printf '%s' "$1" | tr / -
}

# without_boilerplate DIRECTORY MOST: lines that stand more than MOST times in its files are left out (menus, headings).
without_boilerplate() {
  find "$1" -type f -exec cat {} + | sort | uniq -c | awk -v most="$2" '$1 > most { sub(/^ *[0-9]+ /, ""); if ($0 != "") print }' >"$work/boilerplate"
  find "$1" -type f | sort >"$work/texts"
  while read -r page; do
    awk 'NR == FNR { often[$0]; next } !($0 in often) && ($0 != "" || last != "") { print; last = $0 }' \
      "$work/boilerplate" "$page" >"$work/page"
    mv "$work/page" "$page"
  done <"$work/texts"
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

# The manual of this Debian's Python 3 has its version in its name: python3.11-doc in Debian 12, python3.13-doc in 13.
make_python() {
  versioned python3-doc 'python3\.[0-9]*-doc'
  manual=$found
  unpack "$manual"
  pages="$work/$manual/usr/share/doc/${manual%-doc}/html/_sources"
  (cd "$pages" && find . -name '*.rst.txt' | sed 's|^\./||' | sort) >"$work/pages"
  [ -s "$work/pages" ] || fail "package $manual holds no .rst.txt pages"
  while read -r page; do
    cp "$pages/$page" "$1/$(echo "$page" | tr / - | sed 's/\.rst\.txt$/.txt/')"
  done <"$work/pages"
}

make_sage() {
  unpack sagemath-doc
  pages="$work/sagemath-doc/usr/share/doc/sagemath/html/en"
  (cd "$pages" && find . -name '*.html' ! -name 'genindex*' ! -name 'py-modindex*' ! -name 'search*' ! -path '*/_static/*' -size +1 |
    sed 's|^\./||' | sort) >"$work/pages"
  while read -r page; do
    awk -v begin='role="main"' -v end='class="sphinxsidebar"' -f "$here/html.awk" "$pages/$page" >"$1/$(flat "${page%.html}").txt"
  done <"$work/pages"
  find "$1" -type f -size -2 -delete # empty pages
  without_boilerplate "$1" 100
}

make_kernel() {
  versioned linux-doc 'linux-doc-[0-9.]*'
  unpack "$found"
  pages="$work/$found/usr/share/doc/$found/Documentation"
  (cd "$pages" && find . -name '*.rst.gz' ! -path './translations/*' | sed 's|^\./||' | sort) >"$work/pages"
  while read -r page; do gzip -dc "$pages/$page" >"$1/$(flat "${page%.rst.gz}").txt"; done <"$work/pages"
}

# Files above 200 KB are tables, written by programs.
make_go() {
  versioned golang-src 'golang-[0-9.]*-src'
  unpack "$found"
  pages=$(find "$work/$found/usr/share" -type d -path '*/src' | sort | head -n 1)
  (cd "$pages" && find . -name '*.go' ! -name '*_test.go' ! -path '*/testdata/*' -size -200k | sed 's|^\./||' | sort) >"$work/pages"
  while read -r page; do cp "$pages/$page" "$1/$(flat "${page%.go}").txt"; done <"$work/pages"
}

make_bible() {
  unpack bible-kjv
  unpack bible-kjv-text
  "$work/bible-kjv/usr/bin/bible" -p "$work/bible-kjv-text/usr/lib" -f gen1:1-rev22:21 </dev/null >"$work/verses" ||
    fail "the program of package bible-kjv does not run here (it needs package libreadline8 or libreadline8t64)"
  # "Ge1:2 And the earth ...": a book is the letters before the chapter; some begin with a digit.
  awk -v out="$1" '{
    place = $1
    sub(/[0-9]+:[0-9]+$/, "", place)
    if (place != book) { book = place; if (file) close(file); file = sprintf("%s/%02d-%s.txt", out, ++n, book) }
    sub(/^[^ ]+ /, "")
    print >file
  }' "$work/verses"
}

# A line of data.noun: numbers and words, "|", the gloss. Lines of the licence begin with two blanks.
make_wordnet() {
  unpack wordnet-base
  for part in adj adv noun verb; do
    sed -n '/^[^ ]/s/^.*| *//p' "$work/wordnet-base/usr/share/wordnet/data.$part" | sed 's/ *$//' |
      awk -v out="$1/$part" 'NR % 500 == 1 { if (file) close(file); file = sprintf("%s-%03d.txt", out, NR / 500) } { print >file }'
  done
}

make_handbook() {
  unpack debian-handbook
  pages="$work/debian-handbook/usr/share/doc/debian-handbook/html"
  for language in $(cd "$pages" && ls -d ??-* | grep -v '^en-'); do
    mkdir "$1/$language"
    for page in "$pages/$language"/*.html; do
      [ -s "$page" ] || continue
      awk -v begin='^body' -f "$here/html.awk" "$page" >"$1/$language/$(basename "$page" .html).txt"
    done
  done
  find "$1" -type f -size -2 -delete
  without_boilerplate "$1" 4 # paragraphs that nobody has translated stand in many languages in English
}

# Checksums lie in a hidden file, which the readers of text leave out.
is_complete() {
  [ -s "$1/.sha256" ] && (cd "$1" && sha256sum --check --quiet .sha256 >/dev/null 2>&1)
}

# A source as one manifest entry: what it was made from, and the checksum of its list of checksums.
describe() {
  printf '  "%s": {"text_sha256": "%s", "files": %s, "bytes": %s, "packages": [' "$1" \
    "$(sha256sum <"$2/.sha256" | cut -d ' ' -f 1)" "$(wc -l <"$2/.sha256")" "$3"
  awk '{ printf "%s{\"package\": \"%s\", \"version\": \"%s\", \"sha256\": \"%s\"}", (NR > 1 ? ", " : ""), $1, $2, $3 }' \
    "$work/packages"
  printf ']}\n'
}

# The manifest of all sources that are there, from the entries beside their checksums.
write_manifest() {
  {
    echo '{'
    find "$directory" -mindepth 2 -maxdepth 2 -name .entry | sort | while read -r entry; do cat "$entry"; done | sed '$!s/$/,/'
    echo '}'
  } >"$work/manifest"
  mv "$work/manifest" "$directory/.manifest.json"
}

# install STAGED NAME: checksums, and the final name.
install_source() {
  bytes=$(find "$1" -type f -exec cat {} + | wc -c)
  (cd "$1" && find . -type f | sort | tr '\n' '\0' | xargs -0 sha256sum >"$work/sha256")
  mv "$work/sha256" "$1/.sha256"
  describe "$2" "$1" "$bytes" >"$1/.entry"
  sync
  rm -rf "${directory:?}/$2"
  mv "$1" "$directory/$2"
  echo "$directory/$2: $bytes bytes of text"
}

# Every 25th file of $work/staged goes to $work/held.
hold_out() {
  if [ "$(find "$work/staged" -type f | wc -l)" = 1 ]; then
    only=$(find "$work/staged" -type f)
    lines=$(wc -l <"$only")
    awk -v stem="${only%.*}" -v ending="${only##*.}" -v each="$((lines / 100 + 1))" \
      'NR % each == 1 { if (file) close(file); file = sprintf("%s-%02d.%s", stem, NR / each, ending) } { print >file }' "$only"
    rm "$only"
  fi
  mkdir "$work/held"
  (cd "$work/staged" && find . -type f | sed 's|^\./||' | sort | awk 'NR % 25 == 13') >"$work/chosen"
  while read -r file; do
    mkdir -p "$work/held/$(dirname "$file")"
    mv "$work/staged/$file" "$work/held/$file"
  done <"$work/chosen"
}

fetch() {
  target="$directory/$1"
  if [ -z "$held" ] && [ -e "$target-held-out" ]; then
    fail "$target was fetched with --hold-out and lacks what is in $target-held-out; use another directory, or remove both"
  fi
  if is_complete "$target" && { [ -z "$held" ] || is_complete "$target-held-out"; }; then
    echo "$target: already there"
    return
  fi
  : >"$work/packages"
  mkdir "$work/staged"
  "make_$1" "$work/staged"
  bytes=$(find "$work/staged" -type f -exec cat {} + | wc -c)
  [ "$bytes" -ge 1000000 ] || fail "source $1 gave only $bytes bytes of text: its package has changed"
  if [ -n "$held" ]; then
    hold_out
    rm -rf "$target"
    install_source "$work/held" "$1-held-out"
  fi
  install_source "$work/staged" "$1"
}

held=
if [ "${1:-}" = --hold-out ]; then
  held=yes
  shift
fi
case "${1:-}" in
  '') usage >&2; exit 2 ;;
  -h | --help) usage; exit 0 ;;
  -*) echo "fetch_text.sh: unknown option '$1'; see --help" >&2; exit 2 ;;
esac
directory=$1
shift
[ $# -gt 0 ] || set -- gcide anarchism
for source in "$@"; do
  case "$source" in
    gcide | anarchism | python | sage | kernel | go | bible | wordnet | handbook) ;;
    *)
      echo "fetch_text.sh: unknown source '$source': use gcide, anarchism, python, sage, kernel, go, bible, wordnet or handbook" >&2
      exit 2
      ;;
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
write_manifest
