"""Emoji as learnt tokens of an encoder whose tokenizer does not know them, against none.

    python benchmarks/emoji.py DATA --out RUNS --seeds 3

none      the tokenizer as it is: an emoji is [UNK], and so is a word that touches it
tokens    a token for each, learnt when the training has ended (the default of a training)

DATA is a folder in the format of GoEmotions. Each way is trained once for each seed, as RUNS/WAY-SEED; a run that is
there is used. Scores are those of the validation rows: thresholds out of fold, the loss without thresholds, over all
rows, over the rows that have an emoji, and over those with an emoticon only. A difference is the mean over the seeds,
with the 95 % interval of a paired bootstrap over the rows. Then the emoji and emoticons alone that get a label of
tests/emoji_labels.yaml. The last line is one JSON object.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from emotune.config.loading import load_config
from emotune.data import emoji
from emotune.data.corpus import load_corpus, resolve_data
from emotune.data.records import Corpus
from emotune.inference.classifier import load
from emotune.labels import positives
from emotune.reporter import NullReporter
from emotune.runs import layout
from emotune.scoring.metrics import Counts, interval
from emotune.scoring.tuning import decide_out_of_fold, start_decision
from emotune.workflows.train import train

WAYS = {"none": ("model.emoji_tokens=false", "data.emoji_rows=false"), "tokens": ()}
METRICS = ("macro_f1", "micro_f1", "loss")
EMOTICON = re.compile(r"(?<!\w)[:;=]['-]?[()DPpO/]|<3|\^_\^|xD|T_T|-_-|¯")
TABLE = Path(__file__).parent.parent / "tests" / "emoji_labels.yaml"
RESAMPLES = 2000
LATIN = 0x2000  # below it are characters that are no emoji of their own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--recipe", default="goemotions")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    args = parser.parse_args()
    scores = {}
    for way in args.ways:
        for seed in range(args.seeds):
            out = args.out / f"{way}-{seed}"
            if not (out / "valid.safetensors").is_file():
                wanted = [f"data.path={args.data}", f"training.seed={seed}", *WAYS[way], *args.set]
                train(load_config(args.recipe, wanted), out, reporter=NullReporter())
            scores[way, seed] = out
    config = layout.read_config(next(iter(scores.values())))
    corpus = load_corpus(resolve_data(config.data), ("valid",))
    report(corpus, scores, args.ways, args.seeds)


def report(corpus: Corpus, runs: dict[tuple[str, int], Path], ways: list[str], seeds: int) -> None:
    """Print the scores of each way, and the differences to the first one."""
    records = corpus.splits["valid"]
    found: dict[str, object] = {}
    has = np.array([any(ord(char) > LATIN and char in emoji.words() for char in r.text) for r in records])
    emoticon = np.array([EMOTICON.search(r.text) is not None for r in records]) & ~has
    parts = {"all": has | True, "with emoji": has, "with emoticon": emoticon, "others": ~has & ~emoticon}
    rows = {name: np.flatnonzero(part) for name, part in parts.items()}
    for name, chosen in rows.items():
        print(f"{name}: {len(chosen):,} rows")
        draws = {way: [drawn(corpus, runs[way, seed], chosen) for seed in range(seeds)] for way in ways}
        for way in ways:
            for metric in METRICS:
                values = [seed[metric][0] for seed in draws[way]]
                entry = {"mean": float(np.mean(values)), "values": list(map(float, values))}
                shown = f"{entry['mean']:.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if seeds > 1 else "")
                if way != ways[0]:
                    differences = np.mean(
                        [a[metric] - b[metric] for a, b in zip(draws[way], draws[ways[0]], strict=True)], axis=0
                    )
                    low, high = interval(differences[1:])
                    entry |= {"difference": float(differences[0]), "interval": [low, high]}
                    shown += f"   {way} minus {ways[0]}: {differences[0]:+.4f} ({low:+.4f} to {high:+.4f})"
                print(f"  {way:7} {metric:9} {shown}")
                found[f"{name}/{way}/{metric}"] = entry
    for (way, seed), run in runs.items():
        alone = found[f"alone/{way}/{seed}"] = known_alone(run)
        print(f"  {way:7} seed {seed}   " + "   ".join(f"{part} alone {n} of {of}" for part, (n, of) in alone.items()))
    print(json.dumps(found))


def known_alone(run: Path) -> dict[str, tuple[int, int]]:
    """Return how many of the emoji and emoticons of the table get one of their labels, and of how many."""
    table, classifier = yaml.safe_load(TABLE.read_text(encoding="utf-8")), load(run)
    found = {}
    for part in ("emoji", "emoticons"):
        asked = [(text, set(table["groups"][group])) for group, texts in table[part].items() for text in texts]
        given = classifier([text for text, _ in asked])
        found[part] = (
            sum(bool(allowed & set(p.labels)) for (_, allowed), p in zip(asked, given, strict=True)),
            len(asked),
        )
    return found


def drawn(corpus: Corpus, run: Path, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    """Return each metric of the rows, then of the same bootstrap draws of them for every run; shape (1 + draws,)."""
    config, (logits, targets) = layout.read_config(run), layout.read_valid(run, corpus.labels)
    start = start_decision(corpus.labels, config.decision)
    positive = positives(targets)
    decided = decide_out_of_fold(logits, targets, start, config.tuning)[rows]
    counts = Counts.of(positive[rows], decided)
    wrong = np.clip(np.where(positive, 1 - start.probabilities(logits), start.probabilities(logits)), 0, 1 - 1e-7)
    losses = -np.log1p(-wrong[rows]).sum(axis=1)  # negative log likelihood of a row, over its labels
    n, rng = len(rows), np.random.default_rng(0)
    weights = np.stack([np.ones(n), *(np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(RESAMPLES))])
    metrics = counts.sums(weights).metrics()
    return {name: metrics[name] for name in METRICS[:2]} | {"loss": weights @ losses / n}


if __name__ == "__main__":
    main()
