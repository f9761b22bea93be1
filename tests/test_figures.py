"""Pictures plot the given values, whatever the labels are called, as safe SVGs and PNGs without metadata."""

import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotune.labels import DAIR, GOEMOTIONS, LabelSet, Task
from emotune.scoring.metrics import Scores, confusion, score
from emotune.scoring.probabilistic import Cells, precision_recall, reliability
from tiny import unchecked

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.axes import Axes  # noqa: E402 (after the guard)
from matplotlib.collections import LineCollection, QuadMesh  # noqa: E402
from matplotlib.colors import to_hex  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from emotune.reports import figures  # noqa: E402
from emotune.reports.figures import curves  # noqa: E402
from emotune.reports.figures import scores as pictures  # noqa: E402
from emotune.reports.figures.curves import LabelCurve  # noqa: E402
from emotune.reports.figures.scores import CostPoint  # noqa: E402
from emotune.runs.log import EpochPoint, StepPoint, TrainingLog  # noqa: E402

HOSTILE = (
    "$\\undefinedcommand$",
    "$\\frac{1}$",
    "$",
    "_under_score_",
    "a\\b",
    "<b>&amp;</b>",
    "{} %s {0}",
    "😡 🤗 👩‍👧",
    "愤怒",
    "क्रोध",
    "غضب شديد",
    "שמחה",
    "W" * 400,
    "غضب" * 80,
)
# what a label set may refuse, but a title or the name of a metric can hold
UNPRINTABLE = ("\ud800", "x\u2028y", "a\u202eb", "\u200b", "\u200c", "\x00", "line\nline\ttab")
SETS = {
    "1 label": LabelSet(("joy",)),
    "2 classes": LabelSet(("negative", "positive"), Task.MULTI_CLASS),
    "2 labels": LabelSet(("negative", "positive")),
    "6 classes": DAIR,
    "28 labels": GOEMOTIONS,
    "28 classes": LabelSet(GOEMOTIONS.names, Task.MULTI_CLASS),
    "45 labels": LabelSet(tuple(f"emotion {i}" + " at great length" * (i % 4) for i in range(45))),
    "hostile labels": unchecked(HOSTILE),
}
SVG_TAGS = {"svg", "g", "path", "defs", "style", "use", "text", "tspan", "clipPath", "rect", "metadata"}
RDF = {"RDF", "Work", "type"}

Bools = npt.NDArray[np.bool_]


# --- what is plotted -------------------------------------------------------------------------------------------


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def line(axes: Axes, marker: str) -> npt.NDArray[np.float64]:
    """The points of the line with this marker, shape (points, 2)."""
    (found,) = [line for line in axes.lines if line.get_marker() == marker]
    return np.asarray(found.get_xydata())


def bars(axes: Axes) -> list[npt.NDArray[np.float64]]:
    """The ends of the horizontal or vertical bars of a picture, each of shape (2, 2)."""
    collections = [found for found in axes.collections if isinstance(found, LineCollection)]
    return [np.asarray(segment) for found in collections for segment in found.get_segments()]


def cells(figure: Figure) -> npt.NDArray[np.float64]:
    """The values of the cells of a matrix, NaN for grey ones."""
    (mesh,) = [found for found in figure.axes[0].collections if isinstance(found, QuadMesh)]
    return np.ma.filled(np.ma.asarray(mesh.get_array(), dtype=float), np.nan)


def title(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts if (text.get_gid() or "").startswith(figures.TITLE))


def assert_whole(figure: Figure) -> None:
    """Nothing drawn runs over the edge, the PNG is plain, and the SVG holds no foreign style, picture or link."""
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width + 1e-6
    assert box.y1 <= height + 1e-6
    assert b"tEXt" not in figures.rendered(figure, "png")
    root = ElementTree.fromstring(figures.rendered(figure, "svg"))
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= SVG_TAGS | RDF
    assert all(value.startswith("#") for e in root.iter() for name, value in e.items() if name.endswith("href"))


# --- material --------------------------------------------------------------------------------------------------


