"""The effect of training methods: a recipe and variants of it, over seeds, scored as in quality.py.

    python benchmarks/methods.py semeval2025 --data DIR --trials trials --seeds 3 --folds 5
    python benchmarks/methods.py semeval2025 --data DIR --trials trials --seeds 1 --folds 5 --folds-used 2 \\
        --variants asl,mlp,optimizer.layer_decay=0.8+loss.smoothing=0.1
    python benchmarks/methods.py semeval2025 --data DIR --trials trials --seeds 3 --folds 5 --report

A variant is one of the names below, or settings joined by `+`. Each finished trial (variant, seed, fold) is written to
the folder --trials and not trained again, so the study can be stopped, resumed and extended; --report trains nothing.
With --folds, models are trained on all but one fold of the training rows and scored on that fold; --folds-used uses
only the first N folds.

Prints a table: mean and standard deviation over seeds, the mean difference from the recipe with the same seed and rows,
its standard deviation over seeds, and its 95 % interval over the rows (paired bootstrap, mean over seeds). With
--markdown, prints a table for docs/results.md. The last line is one JSON object.
"""

import argparse
import hashlib
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from emotune.config.loading import load_config
from emotune.config.schema import Config
from emotune.data.corpus import folds_of, load_corpus, resolve_data
from emotune.data.records import Corpus, fingerprint
from emotune.decision import Decision
from emotune.errors import ConfigError
from emotune.labels import positives
from emotune.runs import layout
from emotune.scoring.metrics import Counts
from emotune.scoring.tuning import decide_out_of_fold
from quality import trained, without

BASELINE = "baseline"
VARIANTS = {
    BASELINE: (),
    "asl": ("loss.name=asl",),
    "asl_mild": ("loss.name=asl", "loss.gamma_neg=2", "loss.clip=0"),
    "focal": ("loss.name=focal",),
    "ratio": ("loss.weights=ratio",),
    "sqrt_ratio": ("loss.weights=sqrt_ratio",),
    "balanced": ("loss.weights=balanced",),
    "effective_number": ("loss.weights=effective_number",),
    "smoothing_0.05": ("loss.smoothing=0.05",),
    "smoothing_0.1": ("loss.smoothing=0.1",),
    "layer_decay_1": ("optimizer.layer_decay=1",),
    "layer_decay_0.9": ("optimizer.layer_decay=0.9",),
    "layer_decay_0.8": ("optimizer.layer_decay=0.8",),
    "ema_0": ("training.ema=0",),
    "ema_0.99": ("training.ema=0.99",),
    "ema_0.998": ("training.ema=0.998",),
    "adam": ("optimizer.name=adam", "optimizer.weight_decay=0"),
    "sgd": ("optimizer.name=sgd", "optimizer.weight_decay=0", "optimizer.lr=0.02", "optimizer.head_lr=0.05"),
    "no_weight_decay": ("optimizer.weight_decay=0",),
    "decay_everything": ("optimizer.no_decay=[]",),
    "mlp": ("model.head=mlp",),
    "mlp_128": ("model.head=mlp", "model.head_hidden=128"),
    "word_embeddings": ("model.freeze_word_embeddings=false",),
    "class_pooling": ("model.pooling=class",),
    "biases_and_head": ('model.train_only=["*.bias", "*pooler*", "classifier.*"]',),
}
METRICS = ("macro_f1", "micro_f1")
RESAMPLES = 1000


@dataclass(frozen=True)
class Row:
    """The result of a variant: by metric the mean over seeds, and the difference from the baseline."""

    variant: str
    seeds: int
    mean: dict[str, float]
    sd: dict[str, float | None]
    difference: dict[str, float]
    difference_sd: dict[str, float | None]
    interval: dict[str, tuple[float, float]]
    seconds: float


@dataclass(frozen=True)
class Trial:
    """A finished training: its key, variant, seed and fold, and its seconds."""

    key: str
    variant: str
    seed: int
    fold: int | None
    seconds: float


