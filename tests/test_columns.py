"""The columns that predictions add to tables."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from emotune.errors import DataError, UsageError
from emotune.inference.classifier import Scores
from emotune.inference.columns import OutputColumns, parse_scores, spreadsheet_safe
from emotune.labels import LabelSet

LABELS = LabelSet(("anger", "joy", "no, thanks"))
P = np.array([[0.25, 0.9, 0.6], [1.0, 0.0, 0.4999996], [np.nan] * 3, [0.1, 0.2, 0.3]])
PREDICTED = np.array([[False, True, True], [True, False, False], [False] * 3, [False] * 3])
SCORES = Scores(LABELS, P, PREDICTED, np.array([1, 1, 0, 1]), np.zeros(4, int))


def table(columns: OutputColumns, delimiter: str = ",", **options: bool) -> list[list[str]]:
    lines = [cell.decode()[1:] for cell in columns.cells(SCORES, delimiter, **options)]
    return list(csv.reader(lines, delimiter=delimiter))


def test_all_scores_have_a_column_each() -> None:
    columns = OutputColumns(LABELS)
    assert columns.names == ("labels", "anger", "joy", "no, thanks")
    assert table(columns) == [
        ["joy;no, thanks", "0.250000", "0.900000", "0.600000"],
        ["anger", "1.000000", "0.000000", "0.500000"],
        ["", "", "", ""],
        ["", "0.100000", "0.200000", "0.300000"],
    ]


def test_the_highest_scores_have_two_columns_each() -> None:
    columns = OutputColumns(LABELS, 2, prefix="p_", separator="json")
    assert columns.names == ("p_labels", "p_top1_label", "p_top1_score", "p_top2_label", "p_top2_score")
    assert table(columns, ";") == [
        ['["joy", "no, thanks"]', "joy", "0.900000", "no, thanks", "0.600000"],
        ['["anger"]', "anger", "1.000000", "no, thanks", "0.500000"],
        ["[]", "", "", "", ""],
        ["[]", "no, thanks", "0.300000", "joy", "0.200000"],
    ]


@pytest.mark.parametrize("scores", ["all", "none", 1, 2, 9])
def test_json_and_arrays_say_the_same(scores: str | int) -> None:
    columns = OutputColumns(LABELS, scores)
    found = [json.loads(b'{"id": 1' + end + b"}") for end in columns.members(SCORES)]
    assert [row["labels"] for row in found] == SCORES.names()
    arrays = columns.arrays(SCORES)
    assert tuple(arrays) == columns.names
    assert arrays["labels"] == SCORES.names()
    assert columns.arrays(SCORES, joined=True)["labels"] == ["joy;no, thanks", "anger", "", ""]
    if scores == "none":
        assert set(found[0]) == {"id", "labels"}
        return
    assert found[2]["scores"] is None
    expected = SCORES.probabilities[0].tolist()
    wanted = sorted(zip(LABELS.names, expected, strict=True), key=lambda item: -item[1])[: columns.k or 3]
    assert found[0]["scores"] == pytest.approx(dict(wanted), abs=1e-6)
    if columns.k:
        assert (arrays["top1_label"], float(arrays["top1_score"][0])) == (
            ["joy", "anger", None, "no, thanks"],
            pytest.approx(0.9),
        )
    else:
        assert np.allclose(arrays["anger"], P[:, 0], equal_nan=True)


def test_columns_that_exist_are_refused_with_the_remedy() -> None:
    columns = OutputColumns(LABELS)
    with pytest.raises(DataError, match=r"'labels', 'joy'.*\n.*--prefix"):
        columns.require_free(["id", "joy", "labels"])
    columns.require_free(["id", "joy"], keys=True)
    OutputColumns(LABELS, prefix="p_").require_free(["id", "joy", "labels"])


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no, thanks.*\n.*--separator"):
        OutputColumns(LABELS, separator=", ")
    with pytest.raises(UsageError, match=r"--scores none"):
        OutputColumns(LabelSet(("labels", "joy")))
    for wrong in ("top-0", "top-x", "3", "top", ""):
        with pytest.raises(UsageError, match="top-3"):
            parse_scores(wrong)
    assert [parse_scores(each) for each in ("all", "none", "top-12")] == ["all", "none", 12]


def test_cells_that_a_spreadsheet_would_compute_get_an_apostrophe() -> None:
    formulas = ["=1+1", "+1", "-1", "@a", "\tx", "\rx"]
    assert [spreadsheet_safe(cell) for cell in formulas] == ["'" + cell for cell in formulas]
    assert [spreadsheet_safe(cell) for cell in ("a=1", "", " =1")] == ["a=1", "", " =1"]
    odd = LabelSet(("=joy", "b"))
    scores = Scores(odd, np.array([[0.9, 0.1]]), np.array([[True, False]]), np.ones(1, int), np.zeros(1, int))
    assert OutputColumns(odd).cells(scores, ",", safe=True)[0].startswith(b",'=joy,")


def test_no_rows_are_no_cells() -> None:
    none = Scores(LABELS, P[:0], PREDICTED[:0], np.zeros(0, int), np.zeros(0, int))
    for scores in ("all", "none", 2):
        columns = OutputColumns(LABELS, scores)
        assert (columns.cells(none, ","), columns.members(none)) == ([], [])
