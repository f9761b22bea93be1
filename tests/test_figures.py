"""Pictures are whole, readable PNGs and sound SVGs that say what the scores say, whatever the labels are called."""

import io
import struct
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
from emotune.scoring.metrics import Scores, confusion, precision_recall, reliability, score
from tiny import unchecked

matplotlib = pytest.importorskip("matplotlib")
image = pytest.importorskip("PIL.Image")

from emotune.reports import figures  # noqa: E402 (after the guard)
from emotune.reports.figures import EMPTY, LIGHT_BLUE, VERMILION, CostPoint, LabelCurve, Picture  # noqa: E402
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
    "60 labels": LabelSet(tuple(f"emotion {i}" + " at great length" * (i % 4) for i in range(60))),
    "hostile labels": unchecked(HOSTILE),
}

Bools = npt.NDArray[np.bool_]


def whole(picture: Picture) -> bytes:
    """The PNG of a picture whose SVG is sound too: XML that holds no style sheet of others, no picture and no link."""
    root = ElementTree.fromstring(picture.svg)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "g", "path", "defs", "style", "use", "text", "tspan", "clipPath", "rect", "metadata", *RDF}
    assert all(value.startswith("#") for e in root.iter() for name, value in e.items() if name.endswith("href"))
    return picture.png


RDF = {"RDF", "Work", "type"}


def label_f1(scores: Scores, labels: LabelSet, title: str) -> bytes:
    return whole(figures.label_f1(scores, labels, title))


def confusion_matrix(counts: npt.ArrayLike, labels: LabelSet, title: str, *, missed_extra: bool) -> bytes:
    return whole(figures.confusion_matrix(counts, labels, title, missed_extra=missed_extra))


def training_curves(points: list[EpochPoint], title: str) -> bytes:
    steps = tuple(StepPoint(i + 1, point.loss, 1e-4) for i, point in enumerate(points))
    return whole(figures.training_curves(TrainingLog(steps, tuple(points)), title))


def decisions(labels: LabelSet, num_rows: int = 300) -> tuple[Bools, Bools]:
    """Targets and decisions that are mostly right; the last of three or more labels never occurs."""
    rng = np.random.default_rng(0)
    num_labels = len(labels)
    used = num_labels - (num_labels > 2)
    if labels.task is Task.MULTI_CLASS:
        classes = rng.integers(used, size=num_rows)
        said = np.where(rng.random(num_rows) < 0.7, classes, rng.integers(num_labels, size=num_rows))
        return np.eye(num_labels, dtype=bool)[classes], np.eye(num_labels, dtype=bool)[said]
    targets = rng.random((num_rows, num_labels)) < 2 / (num_labels + 2)
    targets[:, used:] = False
    return targets, targets ^ (rng.random(targets.shape) < 0.05)


def scores_of(labels: LabelSet, resamples: int = 20) -> Scores:
    targets, decided = decisions(labels)
    return score(targets, decided, decided.astype(float), labels, resamples=resamples)


def counts_of(labels: LabelSet) -> npt.NDArray[np.int64]:
    return confusion(*decisions(labels), labels.task)


def epochs(count: int, *metrics: str) -> list[EpochPoint]:
    return [
        EpochPoint(i + 1, 1 / (i + 1), {name: 0.5 + 0.01 * i - 0.02 * j for j, name in enumerate(metrics)})
        for i in range(count)
    ]


def pixels(png: bytes) -> npt.NDArray[np.uint8]:
    """The picture's colours, shape (height, width, 3)."""
    return np.asarray(image.open(io.BytesIO(png)).convert("RGB"))


def amount(png: bytes, color: str) -> int:
    """How many pixels have exactly this colour."""
    wanted = np.frombuffer(bytes.fromhex(color[1:]), dtype=np.uint8)
    return int((pixels(png) == wanted).all(axis=2).sum())


def chunks(png: bytes) -> set[bytes]:
    found, at = set(), 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        found.add(png[at + 4 : at + 8])
        at += length + 12
    return found