def decided_of(labels: LabelSet, num_rows: int = 300) -> tuple[Bools, Bools]:
    """Targets and decisions that are mostly right; the last of three or more labels never occurs."""
    rng = np.random.default_rng(0)
    num_labels = len(labels)
    used = num_labels - (num_labels > 2)
    if labels.task is Task.MULTI_CLASS:
        classes = rng.integers(used, size=num_rows)
        predicted = np.where(rng.random(num_rows) < 0.7, classes, rng.integers(num_labels, size=num_rows))
        return np.eye(num_labels, dtype=bool)[classes], np.eye(num_labels, dtype=bool)[predicted]
    targets = rng.random((num_rows, num_labels)) < 2 / (num_labels + 2)
    targets[:, used:] = False
    return targets, targets ^ (rng.random(targets.shape) < 0.05)


def scores_of(labels: LabelSet, resamples: int = 20) -> Scores:
    targets, decided = decided_of(labels)
    return score(targets, decided, decided.astype(float), labels, resamples=resamples)


def curves_of(labels: LabelSet) -> list[LabelCurve]:
    targets, decided = decided_of(labels)
    noisy = np.clip(decided * 0.6 + np.random.default_rng(1).random(decided.shape) * 0.4, 0, 1)
    each = scores_of(labels, 0).per_label
    return [
        LabelCurve(
            name,
            precision_recall(targets[:, j], noisy[:, j]),
            recall=float(each.recall[j]),
            precision=float(each.precision[j]),
            threshold=None if j % 2 else 0.5,
        )
        for j, name in enumerate(labels.names)
        if each.support[j]
    ]


def epochs(count: int, *metrics: str) -> list[EpochPoint]:
    return [
        EpochPoint(i + 1, 1 / (i + 1), {name: 0.5 + 0.01 * i - 0.02 * j for j, name in enumerate(metrics)})
        for i in range(count)
    ]


def training(points: list[EpochPoint], heading: str = "title") -> Figure:
    steps = tuple(StepPoint(i + 1, point.loss, 1e-4) for i, point in enumerate(points))
    return curves.training_curves(TrainingLog(steps, tuple(points)), heading)


def points(costs: list[float | None], quality: list[float]) -> list[CostPoint]:
    return [CostPoint(q, q - 0.02, q + 0.02, c, i == 0) for i, (c, q) in enumerate(zip(costs, quality, strict=True))]


# --- every picture ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", SETS.values(), ids=SETS.keys())
def test_pictures_of_any_labels_are_whole(labels: LabelSet) -> None:
    heading, count = " ".join(labels.names), len(labels)
    assert_whole(pictures.label_f1(scores_of(labels), labels, heading))
    counts, multi = confusion(*decided_of(labels), labels.task), labels.task is Task.MULTI_LABEL
    assert_whole(pictures.confusion_matrix(counts, labels, heading, missed_extra=multi))
    assert_whole(curves.precision_recall(curves_of(labels), heading))
    by_fold = np.random.default_rng(0).random((5, count))
    assert_whole(pictures.threshold_stability(by_fold[0], by_fold, np.arange(count) * 1000, labels.names, heading))
    f1 = np.linspace(0, 1, 3 * count).reshape(3, -1)
    assert_whole(pictures.label_comparison(f1, np.arange(count), labels.names, ["a", "b", "c"], "F1 by label"))


@pytest.mark.parametrize(
    "points",
    [
        epochs(1, "macro_f1", "micro_f1"),
        epochs(300, "macro_f1"),
        epochs(3),
        epochs(4, *HOSTILE, *UNPRINTABLE),
        epochs(2, *(f"metric {i}" for i in range(30))),
        [EpochPoint(1, 3e38, {"f1": 1e-30}), EpochPoint(2, float("inf"), {"f1": float("nan")}), EpochPoint(3, 1, {})],
        [EpochPoint(7, float("nan"), {"f1": float("nan")})],
    ],
    ids=["one", "three hundred", "no metrics", "hostile", "many metrics", "diverged", "no values"],
)
def test_training_curves_are_whole(points: list[EpochPoint]) -> None:
    assert_whole(training(points))


