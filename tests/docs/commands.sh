#!/usr/bin/env bash
# Runs the commands of documentation pages as they are printed: every ```sh block, in the order of the page.
#
#   commands.sh STRAND SOURCES MPIRUN PAGE...
#
#   STRAND    the built program
#   SOURCES   the repository
#   MPIRUN    mpirun, or "" where the program was built without MPI: commands of scripts/launch are then left out
#   PAGE      relative to SOURCES
#
# The example in the --help of each command is tried likewise.
#
# A page's commands work "after the quickstart". Each page gets a clone of its own in which a quickstart has run that is
# the real one in miniature: configs/quickstart.yaml has smaller widths there, and the text is this repository's headers.
# Nothing else differs, and no command is changed. A block of another kind (```console) is not run: it is for what
# needs a network, a cluster or Python. The two scripts of the README that install packages and build are run by
# scripts/test_distributions.sh; here they only have to be there.
set -euo pipefail
strand=$(realpath "$1") sources=$(realpath "$2") mpirun=$3
shift 3

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset STRAND MPIRUN_OPTIONS

# replace FILE KEY VALUE: a key of a YAML file that stands there exactly once.
replace() {
  [ "$(grep -c "^  $2: " "$1")" = 1 ] || { echo "FAILED: $1 does not have one line '$2:'"; exit 1; }
  sed -i "s/^  $2: .*/  $2: $3/" "$1"
}

make_clone() {
  local clone=$1
  mkdir -p "$clone/build" "$clone/tests" "$clone/data/text"
  cp -r "$sources"/{configs,scripts,data_tools} "$clone"
  ln -s "$sources/tests/data" "$clone/tests/data"
  ln -s "$strand" "$clone/build/strand"
  local config
  for config in quickstart bench_tiny; do
    replace "$clone/configs/$config.yaml" vocab_size 1000
    replace "$clone/configs/$config.yaml" hidden_size 32
    replace "$clone/configs/$config.yaml" num_layers 2
    replace "$clone/configs/$config.yaml" num_heads 2
    replace "$clone/configs/$config.yaml" expert_ffn 16
    replace "$clone/configs/$config.yaml" sequence_length 32
  done
}

quickstart() (
  cd "$1"
  local source file
  for source in gcide anarchism; do
    mkdir "data/text/$source"
    for file in "$sources"/src/*/*.h "$sources"/kernels/*/*.h; do
      cp "$file" "data/text/$source/$(echo "${file#"$sources"/}" | tr / _).txt"
    done
  done
  mkdir data/quickstart
  build/strand train-tokenizer data/text/gcide data/text/anarchism --vocab-size 1000 --out data/quickstart/tokenizer.model
  build/strand tokenize data/text/gcide data/text/anarchism --tokenizer data/quickstart/tokenizer.model \
    --out data/quickstart/train --val-out data/quickstart/val --val-fraction 0.02
  build/strand train configs/quickstart.yaml
)

# blocks PAGE FOLDER: writes the page's blocks to FOLDER/001.sh, ...
blocks() {
  awk -v folder="$2" '
    /^```/ && inside { inside = 0; close(file); next }
    /^```/ { inside = 1; wanted = $0 == "```sh"; if (wanted) file = sprintf("%s/%03d.sh", folder, ++count); next }
    inside && wanted { print > file }
  ' "$1"
}

say_and_fail() {
  cat "$work/output"
  echo "FAILED: $1"
  exit 1
}

make_clone "$work/base"
quickstart "$work/base" >"$work/output" 2>&1 || say_and_fail "the quickstart in miniature"

count=0
for page in "$@"; do
  clone=$work/$(basename "$page" .md)
  cp -a "$work/base" "$clone"
  mkdir "$clone/blocks"
  blocks "$sources/$page" "$clone/blocks"
  for block in "$clone"/blocks/*.sh; do
    [ -e "$block" ] || break
    if grep -q '^scripts/quickstart.sh' "$block"; then
      (cd "$clone" && scripts/quickstart.sh --help && scripts/test.sh --help) >"$work/output" 2>&1 ||
        say_and_fail "$page: a script of the first block"
      continue
    fi
    if [ -z "$mpirun" ] && grep -q '^scripts/launch/' "$block"; then
      echo "left out, as there is no MPI: $(head -1 "$block")"
      continue
    fi
    (cd "$clone" && bash -euo pipefail "$block") >"$work/output" 2>&1 || {
      cat "$block"
      say_and_fail "$page: the block above"
    }
    count=$((count + 1))
  done
  rm -rf "$clone"
done
# The example at the end of each command's --help, in the order of the commands.
clone=$work/examples
cp -a "$work/base" "$clone"
"$strand" --help | sed -n '/^Subcommands:/,/^$/s/^  \([a-z-]*\)  .*/\1/p' >"$work/commands"
while read -r command; do
  example=$("$strand" "$command" --help | sed -n 's/^Example: //p')
  [ -n "$example" ] || { echo "FAILED: no example in strand $command --help"; exit 1; }
  (cd "$clone" && PATH=$clone/build:$PATH bash -euo pipefail -c "$example") >"$work/output" 2>&1 </dev/null ||
    say_and_fail "$example"
  count=$((count + 1))
done <"$work/commands"
[ "$(wc -l <"$work/commands")" -ge 12 ] || { echo "FAILED: strand --help lists too few commands"; exit 1; }

[ "$count" -gt 0 ] || { echo "FAILED: no command was found"; exit 1; }
echo "$count blocks and examples ran as printed"
