"""The sentence on the transformer's worth follows the corrected difference and the costs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotune.labels import LabelSet, Task
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
    return worth(compare(LABELS, TARGETS, entries), [approach(e.name) for e in entries])


def approach(name: str, **more: Any) -> Approach:
    return Approach(name, "", "encoder" if name in ("frozen", "full") else name, **more)


def test_significantly_better_it_is_worth_its_cost() -> None:
    found = judged(
        entry("tfidf", 0.3, 2, seed=1), entry("frozen", 0.2, 50, seed=2), entry("full", 0.02, 100, size=90_000, seed=3)
    )
    assert (found.encoder, found.other) == ("full", "tfidf")
    assert found.sentence.startswith("The transformer is worth it here if its cost does not matter: ")
    assert "full takes 50 × the training time, 90 × the size, 1 × the time for a text" in found.sentence
    assert f"p {found.p_holm:.3f} after correction" in found.sentence
    low, high = interval(found)
    assert found.difference is not None
    assert 0 < low < found.difference < high
    assert f"{found.difference:+.3f}" in found.sentence


def interval(found: Worth) -> tuple[float, float]:
    assert found.interval is not None
    low, high = found.interval
    assert low is not None
    assert high is not None
    return low, high


def test_significantly_worse_it_is_not() -> None:
    found = judged(entry("tfidf", 0.02, 2, seed=1), entry("full", 0.3, 100, seed=2))
    assert found.sentence.startswith("The transformer is not worth its cost here")
    assert interval(found)[1] < 0


def test_a_difference_that_is_not_significant() -> None:
    sentence = judged(entry("tfidf", 0.2, 2, seed=1), entry("full", 0.19, 100, seed=2)).sentence
    assert "400 validation rows do not show" in sentence
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
    assert "full is the cheaper choice" in chance
    assert "full takes 0.1 × the training time" in chance
    assert judged(bilstm, entry("full", 0.02, 10, seed=2)).sentence.startswith("The transformer is worth it here: ")
    worse = judged(entry("bilstm", 0.02, 100, seed=1), entry("full", 0.3, 10, seed=2)).sentence
    assert worse.startswith("The transformer is not worth its cost here: ")


def test_it_is_unknown_without_one_of_both_or_a_metric() -> None:
    found = judged(entry("tfidf", 0.2, 2))
    assert "no transformer was trained" in found.sentence
    assert found.difference is None
    assert "nothing else was trained" in judged(entry("full", 0.2, 100)).sentence
    empty = np.zeros_like(TARGETS)
    entries = [
        replace(entry(name, 0.1, seconds), outcomes=(Outcome(empty, empty * 0.0),))
        for name, seconds in (("tfidf", 1.0), ("full", 9.0))
    ]
    found = worth(compare(LABELS, empty, entries), [approach("tfidf"), approach("full")])
    assert "macro-F1 is undefined" in found.sentence
    assert (found.encoder, found.difference, found.interval) == ("full", None, (None, None))


def test_the_table_of_approaches_and_their_json() -> None:
    lines = [
        approach("dummy", seconds=0.5, trained={0: RUN, 1: RUN}),
        approach("bilstm", seconds=3.0, trained={0: RUN}, failed=1, reason="the loss is nan"),
        approach("full", reason="no time"),
    ]
    assert approach_table(lines).rows == (
        ("dummy", "", "0.5 s", "2"),
        ("bilstm", "", "3.0 s", "1"),
        ("full", "", "", "0"),
    )
    assert [line.to_json()["skipped"] for line in lines] == [None, None, "no time"]
    assert [line.to_json()["failed"] for line in lines] == [None, {"seed": 1, "reason": "the loss is nan"}, None]


@pytest.mark.parametrize(("seconds", "shown"), [(3.0, "1.5"), (1.0, "0.5"), (2500.0, "1,200"), (0.02, "0.01")])
def test_costs_are_ratios(seconds: float, shown: str) -> None:
    sentence = judged(entry("tfidf", 0.02, 2, seed=1), entry("full", 0.3, seconds, seed=2)).sentence
    assert f"full takes {shown} × the training time" in sentence
