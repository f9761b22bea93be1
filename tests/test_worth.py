"""Whether the transformer is worth it: the sentence follows the corrected difference and the costs."""

from dataclasses import replace

import numpy as np
import pytest

from emotune.labels import LabelSet, Task
from emotune.reports.comparison import ComparisonReport
from emotune.reports.ladder import RungLine, Worth, rung_table, worth
from emotune.scoring.comparison import Entry, Outcome, compare

LABELS = LabelSet(("anger", "joy"), Task.MULTI_LABEL)
ROWS = 400
TARGETS = np.random.default_rng(0).random((ROWS, 2)) < 0.4


def entry(name: str, wrong: float, seconds: float, *, seed: int = 0, size: int = 1_000, speed: float = 100.0) -> Entry:
    """A rung that is wrong in that share of the decisions."""
    flipped = np.random.default_rng(seed).random(TARGETS.shape) < wrong
    decided = TARGETS ^ flipped
    return Entry(name, (Outcome(decided, decided.astype(np.float64), 0),), seconds, size, speed)


def judged(*entries: Entry, left_out: tuple[RungLine, ...] = ()) -> Worth:
    report = ComparisonReport(compare(LABELS, TARGETS, entries), "rows")
    lines = [RungLine(e.name, "", e.name in ("frozen", "full"), 1.0, (0,)) for e in entries]
    return worth(report, [*lines, *left_out])


def test_clearly_better_it_is_worth_its_cost() -> None:
    found = judged(
        entry("tfidf", 0.3, 2, seed=1), entry("frozen", 0.2, 50, seed=2), entry("full", 0.02, 100, size=90_000, seed=3)
    )
    assert (found.encoder, found.other) == ("full", "tfidf")
    assert found.sentence.startswith("The transformer is worth it here")
    assert "50 × the training time (1.7 min instead of 2.0 s), 90 × the size" in found.sentence
    assert "after correction for 3 comparisons" in found.sentence
    assert found.difference is not None
    assert 0 < found.difference.low < found.difference.value < found.difference.high
    assert f"{found.difference.value:+.3f}" in found.sentence


def test_clearly_worse_it_is_not() -> None:
    found = judged(entry("tfidf", 0.02, 2, seed=1), entry("full", 0.3, 100, seed=2))
    assert found.sentence.startswith("The transformer is not worth it here")
    assert found.difference is not None
    assert found.difference.high < 0


def test_what_may_be_chance_is_called_so() -> None:
    found = judged(entry("tfidf", 0.2, 2, seed=1), entry("full", 0.19, 100, seed=2))
    assert "cannot be told on these 400 validation rows" in found.sentence
    assert "tfidf is the cheaper choice" in found.sentence


def test_it_is_held_against_the_best_of_the_cheaper_ones() -> None:
    dear = entry("bilstm", 0.05, 500, seed=1)
    cheap = [entry("dummy", 0.5, 0.1, seed=2), entry("tfidf", 0.2, 2, seed=3), entry("features", 0.3, 20, seed=4)]
    assert judged(dear, *cheap, entry("full", 0.1, 100, seed=5)).other == "tfidf"
    assert judged(dear, entry("full", 0.1, 100, seed=5)).other == "bilstm"  # where nothing is cheaper


def test_an_encoder_that_costs_less_than_the_others_is_not_called_the_dearer_one() -> None:
    bilstm = entry("bilstm", 0.2, 100, seed=1)
    chance = judged(bilstm, entry("full", 0.19, 10, seed=2)).sentence
    assert "full is the cheaper choice (the encoder takes 0.1 × the training time" in chance
    assert "bilstm is the cheaper" not in chance
    better = judged(bilstm, entry("full", 0.02, 10, seed=2)).sentence
    assert better.startswith("The transformer is worth it here: ")
    worse = judged(entry("bilstm", 0.02, 100, seed=1), entry("full", 0.3, 10, seed=2)).sentence
    assert worse.startswith("The transformer is not the best here, but cheaper: ")
    assert "either will do" in judged(bilstm, entry("full", 0.19, 100, seed=2)).sentence


def test_without_one_of_both_it_cannot_be_said() -> None:
    late = RungLine("full", "", transformer=True, expected=600.0, skipped="it would take about 10 min")
    found = judged(entry("tfidf", 0.2, 2), left_out=(late,))
    assert "trained none (full: it would take about 10 min)" in found.sentence
    assert found.to_json()["difference"] is None
    assert "trained nothing else" in judged(entry("full", 0.2, 100)).sentence


def test_a_metric_that_is_not_defined_is_said() -> None:
    empty = np.zeros_like(TARGETS)
    entries = [
        replace(entry(name, 0.1, seconds), outcomes=(Outcome(empty, empty * 0.0),))
        for name, seconds in (("tfidf", 1.0), ("full", 9.0))
    ]
    report = ComparisonReport(compare(LABELS, empty, entries), "rows")
    lines = [RungLine("tfidf", "", False, 1.0), RungLine("full", "", True, 1.0)]
    assert "is not defined" in worth(report, lines).sentence


def test_the_table_of_rungs_names_what_is_left_out() -> None:
    table = rung_table(
        [
            RungLine("dummy", "frequencies", False, 0.5, (0, 1)),
            RungLine("bilstm", "", False, 3.0, (0,), failed=(1, "the loss is nan")),
            RungLine("full", "all of it", True, None, skipped="no time"),
        ]
    )
    assert table.rows == (
        ("dummy", "frequencies", "0.5 s", "0, 1", ""),
        ("bilstm", "", "3.0 s", "0", "seed 1: the loss is nan"),
        ("full", "all of it", "", "none", "no time"),
    )


@pytest.mark.parametrize(("seconds", "told"), [(3.0, "1.5 ×"), (1.0, "0.5 ×"), (2.1, None)])
def test_costs_that_differ_are_told_as_ratios(seconds: float, told: str | None) -> None:
    sentence = judged(entry("tfidf", 0.02, 2, seed=1), entry("full", 0.3, seconds, seed=2)).sentence
    assert (told or "× the training time") in sentence if told else "× the training time" not in sentence
