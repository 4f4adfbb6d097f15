"""What the scripts that compare strand with other programs share: a scratch directory with a tiny corpus, tokenizer and
token file, the program run on them, and lines of odd text."""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import traceback

import numpy as np
import sample_text
from safetensors.numpy import load_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
SEQUENCE = 96

BASE = {
    "run": {"precision": "fp32", "seed": 7, "threads": 1},
    # Large initial weights, so that logits and routing are far from uniform.
    # No two sizes are equal, none is a default of a class, and a head is neither 2 nor 4 wide, where reordering rows for
    # Ernie's rotation would be its own inverse.
    "model": {"hidden_size": 72, "num_layers": 3, "num_heads": 4, "num_kv_heads": 2, "head_dim": 20, "init_std": 0.15,
              "rope_theta": 7000.0, "norm_eps": 3.0e-6, "tied_embeddings": False},
    "moe": {"num_experts": 7, "top_k": 3, "expert_ffn": 44},
    "losses": {"lb_weight": 1.0e-2, "z_weight": 1.0e-3},
    "data": {"sequence_length": SEQUENCE},
    "optimizer": {"lr": 1.0e-2, "min_lr": 1.0e-3},
    "train": {"steps": 3, "global_batch_size": 4, "micro_batch_size": 4},
}

# Options of a model with latent attention. Nothing is 2 or 4 wide, where reordering rows would be its own inverse.
LATENT = {"model.attention": "mla", "model.kv_latent": 34, "model.nope_head_dim": 14, "model.rope_head_dim": 10,
          "model.value_head_dim": 18, "model.num_kv_heads": 4, "model.head_dim": 24}

ODD_LINES = [
    "Hello, world!", " leading space", "  two leading spaces", "trailing space ", "trailing spaces   ", "a", " ", "  ",
    "   ", "tab\there", "\ttab first", "two\t\ttabs", "line\nbreak", "\nnewline first", "newline last\n", "a\n\n\nb",
    "windows\r\nline", "a\u00a0no-break space", "zero\u200bwidth", "joiner\u200dhere", "soft\u00adhyphen", "\ufeffbom",
    "0", "1234567890", "3.14159", "1,000,000", "-42e+10", "0x1F600", "1 2 3", "12ab34cd", "½ ⅓ ¾", "٠١٢٣٤", "①②③",
    "x² + y³ = z⁴", "été à la plage", "e\u0301te\u0301 (combining)", "Straße", "ÅÄÖ åäö", "Żółć", "naïve café",
    "Привет, мир", "Ελληνικά", "שלום עולם", "مرحبا بالعالم", "नमस्ते", "こんにちは世界", "你好，世界", "안녕하세요",
    "ภาษาไทย", "😀", "😀😃😄", "👩‍👩‍👧‍👦 family", "🇩🇪🇫🇷 flags", "👍🏽 tone", "❤️ heart", "a😀b", "🦜 🦜  🦜", "ﬁ ligature",
    "\u2581underline", "a\u2581b", "\u2581\u2581", "<unk >", "<0x0A>", "<0xFF>", "< s >", "[INST] text [/INST]", "{}[]()<>",
    "!@#$%^&*()", "''\"\"``", "\\n is not a newline", "C:\\Users\\me", "https://example.org/a?b=c&d=e#f",
    "user@example.org", "def f(x):\n    return x ** 2", "int main() { return 0; }", "    four spaces", "a  b   c    d",
    "a" * 40, "ab" * 30, "word " * 12, " " * 17 + "x", "x" + " " * 33, "CamelCaseIdentifier", "snake_case_identifier",
    "SHOUTING", "MiXeD", "don't can't won't", "—em dash– en dash", "“curly” ‘quotes’", "…ellipsis", "•bullet", "™®©",
    "\x01\x02\x7f", "a\x00b", "\ufffd replacement", "𝕌𝕟𝕚𝕔𝕠𝕕𝕖", "Z͑ͫ̓a̴l̵g̶o̷", "\u202eright to left", "🏴\U000e0067\U000e0062\U000e007f",
    "\u0080\u009f", "\uffff", "\U0010ffff", "mixed 中文 and English", "a,b;c:d", "1.2.3.4", "2024-02-29T23:59:59Z",
    "end.", ".start", "?!?!?!", "The quick brown fox jumps over the lazy dog.",
]


# Ranges of characters that tokenizers may treat in their own ways: scripts, marks, symbols, spaces.
RANDOM_RANGES = [(0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x600), (0x900, 0xD00), (0x1100, 0x1200),
                 (0x2000, 0x2100), (0x2100, 0x2600), (0x3000, 0x3200), (0x3300, 0x3400), (0x4E00, 0x4F00),
                 (0xAC00, 0xAC80), (0xF900, 0xFB50), (0xFE00, 0xFFF0), (0x1D400, 0x1D500), (0x1F300, 0x1F700)]
