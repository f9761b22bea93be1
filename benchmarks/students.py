"""The speed, size and scores of a student beside other models, on one core, from texts to logits in process.

    taskset -c 1 python benchmarks/students.py STUDENT --others TFIDF default --data FILE [--texts 43000] [--turns 5]
    taskset -c 1 python benchmarks/students.py EXPORT --others OTHER-EXPORT --data FILE --labelled DATA

FILE has one text per line, or is a TSV file with the text in its first column (GoEmotions); it is repeated until there
are enough texts. The models take turns, and each is measured by the processor time of this process, which other
processes hardly change. A slow model scores a tenth of the texts, or a hundredth. Prints the median of the turns, the
time to load each model, its size, and how many times as fast the student is: the median of the turns' ratios. DATA is
labelled data as `emotune evaluate --data` takes it, for macro-F1 and micro-F1 of each model with thresholds out of
fold. Each model has thresholds of its own, which alone moves macro-F1 by up to 0.01: `emotune export` says what an
export loses at the same thresholds. The last line is one JSON object.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import emotune
from emotune.config.schema import TuningConfig
from emotune.decision import Decision
from emotune.inference.classifier import EmotionClassifier
from emotune.labels import positives
from emotune.runs.layout import read_other
from emotune.scoring.metrics import counting_metrics
from emotune.scoring.tuning import decide_out_of_fold
from stream import read_texts

_CHUNK, _BATCH = 8192, 64
_SECONDS = 4.0  # the most that a turn of a model takes


@dataclass
class Measured:
    """A model: its size in MB, seconds to load it and to score the first text, and texts per second of each turn."""

    name: str
    classifier: EmotionClassifier
    megabytes: float
    load_seconds: float
    texts: Sequence[str]
    speeds: list[float] = field(default_factory=list)

    @property
    def speed(self) -> float:
        return statistics.median(self.speeds)

    def times_slower(self, student: "Measured") -> float:
        """Return how many times as fast the student is: the median of the ratios of each turn."""
        return statistics.median(a / b for a, b in zip(student.speeds, self.speeds, strict=True))


def loaded(name: str, texts: Sequence[str]) -> Measured:
    """Load a model, and choose as many of the texts as it scores in a few seconds."""
    start = time.process_time()
    classifier = emotune.load(name, threads=1)
    classifier.logits(texts[0])
    seconds = time.process_time() - start
    assert classifier.directory is not None
    size = sum(path.stat().st_size for path in classifier.directory.rglob("*") if path.is_file()) / 1e6
    found = Measured(name, classifier, size, seconds, texts[: len(texts) // 100])
    speed = measure(found)
    found.texts = texts[: max(len(found.texts), int(min(len(texts), speed * _SECONDS)))]
    return found


def measure(model: Measured) -> float:
    """Return the texts per second of processor time of one pass."""
    start = time.process_time()
    for i in range(0, len(model.texts), _CHUNK):
        model.classifier.logits(model.texts[i : i + _CHUNK], batch_size=_BATCH)
    return len(model.texts) / (time.process_time() - start)


def scores(classifier: EmotionClassifier, data: str) -> dict[str, float]:
    """Return the F1 scores on labelled data, with thresholds tuned out of fold."""
    labels = classifier.labels
    split, corpus = read_other(None, data, [labels], None)
    targets = corpus.targets(split)
    logits = classifier.logits([record.text for record in corpus.splits[split]], batch_size=_BATCH)
    decided = decide_out_of_fold(logits, targets, Decision.default(labels), TuningConfig())
    found = counting_metrics(positives(targets), decided)
    return {name: round(found[name], 4) for name in ("macro_f1", "micro_f1")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", help="run or model")
    parser.add_argument("--others", nargs="+", default=["default"], help="models to compare with")
    parser.add_argument("--data", type=Path, required=True, help="texts")
    parser.add_argument("--labelled", help="labelled data, for the scores")
    parser.add_argument("--texts", type=int, default=43_000)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    texts = read_texts(args.data, args.texts)
    models = [loaded(name, texts) for name in (args.student, *args.others)]
    for _ in range(args.turns):
        for model in models:
            model.speeds.append(measure(model))
    rows: list[dict[str, Any]] = []
    for model in models:
        times = model.times_slower(models[0])
        rows.append({"model": model.name, "texts_per_second": round(model.speed), "student_is_faster": round(times, 2)})
        rows[-1] |= {"megabytes": round(model.megabytes, 1), "load_seconds": round(model.load_seconds, 3)}
        print(
            f"{model.name:40} {model.speed:10,.0f} texts/s   {times:8.2f}   {model.megabytes:6.1f} MB   "
            f"loaded in {model.load_seconds:.3f} s",
            flush=True,
        )
    for model, row in zip(models, rows, strict=True):
        if args.labelled:
            row |= scores(model.classifier, args.labelled)
            print(f"{model.name:40} macro-F1 {row['macro_f1']:.4f}  micro-F1 {row['micro_f1']:.4f}", flush=True)
    print(json.dumps({"texts": len(texts), "turns": args.turns, "models": rows}))


if __name__ == "__main__":
    main()
