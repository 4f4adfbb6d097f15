#!/usr/bin/env bash
# Writes the tables of docs/configuration.md from what the program says of its keys (strand config --help-keys).
#
#   scripts/make_configuration_page.sh [STRAND [PAGE]]      without words: build/strand, docs/configuration.md
#
# What stands above the line "<!-- keys -->" in the page is written by hand and stays. A test (docs.configuration_page)
# holds the page equal to what this script makes.
set -euo pipefail

case "${1:-}" in -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac
here=$(cd "$(dirname "$0")/.." && pwd)
strand=${1:-$here/build/strand}
page=${2:-$here/docs/configuration.md}
[ -x "$strand" ] || { echo "make_configuration_page.sh: error: no program $strand; build it first" >&2; exit 1; }
marker='<!-- keys -->'
grep -qxF -- "$marker" "$page" || { echo "make_configuration_page.sh: error: $page has no line $marker" >&2; exit 1; }

new=$(mktemp)
trap 'rm -f "$new"' EXIT
sed "/^$marker\$/q" "$page" >"$new"
"$strand" config --help-keys | awk -F '  +' '
  function cell(text) { gsub(/\|/, "\\|", text); return text }
  NR == 1 {
    if ($1 != "key" || $2 != "type" || $3 != "default" || $4 != "range" || $5 != "meaning" || NF != 5) exit bad = 1
    next
  }
  $0 == "" { next }
  NF != 5 { exit bad = 1 }
  {
    split($1, parts, ".")
    if (parts[1] != group) {
      group = parts[1]
      printf "\n## %s\n\n| key | type | default | range | meaning |\n|---|---|---|---|---|\n", group
    }
    default_text = $3 == "required" ? "**required**" : "`" cell($3) "`"
    printf "| `%s` | %s | %s | %s | %s |\n", $1, $2, default_text, cell($4), cell($5)
  }
  END { exit bad }
' >>"$new" || { echo "make_configuration_page.sh: error: cannot read what config --help-keys prints" >&2; exit 1; }
cat "$new" >"$page"
