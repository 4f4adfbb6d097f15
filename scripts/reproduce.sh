#!/usr/bin/env bash
# Repeats experiments of arXiv 2602.14159 at a size that two cores afford, and makes docs/reproduction.md of the results.
#
#   scripts/reproduce.sh [OPTION...] [EXPERIMENT...]     without a word: all of docs/reproduction/plan.json, in its order
#   scripts/reproduce.sh --page                          only makes the page again
#
#   --set KEY=VALUE       in every run: run.device=cuda computes on a GPU
#   --jobs N              runs at a time; without it as many as there are cores
#   --priority ordinary   not the lowest
#
# It takes hours to days at the lowest priority, and can be stopped at any point and started again: a run goes on from
# its newest checkpoint, and a run whose result lies in docs/reproduction/results/ is done. The number of seeds, the
# endpoint and the rule of decision stand in the plan before a run starts.
#
# After scripts/quickstart.sh, whose text it uses. STRAND=PROGRAM names another program than build/strand. It writes under
# data/, runs/ and docs/reproduction*, and nowhere else. Needs python3 (3.9 or later) and nothing beyond its standard
# library.
set -euo pipefail
cd "$(dirname "$0")/.."

page() { python3 scripts/reproduction/make_page.py; }
case "${1:-}" in
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' scripts/reproduce.sh; exit 0 ;;
  --page) page; exit ;;
  --set | --jobs | --priority) [ $# -ge 2 ] || { echo "reproduce.sh: $1 needs a value" >&2; exit 2; } ;;
  -*) echo "reproduce.sh: unknown option '$1'; see --help" >&2; exit 2 ;;
esac

strand=${STRAND:-build/strand}
text=data/text
made=data/reproduction
[ -x "$strand" ] || { echo "reproduce.sh: error: there is no $strand; run scripts/build.sh build strand" >&2; exit 1; }

data_tools/fetch_text.sh "$text" gcide anarchism
mkdir -p "$made"
# What the text was, and what was made of it: made again when either differs.
made_from=$(cat "$text"/{gcide,anarchism}/.sha256 | sha256sum)
if ! { [ -f "$made/stamp" ] && [ "$(head -n 1 "$made/stamp")" = "$made_from" ] &&
  tail -n +2 "$made/stamp" | sha256sum --check --status 2>/dev/null; }; then
  nice -n 19 "$strand" train-tokenizer "$text/gcide" "$text/anarchism" --vocab-size 4096 --out "$made/tokenizer.model"
  # 3 % of the documents are held out: more than the 262,144 tokens that the plan asks for.
  nice -n 19 "$strand" tokenize "$text/gcide" "$text/anarchism" --tokenizer "$made/tokenizer.model" \
    --out "$made/train" --val-out "$made/val" --val-fraction 0.03
  { echo "$made_from"; sha256sum "$made"/tokenizer.model "$made"/{train,val}.{bin,idx}; } >"$made/stamp.new"
  mv "$made/stamp.new" "$made/stamp"
fi

code=0
python3 scripts/reproduction/campaign.py --strand "$strand" "$@" || code=$?
page
exit $code