def assert_whole(png: bytes) -> None:
    """It decodes, its size is sane, and nothing drawn runs into the edge, as it does where something is cut off."""
    colors = pixels(png)
    height, width, _ = colors.shape
    assert 150 < height < 4000
    assert 400 < width < 4000
    for edge in (colors[:8], colors[-8:], colors[:, :8], colors[:, -8:]):
        assert (edge == 255).all()
    assert (colors < 255).any()


@pytest.mark.parametrize("labels", SETS.values(), ids=SETS.keys())
def test_pictures_of_scores_are_whole(labels: LabelSet) -> None:
    title = " ".join(labels.names)
    assert_whole(label_f1(scores_of(labels), labels, title))
    assert_whole(confusion_matrix(counts_of(labels), labels, title, missed_extra=labels.task is Task.MULTI_LABEL))


@pytest.mark.parametrize(
    "points",
    [
        epochs(1, "macro_f1", "micro_f1"),
        epochs(20, "macro_f1", "micro_f1", "accuracy"),
        epochs(300, "macro_f1"),
        epochs(3),
        epochs(4, *HOSTILE, *UNPRINTABLE),
        epochs(2, *(f"metric {i}" for i in range(30))),
        [EpochPoint(1, 3e38, {"f1": 1e-30}), EpochPoint(2, float("inf"), {"f1": float("nan")}), EpochPoint(3, 1, {})],
        [EpochPoint(7, float("nan"), {"f1": float("nan")})],
    ],
    ids=["one", "twenty", "three hundred", "no metrics", "hostile", "many metrics", "diverged", "no values"],
)
def test_training_curves_are_whole(points: list[EpochPoint]) -> None:
    assert_whole(training_curves(points, "MiniLM on GoEmotions"))


@pytest.mark.parametrize("title", [*UNPRINTABLE, "$\\frac{1}$ 😡 غضب", "", "W" * 5000])
def test_titles_are_drawn_as_they_stand(title: str) -> None:
    assert_whole(training_curves(epochs(2, "f1"), title))


@settings(deadline=None, max_examples=8, derandomize=True)
@given(title=st.text(max_size=80), names=st.lists(st.text(max_size=40), min_size=1, max_size=3, unique=True))
def test_any_text_can_be_a_title_or_a_name(title: str, names: list[str]) -> None:
    assert_whole(training_curves(epochs(2, *names), title))


@settings(deadline=None, max_examples=8, derandomize=True)
@given(values=st.lists(st.floats(width=32), min_size=1, max_size=4))
def test_any_value_can_be_drawn(values: list[float]) -> None:
    assert_whole(training_curves([EpochPoint(i, value, {"f1": value}) for i, value in enumerate(values)], "any value"))


def test_same_input_gives_same_bytes_without_metadata() -> None:
    scores, counts = scores_of(DAIR), counts_of(DAIR)
    for draw in (
        lambda: label_f1(scores, DAIR, "title"),
        lambda: confusion_matrix(counts, DAIR, "title", missed_extra=False),
        lambda: training_curves(epochs(3, "f1"), "title"),
    ):
        png = draw()
        assert png == draw()
        assert chunks(png) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def test_settings_of_the_user_are_neither_followed_nor_changed() -> None:
    plain = training_curves(epochs(3, "$x$"), "title")
    with matplotlib.rc_context({"text.usetex": True, "axes.facecolor": "red", "font.size": 30, "figure.dpi": 40}):
        before = dict(matplotlib.rcParams)
        assert training_curves(epochs(3, "$x$"), "title") == plain
        assert dict(matplotlib.rcParams) == before


