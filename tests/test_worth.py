"""The sentence on the transformer's worth follows the corrected difference and the costs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emotune.labels import LabelSet, Task
from emotune.reports.comparison import ComparisonReport
from emotune.reports.ladder import Approach, Worth, approach_table, worth
from emotune.scoring.comparison import Entry, Outcome, compare

LABELS = LabelSet(("anger", "joy"), Task.MULTI_LABEL)
ROWS, RUN = 400, Path("run")
TARGETS = np.random.default_rng(0).random((ROWS, 2)) < 0.4


def entry(name: str, wrong: float, seconds: float, *, seed: int = 0, size: int = 1_000) -> Entry:
    """An approach with that share of wrong decisions."""
    decided = TARGETS ^ (np.random.default_rng(seed).random(TARGETS.shape) < wrong)
    return Entry(name, (Outcome(decided, decided.astype(np.float64), 0),), seconds, size, 100.0)


def judged(*entries: Entry) -> Worth:
    report = ComparisonReport(compare(LABELS, TARGETS, entries), "rows")
    return worth(report, [Approach(e.name, "", e.name in ("frozen", "full"), 1.0) for e in entries])


def test_significantly_better_it_is_worth_its_cost() -> None:
    found = judged(
        entry("tfidf", 0.3, 2, seed=1), entry("frozen", 0.2, 50, seed=2), entry("full", 0.02, 100, size=90_000, seed=3)
    )
    assert (found.encoder, found.other) == ("full", "tfidf")
    assert found.sentence.startswith("The transformer is worth it here if its cost does not matter: ")
    assert "50 × the training time (1.7 min instead of 2.0 s), 90 × the size" in found.sentence
    assert "after correction for 3 comparisons" in found.sentence
    assert found.difference is not None
    assert 0 < found.difference.low < found.difference.value < found.difference.high
    assert f"{found.difference.value:+.3f}" in found.sentence


def test_significantly_worse_it_is_not() -> None:
    found = judged(entry("tfidf", 0.02, 2, seed=1), entry("full", 0.3, 100, seed=2))
    assert found.sentence.startswith("The transformer is not worth it here")
    assert found.difference is not None
    assert found.difference.high < 0


def test_a_difference_that_is_not_significant() -> None:
    sentence = judged(entry("tfidf", 0.2, 2, seed=1), entry("full", 0.19, 100, seed=2)).sentence
    assert "These 400 validation rows do not show" in sentence
    assert "not significant" in sentence
    assert "tfidf is the cheaper choice" in sentence


def test_it_is_compared_with_the_best_of_the_cheaper_ones() -> None:
    dear = entry("bilstm", 0.05, 500, seed=1)
    cheap = [entry("dummy", 0.5, 0.1, seed=2), entry("tfidf", 0.2, 2, seed=3), entry("features", 0.3, 20, seed=4)]
    assert judged(dear, *cheap, entry("full", 0.1, 100, seed=5)).other == "tfidf"
    assert judged(dear, entry("full", 0.1, 100, seed=5)).other == "bilstm"  # where nothing is cheaper


def test_an_encoder_that_costs_less_than_the_others() -> None:
    bilstm = entry("bilstm", 0.2, 100, seed=1)
    chance = judged(bilstm, entry("full", 0.19, 10, seed=2)).sentence
    assert "full is the cheaper choice (full takes 0.1 × the training time" in chance
    assert judged(bilstm, entry("full", 0.02, 10, seed=2)).sentence.startswith("The transformer is worth it here: ")
    worse = judged(entry("bilstm", 0.02, 100, seed=1), entry("full", 0.3, 10, seed=2)).sentence
    assert worse.startswith("The transformer is not the best here, but cheaper: ")
    assert "either will do" in judged(bilstm, entry("full", 0.19, 100, seed=2)).sentence


def test_it_is_unknown_without_one_of_both_or_a_metric() -> None:
    found = judged(entry("tfidf", 0.2, 2))
    assert "none was trained" in found.sentence
    assert found.to_json()["difference"] is None
    assert "nothing else was trained" in judged(entry("full", 0.2, 100)).sentence
    empty = np.zeros_like(TARGETS)
    entries = [
        replace(entry(name, 0.1, seconds), outcomes=(Outcome(empty, empty * 0.0),))
        for name, seconds in (("tfidf", 1.0), ("full", 9.0))
    ]
    report = ComparisonReport(compare(LABELS, empty, entries), "rows")
    lines = [Approach("tfidf", "", False, 1.0), Approach("full", "", True, 1.0)]
    assert "is not defined" in worth(report, lines).sentence


def test_the_table_names_what_is_skipped() -> None:
    lines = [
        Approach("dummy", "frequencies", False, 0.5, {0: RUN, 1: RUN}),
        Approach("bilstm", "", False, 3.0, {0: RUN}, failed=(1, "the loss is nan")),
        Approach("full", "all of it", True, None, skipped="no time"),
    ]
    assert approach_table(lines).rows == (
        ("dummy", "frequencies", "0.5 s", "0, 1", ""),
        ("bilstm", "", "3.0 s", "0", "seed 1: the loss is nan"),
        ("full", "all of it", "", "none", "no time"),
    )


@pytest.mark.parametrize(("seconds", "shown"), [(3.0, "1.5 ×"), (1.0, "0.5 ×"), (2.1, None)])
def test_costs_that_differ_are_ratios(seconds: float, shown: str | None) -> None:
    sentence = judged(entry("tfidf", 0.02, 2, seed=1), entry("full", 0.3, seconds, seed=2)).sentence
    assert ("× the training time" in sentence) == (shown is not None)
    assert (shown or "") in sentence