@pytest.mark.parametrize("heading", [*UNPRINTABLE, "$\\frac{1}$ 😡 غضب", "", "W" * 5000])
def test_titles_are_drawn_as_they_stand(heading: str) -> None:
    figure = training(epochs(2, "f1"), heading)
    assert_whole(figure)
    if heading.startswith("$"):
        assert title(figure).startswith("$\\frac{1}$")


@settings(deadline=None, max_examples=5, derandomize=True)
@given(title=st.text(max_size=80), names=st.lists(st.text(max_size=40), min_size=1, max_size=3, unique=True))
def test_any_text_can_be_a_title_or_a_name(title: str, names: list[str]) -> None:
    assert_whole(training(epochs(2, *names), title))


@settings(deadline=None, max_examples=5, derandomize=True)
@given(values=st.lists(st.floats(width=32), min_size=1, max_size=4))
def test_any_value_can_be_drawn(values: list[float]) -> None:
    assert_whole(training([EpochPoint(i, value, {"f1": value}) for i, value in enumerate(values)]))


def test_same_input_gives_same_bytes_whatever_the_settings_of_the_user() -> None:
    def drawn() -> list[bytes]:
        return [figures.rendered(training(epochs(3, "$x$")), form) for form in ("png", "svg")]

    plain = drawn()
    assert drawn() == plain
    with matplotlib.rc_context({"text.usetex": True, "axes.facecolor": "red", "font.size": 30, "figure.dpi": 40}):
        before = dict(matplotlib.rcParams)
        assert drawn() == plain
        assert dict(matplotlib.rcParams) == before