def test_no_pyplot() -> None:
    program = (
        "import sys; from emotune.reports.figures import training_curves;"
        "from emotune.runs.log import EpochPoint, TrainingLog;"
        "training_curves(TrainingLog(epochs=(EpochPoint(1, 1.0, {'f1': 0.5}),)), 'title');"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_f1_is_sorted_with_undefined_labels_last() -> None:
    """The picture does not depend on the order of the labels, so each name keeps its own row."""
    targets = np.tile(np.eye(4, dtype=bool), (10, 1))
    targets[targets[:, 3]] = False
    decided = targets.copy()
    decided[:4, 0], decided[:8, 1] = False, False
    names = ("joy", "anger", "fear", "never")

    def draw(order: list[int]) -> bytes:
        labels = LabelSet(tuple(names[i] for i in order))
        t, d = targets[:, order], decided[:, order]
        return label_f1(score(t, d, d.astype(float), labels, resamples=20), labels, "title")

    picture = draw([0, 1, 2, 3])
    assert draw([3, 1, 0, 2]) == picture
    assert draw([1, 0, 2, 3]) == picture


def test_undefined_is_not_drawn_as_zero() -> None:
    scores = scores_of(DAIR)
    assert np.isnan(scores.per_label.f1[-1])
    zero = replace(scores, per_label=replace(scores.per_label, f1=np.nan_to_num(scores.per_label.f1)))
    assert label_f1(scores, DAIR, "") != label_f1(zero, DAIR, "")


def test_intervals_and_macro_line_are_drawn_only_where_defined() -> None:
    labels = LabelSet(("a", "b"))
    with_intervals, without = label_f1(scores_of(labels), labels, ""), label_f1(scores_of(labels, 0), labels, "")
    assert amount(with_intervals, LIGHT_BLUE) > 0
    assert amount(without, LIGHT_BLUE) == 0
    assert amount(without, VERMILION) > 0
    nothing = np.zeros((5, 2))
    assert amount(label_f1(score(nothing, nothing, nothing, labels, resamples=5), labels, ""), VERMILION) == 0


def test_support_is_shown() -> None:
    scores = scores_of(DAIR)
    more = replace(scores, per_label=replace(scores.per_label, support=scores.per_label.support + 1))
    assert label_f1(scores, DAIR, "") != label_f1(more, DAIR, "")


def test_rows_without_texts_are_grey_as_is_the_diagonal_of_the_missed() -> None:
    labels = LabelSet(("a", "b"), Task.MULTI_CLASS)
    full = confusion_matrix([[9, 1], [0, 5]], labels, "", missed_extra=False)
    empty_row = confusion_matrix([[9, 1], [0, 0]], labels, "", missed_extra=False)
    missed = confusion_matrix([[0, 1], [2, 0]], labels, "", missed_extra=True)
    cell = 100**2  # pixels at least
    assert amount(full, EMPTY) < cell
    assert amount(empty_row, EMPTY) > 2 * cell
    assert amount(missed, EMPTY) > 2 * cell


def test_rows_of_the_matrix_are_what_it_was() -> None:
    counts, labels = np.array([[5, 3], [1, 7]]), LabelSet(("a", "b"), Task.MULTI_CLASS)
    assert confusion_matrix(counts, labels, "", missed_extra=False) != confusion_matrix(
        counts.T, labels, "", missed_extra=False
    )


@pytest.mark.parametrize(("num_labels", "written"), [(2, True), (6, True), (60, False)])
def test_counts_are_written_only_where_they_fit(num_labels: int, written: bool) -> None:
    """The shares, and so the colours, are the same for both; only the counts could differ."""
    labels = LabelSet(tuple(f"label {i}" for i in range(num_labels)), Task.MULTI_CLASS)
    counts = 10_000 * np.eye(num_labels, dtype=np.int64)
    pictures = [confusion_matrix(counts * k, labels, "", missed_extra=False) for k in (1, 2)]
    assert (pictures[0] != pictures[1]) is written


def test_long_names_are_cut_but_told_apart() -> None:
    stem = "emotion / negative / strong / lasting / "
    ours, theirs = (LabelSet(("joy", stem + end)) for end in ("fury", "rage"))
    counts = [[0, 1], [2, 0]]
    first = confusion_matrix(counts, ours, "", missed_extra=True)
    assert first != confusion_matrix(counts, theirs, "", missed_extra=True)
    longer = confusion_matrix(counts, LabelSet(("joy", stem * 4 + "fury")), "", missed_extra=True)
    assert abs(pixels(longer).shape[1] - pixels(first).shape[1]) < 30


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="scores of 28 labels, but names of 6"):
        label_f1(scores_of(GOEMOTIONS, 0), DAIR, "")
    with pytest.raises(ValueError, match=r"\(2, 3\), but names of 6"):
        confusion_matrix(np.zeros((2, 3)), DAIR, "", missed_extra=False)
    with pytest.raises(ValueError, match="no steps and no epochs"):
        training_curves([], "")
    with pytest.raises(ValueError, match="no probabilities"):
        figures.reliability_diagram(reliability(np.zeros((0, 2), bool), np.zeros((0, 2)), Task.MULTI_LABEL), 0.0, "")
    with pytest.raises(ValueError, match="1 to 60"):
        figures.precision_recall([], "")
    with pytest.raises(ValueError, match="names of 3"):
        figures.threshold_stability(np.zeros(2), np.zeros((5, 2)), np.zeros(2, int), ("a", "b", "c"), "")


