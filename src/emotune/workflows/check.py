"""`emotune check`: run a behaviour test suite on a model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotune.artifact.opening import open_model
from emotune.config.behaviour import SUITE, Case, Kind, read_suite
from emotune.display import FrameData, Shown, Table
from emotune.errors import UsageError
from emotune.inference.classifier import EmotionClassifier, Prediction, run_model
from emotune.reporter import Reporter

SATURATED = 0.9  # from this probability on, a label has no room to rise in a directional test
_SHOWN = 3  # highest scores that are shown of a text without labels


@dataclass(frozen=True)
class Result:
    """A case, whether the model passes it (None: skipped), and what the model said (empty: skipped)."""

    case: Case
    passed: bool | None
    found: str

    def to_json(self) -> dict[str, Any]:
        """Return the case with its outcome; `passed` is null for a skipped case."""
        case = self.case
        return {
            "capability": case.capability,
            "kind": str(case.kind),
            "line": case.place.line,
            "texts": list(case.texts),
            "expected": expectation(case),
            "passed": self.passed,
            "found": self.found or None,
            "skipped": case.skipped or None,
        }


@dataclass(frozen=True)
class Tally:
    """The cases that apply to the model, those it passes, and those that are skipped."""

    cases: int
    passed: int
    skipped: int

    @property
    def rate(self) -> float | None:
        """The share of the cases that are passed; None without cases."""
        return self.passed / self.cases if self.cases else None

    @property
    def percentage(self) -> str:
        """The rate in percent; empty without cases."""
        return "" if self.rate is None else f"{100 * self.rate:.1f} %"

    @classmethod
    def of(cls, results: Iterable[Result]) -> "Tally":
        """Count results."""
        outcomes = [result.passed for result in results]
        skipped = outcomes.count(None)
        return cls(len(outcomes) - skipped, outcomes.count(True), skipped)

    def to_json(self) -> dict[str, Any]:
        """Return the counts and the pass rate."""
        return {"cases": self.cases, "passed": self.passed, "skipped": self.skipped, "pass_rate": self.rate}


@dataclass(frozen=True, repr=False)
class CheckOutcome(Shown):
    """The results of a suite, in its order. `suite`: the name of its file."""

    model: str
    suite: str
    results: tuple[Result, ...]

    @property
    def total(self) -> Tally:
        """The counts of all cases."""
        return Tally.of(self.results)

    @property
    def capabilities(self) -> dict[str, Tally]:
        """The counts of each capability, in the order of the suite."""
        names = dict.fromkeys(result.case.capability for result in self.results)
        return {name: Tally.of(r for r in self.results if r.case.capability == name) for name in names}

    @property
    def table(self) -> Table:
        """The counts and pass rate of each capability, and of all; skipped cases only where there are some."""
        skips = self.total.skipped > 0

        def row(name: str, tally: Tally) -> tuple[str, ...]:
            return (
                name,
                f"{tally.passed}",
                f"{tally.cases}",
                tally.percentage,
                *([f"{tally.skipped}"] if skips else []),
            )

        header = ("capability", "passed", "cases", "pass rate", *(["skipped"] if skips else []))
        tallies = {**self.capabilities, "all": self.total}
        return Table(header, tuple(row(name, tally) for name, tally in tallies.items()))

    def _lines(self) -> Iterator[str]:
        total = self.total
        yield f"{self.suite} on {self.model}: {total.passed:,} of {total.cases:,} cases passed ({total.percentage})"

    def _tables(self) -> Iterator[tuple[str, Table]]:
        yield "", self.table
        failed = [result for result in self.results if result.passed is False]
        rows = tuple((str(r.case.place), r.case.texts[0], expectation(r.case), r.found) for r in failed)
        yield f"Failed ({len(failed)})", Table(("case", "text", "expected", "found"), rows)

    def _data(self) -> FrameData:
        """Return a row for each case."""
        return [result.to_json() for result in self.results]

    def to_json(self) -> dict[str, Any]:
        """Return what `emotune check --json` prints: the counts, overall and by capability, and every case."""
        return {
            "model": self.model,
            "suite": self.suite,
            **self.total.to_json(),
            "capabilities": {name: tally.to_json() for name, tally in self.capabilities.items()},
            "results": [result.to_json() for result in self.results],
        }


def check(
    model: str,
    suite: Path | None,
    *,
    reporter: Reporter,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int = 64,
) -> CheckOutcome:
    """Run a suite on a model; without a path, the one of the package.

    Raises ConfigError for an invalid suite, UsageError if none of its cases applies to the model's labels.
    """
    found = open_model(model)
    cases = read_suite(suite, found.decision.labels)
    classifier = run_model(found, device=device, warn=reporter.warn, threads=threads)
    results = run_cases(classifier, cases, batch_size)
    if all(result.passed is None for result in results):
        hint = f"Write cases for the model's labels: {', '.join(classifier.labels.names[:10])} (docs/check.md)."
        raise UsageError(f"none of the {len(cases):,} cases applies: {cases[0].skipped}", hint=hint)
    return CheckOutcome(model, SUITE if suite is None else str(suite), results)


def run_cases(classifier: EmotionClassifier, cases: Sequence[Case], batch_size: int) -> tuple[Result, ...]:
    """Judge cases; all texts are predicted together."""
    texts = dict.fromkeys(text for case in cases if not case.skipped for text in case.texts)
    answers = {each.text: each for each in classifier.predict(list(texts), batch_size=batch_size)}
    return tuple(Result(case, None, "") if case.skipped else judge(case, answers) for case in cases)


def judge(case: Case, answers: Mapping[str, Prediction]) -> Result:
    """Judge a case by the predictions of its texts."""
    predictions = [answers[text] for text in case.texts]
    judged = {Kind.MINIMUM: _minimum, Kind.INVARIANCE: _invariance, Kind.DIRECTIONAL: _directional}
    return Result(case, *judged[case.kind](case, predictions))


def _minimum(case: Case, predictions: Sequence[Prediction]) -> tuple[bool, str]:
    (prediction,) = predictions
    labels = set(prediction.labels)
    expected = case.expect is None or (bool(labels & set(case.expect)) if case.expect else not labels)
    also = not case.also or bool(labels & set(case.also))
    scores = {name: prediction.scores[name] for name in prediction.labels} or prediction.top(_SHOWN)
    shown = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
    found = shown if labels else f"no label (highest: {shown})" if shown else "no label"
    return expected and also and not labels & set(case.never), found


def _invariance(case: Case, predictions: Sequence[Prediction]) -> tuple[bool, str]:
    def score(prediction: Prediction, label: str) -> float:
        return prediction.scores.get(label, 0.0)  # a blank text has no scores

    extremes = {
        label: (min(predictions, key=lambda p: score(p, label)), max(predictions, key=lambda p: score(p, label)))
        for prediction in predictions
        for label in prediction.scores
    }
    ranges = {label: score(high, label) - score(low, label) for label, (low, high) in extremes.items()}
    if not ranges:  # all texts are blank
        return True, "no scores"
    label = max(ranges, key=lambda name: ranges[name])
    low, high = extremes[label]
    ends = (f"{score(each, label):.2f} for {each.text!r}" for each in (low, high))
    return ranges[label] <= case.within, f"{label} moves by {ranges[label]:.2f}: {' to '.join(ends)}"


def _directional(case: Case, predictions: Sequence[Prediction]) -> tuple[bool, str]:
    score, than = (max(prediction.scores.get(name, 0.0) for name in case.more) for prediction in predictions)
    rises = score > than and score - than >= case.by
    saturated = case.by == 0 and min(score, than) >= SATURATED
    return rises or saturated, f"{score:.3f} against {than:.3f}"


def expectation(case: Case) -> str:
    """Return what a case expects, in words."""
    if case.kind is Kind.INVARIANCE:
        return f"each label within {case.within:g}"
    if case.kind is Kind.DIRECTIONAL:
        return f"more {' or '.join(case.more)} than {case.texts[1]!r}" + (f", by {case.by:g}" if case.by else "")
    parts = [] if case.expect is None else [" or ".join(case.expect) or "no label"]
    parts += ["also " + " or ".join(case.also)] if case.also else []
    parts += ["not " + " or ".join(case.never)] if case.never else []
    return "; ".join(parts)
