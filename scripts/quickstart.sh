#!/usr/bin/env bash
# From nothing to a trained Mixture-of-Experts model: installs, builds, fetches real English text, trains a tokenizer and
# a small model on it for a few minutes, and lets the model write.
#
#   scripts/quickstart.sh
#
# On a bare Debian 12 or 13 or Ubuntu 24.04 as root; as anybody where scripts/install_dependencies.sh finds nothing
# missing. It can be stopped at any time and run again: a stage whose output is there, whole and made from the same input
# is skipped, and training continues from its newest checkpoint. It writes under build/, data/ and runs/ in the repository
# and nowhere else.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  '') ;;
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' scripts/quickstart.sh; exit 0 ;;
  *) echo "quickstart.sh: it takes no arguments; copy configs/quickstart.yaml and use build/strand for runs of your own" >&2
    exit 2 ;;
esac

config=configs/quickstart.yaml
text=data/text
made=data/quickstart
run=runs/quickstart
vocabulary=4096
strand=build/strand

stage=0
heading() {
  stage=$((stage + 1))
  printf '\n== %s/7 %s\n' "$stage" "$1"
}
trap 'echo "quickstart.sh: stage $stage failed; the lines above say why. Run it again to go on from there." >&2' ERR

# A stamp says what a stage's output was made from and what it was, so that "the file is there" is never enough.
# key TEXT...: a fingerprint of a stage's input.
key() { printf '%s\n' "$@" | sha256sum | cut -d ' ' -f 1; }
# is_current STAMP KEY: the stamp has this key, and the files it lists are unchanged.
is_current() {
  [ -f "$1" ] && [ "$(head -n 1 "$1")" = "$2" ] && tail -n +2 "$1" | sha256sum --check --status 2>/dev/null
}
# stamp STAMP KEY FILE...
stamp() {
  local file=$1 made_from=$2
  shift 2
  { echo "$made_from"; sha256sum "$@"; } >"$file.new"
  mv "$file.new" "$file"
}

heading "Packages"
scripts/install_dependencies.sh build

heading "Build: $strand"
scripts/build.sh build strand -DSTRAND_TESTS=OFF -DSTRAND_WERROR=OFF

heading "Text: $text"
data_tools/fetch_text.sh "$text" gcide anarchism
text_key=$(cat "$text"/{gcide,anarchism}/.sha256 | sha256sum)

heading "Tokenizer: $made/tokenizer.model"
mkdir -p "$made"
train_tokenizer=("$strand" train-tokenizer "$text/gcide" "$text/anarchism" --vocab-size "$vocabulary" --out "$made/tokenizer.model")
tokenizer_key=$(key "$text_key" "${train_tokenizer[@]}")
if is_current "$made/tokenizer.stamp" "$tokenizer_key"; then
  echo "already there: $vocabulary pieces"
else
  "${train_tokenizer[@]}"
  stamp "$made/tokenizer.stamp" "$tokenizer_key" "$made/tokenizer.model"
fi

heading "Token files: $made/train and $made/val"
tokenize=("$strand" tokenize "$text/gcide" "$text/anarchism" --tokenizer "$made/tokenizer.model"
  --out "$made/train" --val-out "$made/val" --val-fraction 0.02)
token_key=$(key "$(cat "$made/tokenizer.stamp")" "${tokenize[@]}")
if is_current "$made/tokens.stamp" "$token_key"; then
  echo "already there"
else
  "${tokenize[@]}"
  stamp "$made/tokens.stamp" "$token_key" "$made"/{train,val}.{bin,idx}
fi

heading "Training: $run"
# A run belongs to its data: one that was begun with other token files is not continued with these.
if [ -e "$run/log.jsonl" ] && ! cmp -s "$run/data.stamp" "$made/tokens.stamp"; then
  echo "quickstart.sh: $run was trained on other data than $made now holds; move it away and run this again" >&2
  exit 1
fi
mkdir -p "$run"
cp "$made/tokens.stamp" "$run/data.stamp"
"$strand" train "$config" --resume auto
steps=$("$strand" config "$config" | sed -n 's/^  steps: //p')
last=$(sed -n 's/^{"step":\([0-9]*\).*/\1/p' "$run/log.jsonl" | tail -n 1)
if [ "$last" != "$steps" ]; then
  echo "quickstart.sh: stopped at step $last of $steps; run it again to go on" >&2
  exit 1
fi

heading "Result"
echo "validation perplexity, as logged in $run/log.jsonl:"
sed -n 's/^{"step":\([0-9]*\).*"val_perplexity":\([0-9.]*\).*/\1 \2/p' "$run/log.jsonl" |
  awk '{ printf "  step %4d   %8.2f\n", $1, $2 }'
echo
echo "the checkpoint, on all of the validation data (strand eval $run --data $made/val):"
"$strand" eval "$run" --data "$made/val"
echo
prompt='Freedom is'
echo "the model's own words (strand generate $run --prompt '$prompt' --temperature 0.8 --top-p 0.95):"
"$strand" generate "$run" --prompt "$prompt" --max-tokens 120 --temperature 0.8 --top-p 0.95

printf '\n== done in %d min %02d s; a second run skips what is there\n' $((SECONDS / 60)) $((SECONDS % 60))