class Trials:
    """The finished trials of a folder: one line each in trials.jsonl, and the logits of the held-out rows."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._list = folder, folder / "trials.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        lines = self._list.read_text(encoding="utf-8").splitlines() if self._list.is_file() else []
        found = (Trial(**json.loads(line)) for line in lines if line.endswith("}"))  # skip a line that a kill cut off
        self.finished = {trial.key: trial for trial in found}

    def add(self, trial: Trial, logits: npt.NDArray[np.float32]) -> None:
        layout.save_arrays(self._folder / f"{trial.key}.safetensors", logits=logits)
        with self._list.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(asdict(trial))}\n")
        self.finished[trial.key] = trial

    def logits(self, key: str) -> npt.NDArray[np.float32]:
        return layout.load_arrays(self._folder / f"{key}.safetensors")["logits"]


class Study:
    """A recipe, its variants, and the rows they are scored on."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.trials = args, Trials(args.trials)
        names = [BASELINE, *(args.variants.split(",") if args.variants else VARIANTS)]
        self.variants = self._distinct(dict.fromkeys(names))
        self.corpus: Corpus = load_corpus(resolve_data(self.config(BASELINE, 0).data))
        split = "train" if args.folds else "valid"
        self.targets = self.corpus.targets(split)
        train, labels = self.corpus.splits["train"], len(self.corpus.labels)
        self.parts = folds_of(train, labels, args.folds) - 1 if args.folds else None
        self.folds: Sequence[int | None] = range(args.folds_used or args.folds) if args.folds else (None,)
        self.data = {name: fingerprint(rows, self.corpus.labels) for name, rows in self.corpus.splits.items()}

    def config(self, variant: str, seed: int) -> Config:
        data = [f"data.path={json.dumps(self.args.data)}"] if self.args.data else []
        overrides = VARIANTS.get(variant) or [part for part in variant.split("+") if "=" in part]
        if variant not in VARIANTS and not overrides:
            sys.exit(f"unknown variant {variant!r}; allowed: {', '.join(VARIANTS)}, or settings a.b=c joined by +")
        return load_config(self.args.recipe, [*self.args.set, *data, *overrides, f"training.seed={seed}"])

    def _distinct(self, names: dict[str, None]) -> list[str]:
        """Return the variants without those that equal the recipe."""
        base = self.config(BASELINE, 0)
        same = [name for name in names if name != BASELINE and self.config(name, 0) == base]
        if same:
            print(f"{', '.join(same)}: equal to the recipe, left out", file=sys.stderr)
        return [name for name in names if name not in same]

    def key(self, variant: str, seed: int, fold: int | None) -> str:
        """Return the key of a trial: a hash of its settings that are not defaults, its data and its fold."""
        settings = self.config(variant, seed).model_dump(mode="json", exclude_defaults=True, by_alias=True)
        for other in ("name", "about", "data", "tracking"):
            settings.pop(other, None)
        about = {"settings": settings, "data": self.data, "fold": fold, "folds": self.args.folds}
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]

    def train(self) -> None:
        """Train the missing trials, fold by fold, so that variants can be compared after each fold."""
        for seed in range(self.args.seeds):
            for fold in self.folds:
                for variant in list(self.variants):
                    if self.key(variant, seed, fold) not in self.trials.finished:
                        self._train_one(variant, seed, fold)

    def _train_one(self, variant: str, seed: int, fold: int | None) -> None:
        config, start = self.config(variant, seed), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            if fold is not None:
                config = without(config, fold + 1, self.args.folds)
            try:
                logits, _ = trained(config, Path(folder) / "run", self.corpus.labels)
            except ConfigError as error:
                print(f"{variant}: {error.message}, left out", file=sys.stderr)
                self.variants.remove(variant)
                return
        seconds = time.perf_counter() - start
        self.trials.add(Trial(self.key(variant, seed, fold), variant, seed, fold, seconds), logits)
        print(f"seed {seed} fold {fold} {variant}: {seconds:.0f} s", file=sys.stderr, flush=True)

    def rows(self) -> Iterator[Row]:
        """Yield a row for each variant that shares a finished seed with the baseline."""
        base = self._judged(BASELINE)
        for variant in self.variants:
            mine = self._judged(variant)
            seeds = sorted(mine.keys() & base.keys())
            if seeds:
                yield self._row(variant, [mine[s] for s in seeds], [base[s] for s in seeds])

    def _judged(self, variant: str) -> dict[int, Counts]:
        """Return the counts of the out-of-fold decisions of each finished seed, over all used folds."""
        found = {}
        for seed in range(self.args.seeds):
            keys = {fold: self.key(variant, seed, fold) for fold in self.folds}
            if not all(key in self.trials.finished for key in keys.values()):
                continue
            logits = np.concatenate([self.trials.logits(key) for key in keys.values()])
            targets = np.concatenate([self._targets(fold) for fold in keys])
            start = Decision.default(self.corpus.labels)
            decided = decide_out_of_fold(logits, targets, start, self.config(variant, seed).tuning)
            found[seed] = Counts.of(positives(targets), decided)
        return found

    def _targets(self, fold: int | None) -> npt.NDArray[np.float32]:
        return self.targets if self.parts is None else self.targets[self.parts == fold]

    def _row(self, variant: str, mine: Sequence[Counts], base: Sequence[Counts]) -> Row:
        values, others = ([_total(counts) for counts in both] for both in (mine, base))
        differences = {m: [a[m] - b[m] for a, b in zip(values, others, strict=True)] for m in METRICS}
        # the same seed gives the same draws of rows, so differences are paired
        drawn, drawn_base = ([c.bootstrap(RESAMPLES, 0).metrics() for c in both] for both in (mine, base))
        spread = {m: np.mean([a[m] - b[m] for a, b in zip(drawn, drawn_base, strict=True)], axis=0) for m in METRICS}
        keys = {self.key(variant, seed, fold) for seed in range(self.args.seeds) for fold in self.folds}
        return Row(
            variant,
            len(mine),
            mean={m: statistics.fmean(v[m] for v in values) for m in METRICS},
            sd={m: _sd([v[m] for v in values]) for m in METRICS},
            difference={m: statistics.fmean(differences[m]) for m in METRICS},
            difference_sd={m: _sd(differences[m]) for m in METRICS},
            interval={
                m: (float(np.percentile(spread[m], 2.5)), float(np.percentile(spread[m], 97.5))) for m in METRICS
            },
            seconds=statistics.fmean(t.seconds for k, t in self.trials.finished.items() if k in keys),
        )


