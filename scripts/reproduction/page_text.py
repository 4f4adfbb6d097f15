"""The prose of docs/reproduction.md that does not depend on results."""

HEAD = """# Reproduction of the paper's experiments

<!-- made by scripts/reproduction/make_page.py; change that, or the files in docs/reproduction/ -->

[arXiv 2602.14159](https://arxiv.org/abs/2602.14159) trains models of 0.4 to 7 billion parameters on 30 to 50 billion tokens of
C4 and reports that its specialization (sp) and coupling (cp) losses lower perplexity. This page repeats its experiments with a
model that is 300 times smaller, on 6,000 times less text. It says nothing about the paper's own sizes. Results without an effect
stand here like all others.

`scripts/reproduce.sh` runs the campaign on CPU cores, at the lowest priority, and can be stopped at any point; `scripts/reproduce.sh
--set run.device=cuda --jobs 12 R0` runs it on a GPU, where several runs share the card best under NVIDIA's MPS. This page is
made from the plan ([plan.json](reproduction/plan.json)) and the results in `docs/reproduction/results`, one file of a few kilobytes
a run.

## Setting

- **Model** (`configs/reproduction.yaml`): 16 experts of which a token uses 2, as in the paper's small model; 4 layers, width 128,
  expert width 192, 4,096 tokens in the vocabulary; 5.5 million parameters, 1.4 million of them active.
- **Why so small.** What limits a campaign is the number of runs. In some four minutes a quiet core trains this
  model on 4.9 million tokens, which are 3.6 tokens an active parameter; the quickstart's shape would get less than 1 in the
  same time. Two runs of one thread each go on side by side, which is faster than one run after the other with two threads. An
  H200 trains one in two seconds, and evaluates it in seven more; fifteen at a time take it half a minute.
- **Text**: a dictionary and a book of essays from Debian packages (`data_tools/fetch_text.sh`, gcide and anarchism), 13.0 million
  tokens, so that no run sees a text twice. Three documents of a hundred are held out: 351,232 tokens.
- **Weights of the losses** are the paper's: lb 0.01, z 0.001, sp 0.002, cp 0.001, o and v 0.001, in the normalization of
  [losses.md](losses.md). AdamW (0.9, 0.999), weight decay 0.1, clipping at 1. The paper states no learning rate,
  batch, sequence length, depth or width; the peak rate here is 0.001, not tuned.
- **Endpoint**, fixed before any run: cross-entropy in nats on all of the held-out text (at least {tokens:,} tokens), mean over
  the checkpoints at 95, 97.5 and 100 % of the run.
- **Pairs**: arms are compared seed by seed. The same seed gives the same initial weights and the same order of the text.
- **Test**: Student's t on the paired differences, two-sided, 95 %; within one table p values are corrected by Holm's method.
- **Number of seeds**, fixed by a rule before an arm starts: as many as give a power of {power} for the paper's effect of
  {effect} nats under the noise that R0 measured, but at least {least} and at most {most}.

The words of a verdict, with e for the paper's effect in nats:

| word | meaning |
|---|---|
| reproduced | the interval lies on the paper's side of 0, and the mean difference is at least e/4 |
| direction only | all seeds differ in the paper's direction, but the interval contains 0 |
| no effect | the interval lies inside ±e/4 |
| contradicted | the interval lies on the other side of 0 |
| undecided | anything else |
| too few pairs | fewer than three |

Beside the word stands whether the paper's own difference lies inside the interval. Where it does not, that difference is
excluded at this size, whatever the word.
"""

PROBE = """Before the plan was made, a probe with the quickstart's model (400 steps of 4,096 tokens, bf16, three seeds) gave these
endpoints: lb 4.4426 (sd 0.007); lb with the learning rate times 1.0000001 4.4410 (sd 0.013); lb,sp,cp 4.4373 (sd 0.009). Runs that
differ by nothing but the last digits of the learning rate ended up to 0.022 nats apart, which is more than the paper's effect
of 0.0187, and pairing by seed helped little, because rounding makes runs diverge whatever starts them. Three pairs decide
nothing there. This is how many pairs of runs a paired test needs for a power of 90 %, for the paper's effect and for a
quarter of it:"""

