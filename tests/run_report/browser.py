#!/usr/bin/env python3
"""Looks at reports in a real browser: no error on its console, every panel has content, every chart is drawn, nothing is
wider than the window, and pictures of the page are not blank.

    browser.py STRAND CHROMIUM SOURCES [FOLDER FOR THE PICTURES]
"""
import json
import math
import re
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

STRAND, CHROMIUM, SOURCES = sys.argv[1:4]
LAYERS, EXPERTS, STEPS = 4, 8, 400


def noise(*place):
    """The same number in [-1, 1] for the same place."""
    return math.sin(sum((i + 1) * 78.233 * p for i, p in enumerate(place)))


def make_run(folder, name, seed, sets):
    run = folder / name
    run.mkdir()
    words = ["config", str(Path(SOURCES) / "configs/quickstart.yaml"), "--set", f"run.name={name}", "--set", f"run.seed={seed}"]
    for key in sets:
        words += ["--set", key]
    (run / "config.yaml").write_text(subprocess.run([STRAND, *words], check=True, capture_output=True, text=True).stdout)
    sp = 1.0 if "losses.sp_weight=0" in sets else 0.6
    with open(run / "log.jsonl", "w") as log:
        for step in range(1, STEPS + 1):
            wiggle = 0.06 * noise(step, seed)
            ce = 4.2 + 4 * math.exp(-step / 60) + 0.4 * sp + wiggle
            row = {"step": step, "loss": ce + 0.06, "ce": ce, "lb": 4.02 + math.exp(-step / 30), "z": 20 + step / 40,
                   "v": -0.02, "entropy": 4 * (1.9 - step / 800), "lr": 1e-3 * min(step / 40, 1) * (1 - step / 450),
                   "grad_norm": 0.5 + 2 * math.exp(-step / 20) + abs(wiggle), "loss_z": 3 * noise(step, seed, 5), "tokens": 4096 * step,
                   "tokens_per_second": 6000 + 200 * noise(step, 3), "mfu": 0.4, "worst_expert_load": 1.2}
            if step % 10 == 0:
                row.update(sp=sp * (0.2 - step / 4000), cp=-0.5 - step / 600, o=30)
                load = [[1 + 0.4 * noise(l, e) * (1.2 - step / STEPS) for e in range(EXPERTS)] for l in range(LAYERS)]
                row.update(update_ratio=1e-3 * (1 - step / 450), peak_bytes=6e8, router_bias_range=step / 4000,
                           step_seconds={"forward": 0.2, "head": 0.05, "backward": 0.4, "update": 0.03, "exchange": 0, "data": 0.001})
                row["expert_load"] = [[x / sum(layer) for x in layer] for layer in load]
            if step % 50 == 0:
                row.update(val_loss=ce - 0.05, val_perplexity=math.exp(ce - 0.05), val_bits_per_byte=(ce - 0.05) / 2.2)
            log.write(json.dumps(row) + "\n")
    return run


def analysis():
    """As strand analyse writes it, of the parts that a report shows."""
    pairs = [{"lower": l, "upper": l + 1, "kappa": 0.3 + 0.1 * l, "excess": 0.2, "information": 0.25,
              "shuffled": {"kappa": 0.15, "information": 0.01}, "matched": [(e + l) % EXPERTS for e in range(EXPERTS)],
              "conditional": [[0.9 if (e + l) % EXPERTS == v else 0.15 for v in range(EXPERTS)] for e in range(EXPERTS)]}
             for l in range(LAYERS - 1)]
    square = [[None if e == v else 0.05 + 0.02 * noise(e, v) for v in range(EXPERTS)] for e in range(EXPERTS)]
    side = {"mean_squared_cosine": [0.05] * LAYERS, "random": {"mean_squared_cosine": 0.004}, "pairs": [square] * LAYERS}
    flow = [[200 if (e + 3) % EXPERTS == v else 20 for v in range(EXPERTS)] for e in range(EXPERTS)]
    lists = [{"layer": 0, "experts": [[{"id": i, "piece": "▁the" if i else "</script>", "count": 12, "share": 0.5}
                                       for i in range(3)] for _ in range(EXPERTS)]}]
    return {"format": "strand-analysis-1", "data": [{"name": "dictionary"}, {"name": "essays"}],
            "models": [{"layers": list(range(LAYERS)), "experts": EXPERTS, "top_k": 2, "coupling": {"pairs": pairs},
                        "overlap": {"z": side, "y": side},
                        "sharpness": {"token_entropy": [0.8] * LAYERS, "load_entropy": [0.98] * LAYERS, "top_k": [0.4] * LAYERS,
                                      "uniform": {"token_entropy": 1, "load_entropy": 1, "top_k": 0.25}},
                        "flows": {"layers": [0, 2, 3], "domains": [{"counts": [flow, flow], "information": [0.3, 0.4],
                                                                    "information_shuffled": [0.01, 0.01]}] * 2},
                        "domains": {"chance": 0.25, "share": [[[0.25 + 0.15 * noise(d, l, e) for e in range(EXPERTS)]
                                                               for l in range(LAYERS)] for d in range(2)]},
                        "vocabulary": {"token_lists": lists}}],
            "stability": [{"steps": [s, s + 100], "top_1": [0.5 + s / 1000] * LAYERS} for s in (100, 200, 300)]}