def _total(counts: Counts) -> dict[str, float]:
    metrics = counts.total().metrics()
    return {name: float(metrics[name][0]) for name in METRICS}


def _sd(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data", help="default: the data of the recipe")
    parser.add_argument("--trials", type=Path, required=True, help="folder of the finished trials")
    parser.add_argument("--variants", help=f"comma-separated; default, all: {', '.join(VARIANTS)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=0, help="cross-validate on the training rows")
    parser.add_argument("--folds-used", type=int, default=0, metavar="N", help="train only the first N folds")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="for the recipe and its variants")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--markdown", action="store_true", help="print the table for docs/results.md")
    args = parser.parse_args()
    if args.folds_used > args.folds:
        parser.error(f"--folds-used {args.folds_used} is more than --folds {args.folds}")
    study = Study(args)
    if not args.report:
        study.train()
    rows = sorted(study.rows(), key=lambda row: -row.difference["macro_f1"])
    if not rows:
        sys.exit("no seed is finished for the baseline and a variant")
    print(table(rows, markdown=args.markdown))
    about = {"recipe": args.recipe, "folds": args.folds, "folds_used": len(study.folds), "rows": len(study.targets)}
    machine = {"machine": platform.machine(), "torch": torch.__version__}
    print(json.dumps({**about, **machine, "variants": [asdict(row) for row in rows]}))


def table(rows: Sequence[Row], *, markdown: bool) -> str:
    """Return a table with a line for each variant."""
    header = ("variant", "seeds", "macro-F1", "difference", "95 % of rows", "micro-F1", "difference", "s a training")
    return laid_out([header, *(_cells(row) for row in rows)], markdown=markdown)


def laid_out(lines: Sequence[Sequence[str]], *, markdown: bool) -> str:
    """Format lines, the header first, as a Markdown table or in columns."""
    if markdown:
        body = [f"| {' | '.join(cells)} |" for cells in lines]
        return "\n".join([body[0], "|---" + "|---:" * (len(lines[0]) - 1) + "|", *body[1:]])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip() for cells in lines)


def _cells(row: Row) -> tuple[str, ...]:
    low, high = row.interval["macro_f1"]
    cells = [row.variant, str(row.seeds), _with_sd(row.mean["macro_f1"], row.sd["macro_f1"])]
    if row.variant == BASELINE:
        return (*cells, "–", "–", _with_sd(row.mean["micro_f1"], row.sd["micro_f1"]), "–", f"{row.seconds:.0f}")
    macro, micro = (_with_sd(row.difference[m], row.difference_sd[m], sign="+") for m in METRICS)
    mean = _with_sd(row.mean["micro_f1"], row.sd["micro_f1"])
    return (*cells, macro, f"{low:+.4f} to {high:+.4f}", mean, micro, f"{row.seconds:.0f}")


def _with_sd(value: float, sd: float | None, sign: str = "") -> str:
    return f"{value:{sign}.4f}" + ("" if sd is None else f" ± {sd:.4f}")


if __name__ == "__main__":
    main()