def curves_of(labels: LabelSet) -> list[LabelCurve]:
    targets, decided = decisions(labels)
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


@pytest.mark.parametrize("name", ["1 label", "28 labels", "60 labels", "hostile labels"])
def test_curves_and_thresholds_of_any_labels_are_whole(name: str) -> None:
    labels = SETS[name]
    assert_whole(whole(figures.precision_recall(curves_of(labels), " ".join(labels.names))))
    by_fold = np.random.default_rng(0).random((5, len(labels)))
    positives = np.arange(len(labels)) * 1000
    assert_whole(whole(figures.threshold_stability(by_fold[0], by_fold, positives, labels.names, "thresholds")))


@pytest.mark.parametrize("labels", [SETS["2 labels"], SETS["6 classes"]], ids=["labels", "classes"])
@pytest.mark.parametrize("num_rows", [1, 300])
def test_reliability_is_whole(labels: LabelSet, num_rows: int) -> None:
    targets, decided = decisions(labels, num_rows)
    p = np.where(decided, 0.9, 0.1 / max(len(labels) - 1, 1))
    assert_whole(whole(figures.reliability_diagram(reliability(targets, p, labels.task), 0.1, "reliability")))


def test_a_chosen_point_is_marked_where_there_is_one() -> None:
    (curve,) = curves_of(SETS["1 label"])
    marked, unmarked = curve, replace(curve, precision=float("nan"))
    assert amount(figures.precision_recall([marked], "").png, VERMILION) > 0
    assert amount(figures.precision_recall([unmarked], "").png, VERMILION) == 0
    assert VERMILION in figures.precision_recall_panel(marked).decode()
    assert VERMILION not in figures.precision_recall_panel(unmarked).decode()


# Comparisons


def cost_panel(costs: list[float | None], quality: list[float]) -> figures.CostPanel:
    points = [CostPoint(q, q - 0.02, q + 0.02, c, i == 0) for i, (c, q) in enumerate(zip(costs, quality, strict=True))]
    return figures.CostPanel("training time", [0.1, 1, 10, 100], str, points)


def test_quality_and_cost_are_drawn_whatever_the_runs_are_called_and_cost() -> None:
    names = [*HOSTILE, *UNPRINTABLE]
    costs = [None, 0.0, 1e-9, 1e9, *(float(i) for i in range(len(names) - 4))]
    quality = [np.nan, *np.linspace(0, 1, len(names) - 1)]
    picture = figures.quality_cost([cost_panel(costs, quality)] * 2, names, "macro-F1", "Quality and cost")
    assert whole(picture)
    assert picture.svg.count(b"_under_score_") == 1
    assert picture.svg.count(b"training time") == 2
    with pytest.raises(ValueError, match="nothing that can be drawn"):
        figures.quality_cost([cost_panel([None], [0.5])], ["a"], "macro-F1", "")


@pytest.mark.parametrize("labels", SETS.values(), ids=SETS.keys())
def test_labels_of_several_runs_are_drawn_for_any_labels(labels: LabelSet) -> None:
    f1 = np.linspace(0, 1, 3 * len(labels)).reshape(3, -1)
    f1[:, -1] = np.nan
    support = np.arange(len(labels))
    whole(figures.label_comparison(f1, support, labels.names, ["a", "b", "c"], "F1 by label"))
    with pytest.raises(ValueError, match="2 entries"):
        figures.label_comparison(f1, support, labels.names, ["a", "b"], "F1 by label")