def test_no_pyplot() -> None:
    program = (
        "import sys; from emotune.reports.figures.curves import training_curves;"
        "from emotune.runs.log import EpochPoint, TrainingLog;"
        "training_curves(TrainingLog(epochs=(EpochPoint(1, 1.0, {'f1': 0.5}),)), 'title');"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_unknown_costs_are_refused() -> None:
    with pytest.raises(ValueError, match="1 panels of 0 points"):
        pictures.quality_cost({"num_bytes": points([None], [0.5])}, ["a"], "macro-F1", "")


# --- F1 by label -----------------------------------------------------------------------------------------------


def test_each_label_has_its_f1_support_and_interval_the_best_first() -> None:
    scores = scores_of(DAIR)
    each, order = scores.per_label, np.argsort(-scores.per_label.f1, kind="stable")
    axes = pictures.label_f1(scores, DAIR, "title").axes[0]
    np.testing.assert_array_equal(line(axes, "o")[:, 0], each.f1[order])
    shown = words(axes)
    names = [text for text in shown if text in DAIR.names]
    assert names == [DAIR.names[i] for i in order]
    assert [shown[shown.index(name) - 1] for name in names] == [f"{each.support[i]:,}" for i in order]
    for row, i in enumerate(order[:-1]):
        assert bars(axes)[row][:, 0].tolist() == [each.f1_low[i], each.f1_high[i]]
        assert f"{each.f1[i]:.2f}" in shown
    assert f"macro-F1 {scores.overall['macro_f1']:.3f}" in shown[-1]
    assert shown.count("undefined (no positives)") == 1
    assert np.isnan(line(axes, "o")[-1, 0])


def test_intervals_and_macro_line_are_drawn_only_where_defined() -> None:
    labels, nothing = LabelSet(("a", "b")), np.zeros((5, 2))
    without = pictures.label_f1(scores_of(labels, 0), labels, "").axes[0]
    assert not any(map(len, bars(without)))
    assert without.get_xlabel() == "F1"
    assert any("macro-F1" in text for text in words(without))
    empty = pictures.label_f1(score(nothing, nothing, nothing, labels, resamples=5), labels, "").axes[0]
    assert not any("macro-F1" in text for text in words(empty))


# --- matrices --------------------------------------------------------------------------------------------------


def test_rows_of_the_matrix_are_actual_and_columns_predicted_labels() -> None:
    labels = LabelSet(("a", "b"), Task.MULTI_CLASS)
    figure = pictures.confusion_matrix([[9, 1], [0, 0]], labels, "", missed_extra=False)
    np.testing.assert_array_equal(cells(figure), [[0.9, 0.1], [np.nan, np.nan]])
    assert [(text.get_position(), text.get_text()) for text in figure.axes[0].texts] == [
        ((0.5, 0.5), "9"),
        ((1.5, 0.5), "1"),
    ]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["a", "b"]
    assert {"actual", "predicted"} <= {text.get_text() for text in figure.texts}
    missed = pictures.confusion_matrix([[0, 1], [2, 0]], LabelSet(("a", "b")), "", missed_extra=True)
    np.testing.assert_array_equal(cells(missed), [[np.nan, 1], [2, np.nan]])
    assert {"missed", "predicted instead"} <= {text.get_text() for text in missed.texts}


def test_the_normalised_matrix_has_percentages_of_the_row() -> None:
    labels = LabelSet(("a", "b"), Task.MULTI_CLASS)
    figure = pictures.confusion_matrix([[9, 1], [30, 10]], labels, "", missed_extra=False, shares=True)
    assert [text.get_text() for text in figure.axes[0].texts] == ["90", "10", "75", "25"]


@pytest.mark.parametrize(("num_labels", "written"), [(2, True), (6, True), (60, False)])
def test_counts_are_written_only_where_they_fit(num_labels: int, written: bool) -> None:
    labels = LabelSet(tuple(f"label {i}" for i in range(num_labels)), Task.MULTI_CLASS)
    counts = 10_000 * np.eye(num_labels, dtype=np.int64)
    figure = pictures.confusion_matrix(counts, labels, "", missed_extra=False)
    assert ("10000" in words(figure.axes[0])) is written


def test_long_names_are_cut_but_stay_different() -> None:
    stem = "emotion / negative / strong / lasting / "
    labels = LabelSet(("joy", stem + "fury", stem + "rage", stem * 4 + "fear"))
    figure = pictures.confusion_matrix(np.eye(4), labels, "", missed_extra=True)
    shown = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert len(set(shown)) == 4
    assert all("…" in name for name in shown[1:])
    assert [name[-4:] for name in shown[1:]] == ["fury", "rage", "fear"]


# --- curves ----------------------------------------------------------------------------------------------------


def test_a_curve_has_the_point_of_its_decisions_where_there_is_one() -> None:
    (curve,) = curves_of(SETS["1 label"])
    figure = curves.precision_recall([curve], "")
    assert line(figure.axes[0], "D").tolist() == [[curve.recall, curve.precision]]
    assert words(figure.axes[0]) == ["joy", curve.caption]
    unknown = replace(curve, precision=float("nan"))
    for draw in (curves.precision_recall_panel, lambda one: curves.precision_recall([one], "")):
        assert [found.get_marker() for found in draw(unknown).axes[0].lines].count("D") == 0
    panel = curves.precision_recall_panel(curve)
    drawn = panel.axes[0].lines[1].get_xydata()
    np.testing.assert_array_equal(np.asarray(drawn)[1:], np.c_[curve.curve.recall, curve.curve.precision])


@pytest.mark.parametrize("labels", [SETS["2 labels"], SETS["6 classes"]], ids=["labels", "classes"])
@pytest.mark.parametrize("num_rows", [1, 300])
def test_reliability_shows_observed_frequency_and_counts(labels: LabelSet, num_rows: int) -> None:
    targets, decided = decided_of(labels, num_rows)
    p = np.where(decided, 0.9, 0.1 / max(len(labels) - 1, 1))
    bins = reliability(targets, p, labels.task)
    figure = curves.reliability_diagram(bins, "reliability")
    assert_whole(figure)
    upper, lower = figure.axes
    filled = bins.counts > 0
    np.testing.assert_array_equal(line(upper, "o"), np.c_[bins.probability[filled], bins.share[filled]])
    assert upper.get_ylabel() == "observed frequency"
    assert words(lower) == [f"{count:,}" for count in bins.counts]
    assert words(upper) == [f"ECE {bins.error:.3f}"]
    top = Cells.of(targets, p, "top").reliability
    both = curves.reliability_diagram(bins, "reliability", top)
    assert_whole(both)
    drawn, filled = line(both.axes[0], "D"), top.counts > 0
    np.testing.assert_array_equal(drawn, np.c_[top.probability[filled], top.share[filled]])
    assert f"◆ top label: ECE {top.error:.3f}" in words(both.axes[0])


def test_training_curves_name_each_line_and_end_each_epoch() -> None:
    points = epochs(3, "macro_f1", "accuracy")
    loss, metrics, rate = training(points).axes
    assert [axes.get_title(loc="left") for axes in (loss, metrics, rate)] == [
        "loss",
        "validation metrics",
        "learning rate",
    ]
    legend = metrics.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["macro-F1", "accuracy"]
    drawn = [np.asarray(found.get_ydata()).tolist() for found in metrics.lines]
    assert [point.metrics["macro_f1"] for point in points] in drawn
    assert sum(to_hex(found.get_color()) == figures.RULE for found in loss.lines) == 3
    assert words(training([EpochPoint(7, float("nan"), {})]).axes[0]) == ["no values"]


# --- thresholds ------------------------------------------------------------------------------------------------


def test_thresholds_of_each_fold_and_the_final_one_the_widest_spread_first() -> None:
    by_fold = np.array([[0.5, 0.2, 0.4], [0.5, 0.8, 0.5]])
    final = np.array([0.5, 0.6, 0.45])
    axes = pictures.threshold_stability(final, by_fold, np.array([7, 8, 9]), ("a", "b", "c"), "").axes[0]
    assert line(axes, "D")[:, 0].tolist() == [0.6, 0.45, 0.5]
    assert [bar[:, 0].tolist() for bar in bars(axes)] == [[0.2, 0.8], [0.4, 0.5], [0.5, 0.5]]
    assert [text for text in words(axes) if text in "abc"] == ["b", "c", "a"]


# --- comparisons -----------------------------------------------------------------------------------------------


def test_quality_and_cost_are_drawn_whatever_the_runs_are_called_and_cost() -> None:
    names = [*HOSTILE, *UNPRINTABLE]
    costs = [None, 0.0, 1e-9, 1e9, *(float(i) for i in range(len(names) - 4))]
    quality = [np.nan, *np.linspace(0, 1, len(names) - 1)]
    panels = dict.fromkeys(("training_seconds", "num_bytes"), points(costs, quality))
    figure = pictures.quality_cost(panels, names, "macro-F1", "Quality and cost")
    assert_whole(figure)
    assert [text.get_text() for text in figure.texts].count("_under_score_") == 1
    assert [axes.get_xlabel() for axes in figure.axes] == ["training time", "size of the model"]


def test_pareto_optimal_runs_have_filled_marks() -> None:
    panels = {"training_seconds": points([2.0, 9.0], [0.7, 0.6])}
    (axes,) = pictures.quality_cost(panels, ["a", "b"], "macro-F1", "").axes
    first, second = (found for found in axes.lines if found.get_marker() not in ("", "None"))
    assert (first.get_xydata().tolist(), second.get_xydata().tolist()) == ([[2.0, 0.7]], [[9.0, 0.6]])
    assert (first.get_markerfacecolor() == first.get_markeredgecolor(), second.get_markerfacecolor()) == (
        True,
        figures.PAPER,
    )
    assert [bar[:, 1].tolist() for bar in bars(axes)] == [[0.7 - 0.02, 0.7 + 0.02], [0.6 - 0.02, 0.6 + 0.02]]


def test_labels_of_several_runs_stand_in_the_order_of_the_first() -> None:
    f1 = np.array([[0.2, 0.9, np.nan], [0.5, 0.1, np.nan]])
    axes = pictures.label_comparison(f1, np.array([3, 4, 0]), ["x", "y", "z"], ["a", "b"], "").axes[0]
    second, first = (np.asarray(found.get_xdata()) for found in axes.lines)
    np.testing.assert_array_equal(first, [0.9, 0.2, np.nan])
    np.testing.assert_array_equal(second, [0.1, 0.5, np.nan])
    assert [bar[:, 0].tolist() for bar in bars(axes)] == [[0.1, 0.9], [0.2, 0.5]]
    assert words(axes).count("undefined (no positives)") == 1
