"""The statistics of a comparison: by hand, by simulation, and for generated inputs."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emotune.labels import LabelSet, Task
from emotune.reports.comparison import (
    ComparisonReport,
    answers,
    comparison_report,
    confusions_of_all,
    difference_table,
    headline_metrics,
    how_corrected,
    main_table,
    place_and_text,
)
from emotune.reports.writer import Paragraph, Section, report_html, report_markdown
from emotune.scoring.comparison import (
    Comparison,
    Entry,
    Outcome,
    compare,
    holm,
    p_values,
    pareto_front,
    simultaneous_intervals,
)
from emotune.scoring.metrics import confusion, counting_metrics, score
from emotune.scoring.slices import most_confused

LABELS = LabelSet(("anger", "fear", "joy"))
CLASSES = LabelSet(LABELS.names, Task.MULTI_CLASS)
Bools = npt.NDArray[np.bool_]
MANY = np.full(10, 1_000)  # rows on which two differ


def entry(name: str, *decided: Bools, **costs: float) -> Entry:
    outcomes = tuple(Outcome(each, np.where(each, 0.9, 0.1), seed) for seed, each in enumerate(decided))
    return Entry(name, outcomes, **costs)  # type: ignore[arg-type]


def random_rows(number: int = 120, seed: int = 0, labels: int = 3) -> Bools:
    return np.random.default_rng(seed).random((number, labels)) < 0.3


def flipped(targets: Bools, share: float, seed: int) -> Bools:
    """Decisions that are wrong in this share of the cells."""
    return np.asarray(targets ^ (np.random.default_rng(seed).random(targets.shape) < share))


def compared(targets: Bools, *entries: Entry, labels: LabelSet = LABELS, **options: object) -> Comparison:
    return compare(labels, targets, entries, **({"resamples": 200} | options))  # type: ignore[arg-type]


# --- differences -----------------------------------------------------------------------------------------------


def test_an_entry_does_not_differ_from_itself() -> None:
    targets = random_rows()
    decided = flipped(targets, 0.2, 1)
    found = compared(targets, entry("a", decided), entry("b", decided))
    (d,) = found.differences
    assert (d.value, d.low, d.high, d.p, d.corrected) == (0, 0, 0, 1, 1)
    assert not found.by_label[0].won.any()
    assert not found.by_label[0].lost.any()
    assert found.disagreements == {}


def test_holm_by_hand() -> None:
    # sorted: 0.005 × 4 = 0.02, 0.01 × 3 = 0.03, 0.03 × 2 = 0.06, 0.04 × 1 = 0.04, which may not fall below 0.06
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.02, np.nan, 0.5])).tolist() == pytest.approx([0.04, np.nan, 0.5], nan_ok=True)
    assert holm(np.array([])).tolist() == []


@settings(deadline=None, max_examples=50)
@given(arrays(np.float64, st.integers(1, 8), elements=st.floats(0, 1)))
def test_holm_lies_between_the_p_values_and_bonferroni_and_keeps_their_order(p: npt.NDArray[np.float64]) -> None:
    corrected = holm(p)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, len(p) * p) + 1e-12).all()
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()


def test_p_values_by_hand() -> None:
    # the draws lie 0, 2, 1 and 3 from the difference of 2, which is 2 from nothing: two of four, and the data itself
    draws = np.array([[2.0], [4.0], [1.0], [-1.0]])
    assert p_values(np.array([2.0]), draws, MANY[:1]).tolist() == [3 / 5]
    assert np.isnan(p_values(np.array([np.nan]), draws, MANY[:1])).all()
    assert np.isnan(p_values(np.array([2.0]), np.empty((0, 1)), MANY[:1])).all()


def test_the_interval_of_one_difference_is_two_deviations_and_of_many_is_wider() -> None:
    draws = np.random.default_rng(0).normal(5, 2, (20_000, 10))
    low, high = simultaneous_intervals(np.full(1, 5.0), draws[:, :1], MANY[:1])
    assert (high - low)[0] / 2 == pytest.approx(1.96 * 2, rel=0.03)
    low, high = simultaneous_intervals(np.full(10, 5.0), draws, MANY)
    inside = ((draws > low) & (draws < high)).all(axis=1).mean()
    assert inside == pytest.approx(0.95, abs=0.005)
    assert (high - low).min() / 2 > 2.7 * 2  # independent: the 95 % quantile of the largest of ten is 2.80


def test_undefined_draws_are_left_out_and_undefined_values_have_no_interval() -> None:
    draws = np.random.default_rng(0).normal(0, 1, (500, 3))
    draws[::2, 1] = np.nan
    low, high = simultaneous_intervals(np.array([0.0, 0.0, np.nan]), draws, MANY[:3])
    assert np.isfinite([*low[:2], *high[:2]]).all()
    assert np.isnan([low[2], high[2]]).all()
    assert np.isnan(simultaneous_intervals(np.zeros(2), np.empty((0, 2)), MANY[:2])).all()


def test_of_equal_entries_few_are_called_different_and_a_worse_one_is_found() -> None:
    """The family-wise error over 60 simulated data sets: three entries as good as the baseline, and one worse."""
    rng = np.random.default_rng(0)
    false, found = 0, 0
    for draw in range(60):
        truth = rng.integers(3, size=150)
        shares = {"base": 0.3, "a": 0.3, "b": 0.3, "c": 0.3, "bad": 0.55}
        said = {name: np.where(rng.random(150) < share, (truth + 1) % 3, truth) for name, share in shares.items()}
        entries = [entry(name, np.eye(3, dtype=bool)[classes]) for name, classes in said.items()]
        result = compared(np.eye(3, dtype=bool)[truth], *entries, labels=CLASSES, baseline="base", seed=draw)
        clear = {result.measured[d.entry].entry.name for d in result.differences if d.corrected < 0.05}
        false += bool(clear - {"bad"})
        found += "bad" in clear
    assert false <= 7  # 3 are expected
    assert found >= 50


def test_against_the_best_all_pairs_are_corrected_for_and_against_a_baseline_the_others() -> None:
    targets = random_rows()
    entries = [entry(str(share), flipped(targets, share, 7)) for share in (0.3, 0.1, 0.2, 0.4)]
    best = compared(targets, *entries)
    assert (best.reference, best.named, len(best.differences)) == (1, False, 6)
    assert [d.other for d in best.differences[:3]] == [1, 1, 1]
    assert best.ranking == [1, 2, 0, 3]
    named = compared(targets, *entries, baseline="0.3")
    assert (named.reference, named.named, len(named.differences)) == (0, True, 3)
    assert [d.entry for d in named.against_reference] == [1, 2, 3]
    d = named.against_reference[0]
    assert d.value == pytest.approx(best.measured[1].metrics["macro_f1"] - best.measured[0].metrics["macro_f1"])


def test_many_comparisons_take_more_draws() -> None:
    targets = random_rows(40)
    entries = [entry(str(seed), flipped(targets, 0.1, seed)) for seed in range(6)]
    entries.append(entry("bad", ~targets))
    found = compared(targets, *entries, resamples=None)
    assert (found.resamples, found.too_few_draws) == (2100, False)
    assert all(d.corrected < 0.05 for d in found.differences if 6 in (d.entry, d.other))
    few = compared(targets, *entries, resamples=400)
    assert few.too_few_draws
    assert not any(d.corrected < 0.05 for d in few.differences)
    assert "take 420 or more" in how_corrected(ComparisonReport(few, "rows"))


def test_where_less_is_better_the_least_is_best() -> None:
    targets = random_rows()
    found = compared(targets, entry("bad", ~targets), entry("good", targets), metric="hamming_loss")
    assert found.reference == 1


def test_a_label_without_positives_is_neither_won_nor_lost() -> None:
    targets = random_rows()
    targets[:, 2] = False
    found = compared(targets, entry("bad", ~targets), entry("good", targets))
    (by_label,) = found.by_label
    assert by_label.lost.tolist() == [True, True, False]
    assert np.isnan(by_label.values[2])


# --- few rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "p"), [(1, 1.0), (4, 0.125), (5, 0.0625), (8, 2**-7)])
def test_few_rows_prove_no_more_than_a_sign_test_does(rows: int, p: float) -> None:
    targets = np.eye(3, dtype=bool)[np.arange(rows) % 3]
    wrong = np.eye(3, dtype=bool)[(np.arange(rows) + 1) % 3]
    found = compared(targets, entry("right", targets), entry("wrong", wrong), labels=CLASSES, resamples=1000)
    (d,) = found.differences
    assert (d.value, d.rows, d.p) == (-1, rows, p)
    assert np.isnan([d.low, d.high]).all(), "draws that are all the same tell no interval"
    report = ComparisonReport(found, "rows")
    assert report.to_json()["differences"][0]["interval"] == [None, None]
    assert difference_table(report).rows[0][2:4] == ("undefined", str(rows))
    assert difference_table(report).rows[0][-1] == ("worse" if p < 0.05 else "not significant")


def test_the_rows_on_which_two_differ_count_not_all_rows() -> None:
    targets = random_rows(400)
    other = targets.copy()
    other[:4, 0] ^= True
    (d,) = compared(targets, entry("a", targets), entry("b", other), resamples=1000).differences
    assert (d.rows, d.p) == (4, 0.125)
    assert np.isnan(d.low)


def test_a_label_of_few_positives_is_neither_won_nor_lost() -> None:
    targets = random_rows(200)
    targets[:, 2] = False
    targets[:4, 2] = True
    other = targets.copy()
    other[:4, 2] = False  # four of four missed
    other[:60, 1] = ~other[:60, 1]
    (by_label,) = compared(targets, entry("a", targets), entry("b", other)).by_label
    assert by_label.values[2] == -1
    assert np.isnan(by_label.low[2])
    assert by_label.lost.tolist() == [False, True, False]
    assert not by_label.won.any()


def test_a_label_whose_every_row_speaks_for_one_is_won() -> None:
    targets = random_rows()
    (by_label,) = compared(targets, entry("bad", np.zeros_like(targets)), entry("good", targets)).by_label
    assert np.isnan(by_label.low).all(), "each draw has the same difference, 1"
    assert by_label.lost.all()


# --- the labels' family ------------------------------------------------------------------------------------------


def test_label_intervals_hold_for_all_pairs_where_the_best_was_chosen_on_the_rows() -> None:
    targets = random_rows(300, labels=3)
    entries = [entry(str(seed), flipped(targets, 0.25, seed)) for seed in range(6)]
    best = compared(targets, *entries)
    name = best.measured[best.reference].entry.name
    named = compared(targets, *entries, baseline=name)
    for every, few in zip(best.by_label, named.by_label, strict=True):
        assert every.values.tolist() == few.values.tolist()
        assert (every.high - every.low > few.high - few.low).all()


def test_in_all_pairs_of_equal_entries_few_labels_are_won() -> None:
    """The family-wise error over 60 simulated data sets of four equally good entries."""
    false = 0
    for draw in range(60):
        targets = random_rows(250, seed=draw)
        entries = [entry(str(i), flipped(targets, 0.25, 1000 + 10 * draw + i)) for i in range(4)]
        found = compared(targets, *entries, seed=draw)
        false += any((d.won | d.lost).any() for d in found.by_label)
    assert false <= 6  # at most 3 are expected


# --- entries ---------------------------------------------------------------------------------------------------


def test_one_seed_has_the_scores_and_intervals_of_an_evaluation() -> None:
    targets = random_rows()
    decided = flipped(targets, 0.2, 1)
    found = compared(targets, entry("a", decided)).measured[0]
    scores = score(targets, decided, np.where(decided, 0.9, 0.1), LABELS, resamples=200)
    assert found.intervals == {name: scores.intervals[name] for name in found.metrics}
    assert found.f1_intervals[:, 0].tolist() == scores.per_label.f1_low.tolist()
    assert {name: scores.overall[name] for name in found.metrics} == pytest.approx(found.metrics)
    assert np.isnan(found.spread["macro_f1"])


def test_several_seeds_are_averaged_and_their_spread_is_reported() -> None:
    targets = random_rows()
    each = [flipped(targets, 0.2, seed) for seed in (1, 2, 3)]
    found = compared(targets, entry("a", *each)).measured[0]
    values = [counting_metrics(targets, decided)["macro_f1"] for decided in each]
    assert found.metrics["macro_f1"] == pytest.approx(np.mean(values))
    assert found.spread["macro_f1"] == pytest.approx(np.std(values, ddof=1))
    low, high = found.intervals["macro_f1"]
    assert low < found.metrics["macro_f1"] < high
    assert found.confusions.one_way[0].share <= 1


def test_entries_of_other_shapes_are_refused() -> None:
    targets = random_rows()
    for entries in ([], [entry("a", targets), entry("a", targets)], [entry("a", targets[:5])], [entry("a")]):
        with pytest.raises(ValueError, match=r"entries|shape"):
            compared(targets, *entries)


def test_rows_that_entries_answer_differently_stand_first() -> None:
    targets = np.eye(3, dtype=bool)[[0, 1, 2, 0]]
    other = np.eye(3, dtype=bool)[[0, 2, 2, 0]]
    found = compared(targets, entry("a", targets), entry("b", other), entry("c", targets), labels=CLASSES)
    assert found.disagreements == {1: pytest.approx(2 / 3)}


def test_a_report_of_several_seeds_has_their_spread_and_their_different_answers() -> None:
    targets = np.eye(3, dtype=bool)[[0, 1, 2, 0, 1]]
    wrong = np.eye(3, dtype=bool)[[0, 2, 2, 0, 1]]
    found = compared(targets, entry("two", targets, wrong, training_seconds=90.0), entry("one", wrong), labels=CLASSES)
    report = ComparisonReport(found, "rows")
    table = main_table(report, headline_metrics(report))
    assert table.header[:3] == ("run", "seeds", "accuracy")
    assert table.rows[0][:3] == ("two", "2", "0.900 ± 0.141 (0.700–1.000)")
    assert table.rows[0][-3:] == ("1.5 min", "", "time")
    assert table.rows[1][1:3] == ("1", "0.800 (0.400–1.000)")
    assert answers(report, 1) == ["fear ✓ / joy", "joy"]
    assert place_and_text(report, 1, most=300) == ("row 2", "")
    assert "After ±" in report_markdown(comparison_report(report))
    assert report.to_json()["runs"][0]["seeds"] == [0, 1]
    more = [Section("skipped", "Skipped", [Paragraph("no time left")])]
    page = report_html(comparison_report(replace(report, heading="Ladder"), more).with_pictures(()), {})
    assert "Ladder on rows, 5 rows" in page
    assert page.index("no time left") < page.index("By label</h2>")


# --- the Pareto front and confusions --------------------------------------------------------------------------------


def test_the_front_by_hand() -> None:
    quality = [0.9, 0.8, 0.8, 0.7, 0.95, 0.8]
    cost = [10, 5, 6, 1, None, 5]
    assert pareto_front(quality, cost) == [True, True, False, True, False, True]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_each_entry_lies_on_the_front_or_behind_one_that_does(pairs: list[tuple[int, int]]) -> None:
    front = pareto_front([q for q, _ in pairs], [c for _, c in pairs])
    best = [pair for pair, on in zip(pairs, front, strict=True) if on]
    assert max(q for q, _ in pairs) in [q for q, _ in best]
    for (q, c), on in zip(pairs, front, strict=True):
        better = [(bq, bc) for bq, bc in best if bq >= q and bc <= c and (bq, bc) != (q, c)]
        assert bool(better) != on


def test_a_few_bytes_make_nobody_dearer() -> None:
    targets = random_rows()
    good = entry("good", targets, num_bytes=91_600_020, training_seconds=60, texts_per_second=400)
    bad = entry("bad", ~targets, num_bytes=91_600_000, training_seconds=3, texts_per_second=400)
    found = compared(targets, good, bad)
    assert found.measured[0].fronts == ("training_seconds", "num_bytes", "seconds_per_text")
    assert found.measured[1].fronts == ("training_seconds",)


def test_the_pairs_most_confused_with_their_share_of_the_missed_label() -> None:
    targets = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)
    decided = np.array([[0, 1, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1]], dtype=bool)
    counts = confusion(targets, decided, Task.MULTI_LABEL)
    found = [(p.missed, p.said, p.texts, p.share) for p in most_confused(counts, targets.sum(axis=0))]
    assert found == [(0, 1, 2, 2 / 3), (1, 2, 1, 1.0)]
    assert len(most_confused(counts, targets.sum(axis=0), 1)) == 1
    classes = confusion(np.eye(3, dtype=bool)[[0, 0, 1]], np.eye(3, dtype=bool)[[0, 1, 1]], Task.MULTI_CLASS)
    (pair,) = most_confused(classes, np.array([2, 1, 0]))  # what is right is not confused
    assert (pair.missed, pair.said, pair.texts, pair.share) == (0, 1, 1, 0.5)


def test_confusions_are_reported_in_one_direction_in_both_and_for_two_labels() -> None:
    targets = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=bool)
    first = np.array([[1, 0, 1], [1, 0, 1], [0, 0, 1], [0, 1, 0]], dtype=bool)  # fear → joy three times, and back
    second = np.array([[0, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=bool)
    found = compared(targets, entry("twice", first, first), entry("once", second))
    report = ComparisonReport(found, "rows")
    said = {run["name"]: run for run in report.to_json()["runs"]}
    assert said["twice"]["most_confused"][0] == {"missed": "fear", "said": "joy", "texts": 6, "share": 1.0}
    assert said["twice"]["confused_pairs"] == [
        {"first": "fear", "second": "joy", "first_for_second": 6, "second_for_first": 2, "texts": 8}
    ]
    assert said["twice"]["two_label_errors"] == [{"missed": "fear", "said": "joy", "texts": 4}]
    assert said["once"]["two_label_errors"] == [{"missed": "anger", "said": "joy", "texts": 1}]
    text, page = (
        report_markdown(comparison_report(report)),
        report_html(comparison_report(report).with_pictures(()), {}),
    )
    tables = dict(confusions_of_all(report, 3))
    for caption in (
        "Most confused: missed → predicted instead, in the same text",
        "Label pairs confused with each other, both directions together",
        "Texts with two labels: one found, the other confused",
    ):
        assert caption in text
        assert caption in page
        assert [row[0] for row in tables[caption].rows][-1] == "twice"
        assert tables[caption].header[0] == "run"