PAPER_TABLES = """Validation perplexity, Table 1, for the three sizes (small, medium, large):

| losses | plain | DeepSeek style |
|---|---|---|
| lb | 14.01, 12.50, 9.68 | 13.54, 12.33, 9.56 |
| lb,o,v | 14.27, 12.71, 9.84 | 13.76, 12.51, 9.81 |
| lb,sp,cp | 13.75, 12.27, 9.48 | 13.37, 12.16, 9.47 |
| lb,z | 13.80, 12.33, 9.52 | 13.40, 12.07, 9.46 |
| lb,z,o,v | 14.15, 12.67, 9.82 | 13.69, 12.36, 9.77 |
| lb,z,sp,cp | 13.63, 12.17, 9.42 | 13.30, 11.99, 9.39 |

In nats: lb to lb,sp,cp 0.0187, 0.0186 and 0.0209 (DeepSeek style 0.0126, 0.0139, 0.0095); lb,z to lb,z,sp,cp 0.0124, 0.0131 and
0.0106 (0.0075, 0.0067, 0.0074).

Table 5, the medium size: lb 12.50, lb,sp 12.44, lb,cp 12.33, lb,sp,cp 12.27, lb,z 12.33, lb,z,sp 12.27, lb,z,cp 12.21, lb,z,sp,cp
12.17. Table 7 gives deviations over three seeds of 0.01 to 0.02 in perplexity, which is 0.0008 to 0.0016 nats: the paper's runs are
long, and differ far less than short ones."""

CONTRADICTIONS = """- The baseline of Table 10 is labelled lb,sp, and the text says lb. "1–2 points across all stages": the differences in the table
  are 1.5, 1.6, 1.6, 2.0, 1.4, 0.7 and 0.6 points.
- "Up to 2.7 %" compares lb with lb,z,sp,cp (2.71 %). The z-loss alone gives 1.50 % of it; sp and cp alone give 0.9 to 2.1 %, and 0.7 to
  1.3 % on top of z.
- Table 2: the MBPP score 0.6707 ± 0.0368 of the Ling baseline is 110 of 164 problems with the standard error of HumanEval; MBPP has
  500 problems. Several standard errors in the rows of the method equal those of the baseline and not √(p(1−p)/(n−1)).
- Table 6: the printed cells of lb,sp,cp in DeepSeek style have the mean 0.4094, printed as 0.410; rounding may explain it.
- The models in DeepSeek style are said to balance without an auxiliary loss, and all their columns are labelled lb with a weight
  of 0.01. R1d here uses both.
- Figure 7 uses 8 experts and top-1 routing at 0.4 billion parameters, a model that Table 4 does not list.
- The text says "lb,sp,sp" for lb,sp in Section 6. Table 13: for the large model the placement gives exactly nothing to lb.
- Appendix H speaks of an E × E × L tensor of transitions for cp, which Eq. 7 does not need; it hints at paths of the batch, not of
  each token. Experiment Rcp compares the readings.
- The theory is for top-1 routing, where sp is 0 by definition."""

NOT_RUN = """- What stands above as "not run yet": in the plan, with its seeds and its endpoint, for whoever has the hours.
- **Table 13** in samples a second: placement is counted here, not timed. **Table 14** (cost of the losses) is `strand bench
  --losses-overhead`; [speed.md](speed.md) and [gpu.md](gpu.md) have what it measured.
- **Table 6** (seven benchmarks): models of this size answer at the level of chance, so that no claim could be made.
- **Tables 2, 3, 11 and 12** (fine-tuning of models with 16 to 30 billion parameters): out of reach."""
