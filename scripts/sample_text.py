"""Texts for tests: sentences and lines of code, made by a fixed rule.

What a test trains on must not change with the repository: a model of few steps that was trained on the repository's own
files wrote words at one commit and nothing but blanks at the next.
"""
import random

STEMS = """light water stone field river garden window market letter number paper silver winter summer morning evening
mountain village harbour station teacher doctor farmer sailor painter singer writer driver carpenter engine bridge castle
forest island valley desert meadow orchard thunder shadow mirror candle basket blanket hammer ladder needle pocket""".split()
ENDINGS = ["", "s", "less", "ward", "like", "ful"]
VERBS = ["sees", "finds", "carries", "follows", "remembers", "measures", "answers", "opens", "repairs", "describes"]
PLACES = ["near", "behind", "under", "above", "beside", "between", "around", "without", "through", "against"]
TYPES = ["int", "float", "double", "std::size_t", "const char*", "std::vector<float>"]


def documents(count=120, lines=24):
    """Some 1.6 kB of text each; the same on every machine and with every version of Python."""
    generator = random.Random(1)

    def choice(values):  # of random() alone, whose values Python promises not to change
        return values[int(generator.random() * len(values))]

    def word():
        return choice(STEMS) + choice(ENDINGS)

    def sentence():
        return (f"The {word()} {choice(VERBS)} the {word()} {choice(PLACES)} the {word()}, and "
                f"{int(generator.random() * 100)} {choice(STEMS)}s are {choice(PLACES)} it.")

    def code():
        name, other = choice(STEMS), choice(STEMS)
        return choice([f"{choice(TYPES)} {name} = {other}({int(generator.random() * 1000)});",
                       f"for (int i = 0; i < {name}; ++i) {other}[i] += {name}[i];",
                       f"  return {name} + 0.{int(generator.random() * 1000)} * {other};  // {sentence()}",
                       f"#include \"{name}/{other}.h\""])

    return ["".join((sentence() if generator.random() < 0.7 else code()) + "\n" for _ in range(lines))
            for _ in range(count)]