def colors_of(png):
    """The number of different colours of a PNG of 8-bit RGB or RGBA, as browsers write it."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed = 8, b""
    while at < len(png):
        size, kind = int.from_bytes(png[at:at + 4], "big"), png[at + 4:at + 8]
        data = png[at + 8:at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, color = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big"), data[8], data[9]
        packed += data if kind == b"IDAT" else b""
        at += 12 + size
    assert depth == 8 and color in (2, 6), (depth, color)
    unit = 3 if color == 2 else 4
    rows, stride = zlib.decompress(packed), width * unit
    before, found, inked = bytearray(stride), set(), 0
    for y in range(height):
        kind, line = rows[y * (stride + 1)], bytearray(rows[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for x in range(stride):
            left = line[x - unit] if x >= unit else 0
            up, corner = before[x], before[x - unit] if x >= unit else 0
            if kind == 1:
                line[x] = (line[x] + left) & 255
            elif kind == 2:
                line[x] = (line[x] + up) & 255
            elif kind == 3:
                line[x] = (line[x] + (left + up) // 2) & 255
            elif kind == 4:
                guess = left + up - corner
                a, b, c = abs(guess - left), abs(guess - up), abs(guess - corner)
                line[x] = (line[x] + (left if a <= b and a <= c else up if b <= c else corner)) & 255
        pixels = {bytes(line[x:x + unit]) for x in range(0, stride, unit)}
        inked += len(pixels) > 1
        found |= pixels
        before = line
    return len(found), inked / height


def browser(*arguments):
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                               "--disable-background-networking", "--hide-scrollbars", f"--user-data-dir={profile}",
                               "--enable-logging=stderr", "--virtual-time-budget=5000", *arguments],
                              capture_output=True, text=True, timeout=300)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not said, said
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


# Added to a copy of the page: says how wide it is, and what it has, once its own script has run.
PROBE = """<script>addEventListener("load", () => {
  const panels = [...document.querySelectorAll("section")].map((s) => [s.id, s.textContent.trim().length,
    s.querySelectorAll("svg,table,pre,.tile,.none,.verdict,.warnings").length]);
  const charts = [...document.querySelectorAll("figure[id]")].map((f) => [f.id, f.querySelectorAll("canvas").length]);
  const wide = [...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 &&
    !e.closest(".wide,svg,pre,.plot")).map((e) => e.tagName + "." + e.className);
  document.body.innerHTML = "<pre id=probe>" + JSON.stringify({panels, charts, wide, inner: innerWidth,
    scroll: document.documentElement.scrollWidth}) + "</pre>";
});</script></body>"""


def probe(page, width):
    copy = page.with_name("probe.html")
    copy.write_text(page.read_text().replace("</body>", PROBE))
    dom = browser(f"--window-size={width},900", "--dump-dom", copy.as_uri())
    return json.loads(re.search(r'<pre id="probe">(.*?)</pre>', dom, re.S).group(1))


def look(page, pictures):
    for width in (1200, 500):  # 500: the least that this browser's window has; phones are looked at in a frame below
        found = probe(page, width)
        assert len(found["panels"]) >= 15, found["panels"]
        for name, characters, pieces in found["panels"]:
            assert characters > 20 and pieces > 0, (name, characters, pieces)
        assert len(found["charts"]) >= 15, found["charts"]
        for name, canvases in found["charts"]:
            assert canvases >= 1, f"{name} was not drawn"
        assert found["scroll"] <= found["inner"], (width, found["wide"])
    # A phone's width: the page in a frame of 390 pixels.
    frame = page.with_name("phone.html")
    frame.write_text(f'<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><body style="margin:0">'
                     f'<iframe src="{page.name}" style="width:390px;height:4000px;border:0"></iframe>')
    for name, url, size, more in (("light", page, "1200,7000", ()), ("dark", page, "1200,7000", ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")),
                                  ("phone", frame, "500,4000", ())):
        picture = pictures / f"{page.stem}-{name}.png"
        browser(f"--window-size={size}", f"--screenshot={picture}", *more, url.as_uri())
        colors, inked = colors_of(picture.read_bytes())
        # A blank page has one colour; text alone some dozens of shades on a third of its lines.
        assert colors > 100 and inked > 0.4, (name, colors, inked)
        print(f"{picture.name}: {colors} colours, {100 * inked:.0f} % of the lines are not of one colour")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = Path(sys.argv[4]) if len(sys.argv) > 4 else folder
        one = make_run(folder, "quickstart", 1, [])
        (one / "analysis").mkdir()
        (one / "analysis/analysis.json").write_text(json.dumps(analysis()))
        (one / "samples.txt").write_text("Freedom is a word that has\nmany meanings.")
        (one / "evaluation").mkdir()
        (one / "evaluation/results.json").write_text(json.dumps({
            "results": {"piqa": {"alias": "piqa", "acc,none": 0.55, "acc_stderr,none": 0.012}, "mmlu_law": {"acc,none": 0.3}},
            "group_subtasks": {"mmlu": ["mmlu_law"]},
            "strand": {"levels": {"piqa": {"chance": 0.5, "majority": 0.505, "gold_bits_per_byte": 1.9, "gold_margin": -2}}}}))
        page = folder / "one.html"
        subprocess.run([STRAND, "report", one, "--out", page], check=True)
        look(page, pictures)
        several = [make_run(folder, f"lb_s{seed}", seed, ["losses.sp_weight=0"]) for seed in (1, 2, 3)]
        several += [make_run(folder, f"lb_sp_s{seed}", seed, ["losses.sp_weight=2.0e-3"]) for seed in (1, 2, 3)]
        page = folder / "several.html"
        subprocess.run([STRAND, "report", *several, "--out", page], check=True)
        look(page, pictures)


if __name__ == "__main__":
    main()