RANDOM_SPACES = [" ", "  ", " " * 21, "\n", "\t", "\r", "\u200d", "\ufe0f", "\u2581", "\u2581" * 9, "\ufeff", "\ufffd", "the"]


def random_lines(count):
    generator = random.Random(11)

    def character(ranges):
        if generator.random() < 0.2:
            return generator.choice(RANDOM_SPACES)
        return chr(generator.randrange(*generator.choice(ranges)))

    lines = []
    for _ in range(count):
        ranges = RANDOM_RANGES if generator.random() < 0.5 else [generator.choice(RANDOM_RANGES)]
        lines.append("".join(character(ranges) for _ in range(generator.randrange(1, 20))))
    return lines


class Failure(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Failure(message)


def file_name(case):
    """The name of a case as part of a file name."""
    return "".join(c if c.isalnum() else "_" for c in case)


class Bench:
    """The program under test, a scratch directory, and the tiny corpus that all cases share."""

    def __init__(self, strand, folder):
        self.strand, self.folder = strand, folder
        texts = folder / "corpus"
        texts.mkdir()
        for i, text in enumerate(sample_text.documents()):
            (texts / f"{i}.txt").write_text(text)
        self.texts = texts
        self.model = folder / "tokenizer.model"
        self.run("train-tokenizer", texts, "--out", self.model, "--vocab-size", 512)
        self.data = self.tokenize(self.model, "data")

    def tokenize(self, model, name):
        prefix = self.folder / name
        self.run("tokenize", self.texts, "--tokenizer", model, "--out", prefix, "--threads", 1)
        return prefix

    def random_ids(self, name, count):
        """A token file (raw_u16) of ids below 311."""
        path = self.folder / f"{name}.bin"
        path.write_bytes(np.random.default_rng(2).integers(0, 311, count).astype(np.uint16).tobytes())
        return path

    def run(self, *arguments):
        done = subprocess.run([str(self.strand), *map(str, arguments)], capture_output=True, text=True)
        check(done.returncode == 0, f"strand {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def train(self, name, options, model=None, data=None):
        config = json.loads(json.dumps(BASE))
        config["run"].update(name=name, dir=str(self.folder / "runs"))
        config["data"].update(train=str(data or self.data), tokenizer=str(model or self.model))
        for key, value in options.items():
            group, option = key.split(".")
            config[group][option] = value
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        self.run("train", path)
        return self.folder / "runs" / name

    def logits(self, checkpoint, data, *more):
        path = self.folder / "logits.safetensors"
        self.run("eval", checkpoint, "--data", data, "--batches", 1, "--batch-size", 2, "--precision", "fp32",
                 "--logits", path, *more)
        tensors = load_file(path)
        return tensors["tokens"], tensors["logits"]


def token_ids(bench, model, lines):
    """strand's own ids, through a token file: one document a line."""
    text = bench.folder / "odd.jsonl"
    text.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    prefix = bench.folder / "odd"
    bench.run("tokenize", text, "--tokenizer", model, "--out", prefix, "--no-eos", "--threads", 1)
    raw = (bench.folder / "odd.idx").read_bytes()
    check(raw[:9] == b"MMIDIDX\0\0", "no Megatron index")
    dtype = {8: np.uint16, 4: np.int32}[raw[17]]
    count = int.from_bytes(raw[18:26], "little")
    lengths = np.frombuffer(raw, np.int32, count, 34)
    ids = np.frombuffer((bench.folder / "odd.bin").read_bytes(), dtype)
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]


def run_cases(cases, wanted):
    """Runs those cases whose names contain one of the words (all when there are none). Returns whether all pass."""
    failed, ran = [], 0
    for name, case in cases:
        if wanted and not any(word in name for word in wanted):
            continue
        ran += 1
        try:
            print(f"pass  {name}: {case()}", flush=True)
        except Failure as failure:
            failed.append(name)
            print(f"FAIL  {name}: {failure}", flush=True)
        except Exception:  # of the other program, which refused what strand wrote
            failed.append(name)
            print(f"FAIL  {name}:\n{traceback.format_exc()}", flush=True)
    print(f"{ran - len(failed)} of {ran} cases pass")
    return ran > 0 and not failed


def run_program(description, make_bench, cases):
    """The main function of such a script: its options, then cases(bench, further tokenizers). Does not return."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--strand", default=ROOT / "build" / "strand", type=pathlib.Path)
    parser.add_argument("--tokenizer", action="append", default=[], help="another SentencePiece .model to compare")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="strand_parity_") as folder:
        bench = make_bench(arguments.strand.resolve(), pathlib.Path(folder))
        passed = run_cases(cases(bench, arguments.tokenizer), arguments.cases)
    sys.exit(0 if passed else 1)
