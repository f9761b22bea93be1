"""One row a rater: majority labels, soft targets, and what becomes of texts that nobody agrees on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from emotune.config.schema import DataConfig
from emotune.data.records import Corpus, Record, fingerprint, targets_of
from emotune.errors import DataError
from emotune.labels import GOEMOTIONS, LabelSet, Task, positives
from label_files import load_corpus, read, write

SAMPLE = Path("shared", "data", "goemotions-raters", "raters_partial.min.csv")
SHARED = next((p / SAMPLE for p in Path(__file__).parents if (p / SAMPLE).is_file()), SAMPLE)
HEADER = "text,id,author,rater_id,example_very_unclear,anger,fear,joy\n"
ROWS = """so,t1,x,1,False,0,0,1
no,t2,x,1,False,1,0,0
so,t1,x,2,False,1,0,1
no,t2,x,3,False,0,1,0
so,t1,x,3,False,0,0,0
hm,t3,x,1,True,0,0,0
hm,t3,x,2,True,0,0,0
eh,t4,x,1,TRUE,0,0,0
eh,t4,x,2,False,0,1,1
eh,t4,x,4,False,0,1,0
"""


def load(path: Path, **options: object) -> Corpus:
    return load_corpus(DataConfig.model_validate({"path": str(path), "split": [1.0, 0.0, 0.0]} | options), ("train",))


def test_labels_are_those_that_two_raters_chose(tmp_path: Path) -> None:
    corpus = load(write(tmp_path, HEADER + ROWS))
    assert [(r.id, r.labels, r.line) for r in corpus.splits["train"]] == [("t1", (2,), 2), ("t4", (1,), 9)]
    said = " ".join(corpus.description)
    assert "one row per rater (column 'rater_id'): labels are those that two raters or more chose" in said
    assert "10 rows of raters are 4 texts; 2 of them without a label that two raters chose are left out" in said
    assert "(data.csv:3, data.csv:7)" in said


def test_soft_targets_are_the_share_of_those_who_could_judge(tmp_path: Path) -> None:
    corpus = load(write(tmp_path, HEADER + ROWS), raters="soft")
    assert corpus.targets("train") == pytest.approx(np.array([[1 / 3, 0, 2 / 3], [0.5, 0.5, 0], [0, 1, 0.5]]))
    assert [r.labels for r in corpus.splits["train"]] == [(2,), (0, 1), (1, 2)]
    assert positives(corpus.targets("train")).tolist() == [
        [False, False, True],
        [True, True, False],
        [False, True, True],
    ]
    said = " ".join(corpus.description)
    assert "targets are the share of raters" in said
    assert "1 of them that no rater could judge are left out (data.csv:7)" in said


def test_soft_targets_of_one_label_a_text_are_distributions(tmp_path: Path) -> None:
    corpus = load(write(tmp_path, HEADER + ROWS), raters="soft", task="multi_class")
    assert corpus.labels.task is Task.MULTI_CLASS
    assert corpus.targets("train").sum(axis=1) == pytest.approx(np.ones(3))
    assert [r.labels for r in corpus.splits["train"]] == [(2,), (0,), (1,)]


VOTES = "text,id,rater_id,label\n"


def shards(folder: Path, *contents: str) -> Path:
    for i, content in enumerate(contents):
        write(folder, content, f"train-{i:05}-of-{len(contents):05}.csv")
    return folder


def test_the_raters_of_a_text_may_stand_in_several_shards(tmp_path: Path) -> None:
    lines = ROWS.splitlines(keepends=True)
    whole = load(write(tmp_path, HEADER + ROWS)).splits["train"]
    (tmp_path / "split").mkdir()
    # each shard alone has no text twice
    parts = [HEADER + "".join(lines[i] for i in chosen) for chosen in ([0, 1, 5, 7], [2, 3, 6, 8], [4, 9])]
    corpus = load_corpus(DataConfig(path=str(shards(tmp_path / "split", *parts))), ("train",))
    found = corpus.splits["train"]
    assert [(r.id, r.labels) for r in found] == [(r.id, r.labels) for r in whole]
    assert "10 rows of raters are 4 texts; 2 of them" in " ".join(corpus.description)
    wrong = shards(tmp_path / "split", parts[0], parts[1].replace("so,t1", "other,t1"), parts[2])
    place = r"train-00001-of-00003\.csv:2: the id 't1' has another text in line 2 of train-00000-of-00003\.csv"
    with pytest.raises(DataError, match=place):
        load_corpus(DataConfig(path=str(wrong)), ("train",))


def test_numbered_files_of_raters_are_read_as_one_as_they_are_published(tmp_path: Path) -> None:
    lines = ROWS.splitlines(keepends=True)
    for i, chosen in enumerate(([0, 1, 5, 7], [2, 3, 6, 8], [4, 9]), start=1):
        write(tmp_path, HEADER + "".join(lines[j] for j in chosen), f"goemotions_{i}.csv")
    corpus = load_corpus(DataConfig(path=str(tmp_path), raters="soft"), ("train",))
    assert [r.id for r in corpus.splits["train"]] == ["t1", "t2", "t4"]
    assert "10 rows of raters are 4 texts; 1 of them" in " ".join(corpus.description)


@pytest.mark.parametrize("raters", ["majority", "soft"])
def test_a_rater_who_stands_twice_counts_once(tmp_path: Path, raters: str) -> None:
    again = "".join(2 * f"{line}\n" for line in ROWS.splitlines())
    once, twice = (
        load(write(tmp_path, HEADER + ROWS), raters=raters),
        load(write(tmp_path, HEADER + again), raters=raters),
    )
    assert [(r.id, r.labels, r.shares) for r in twice.splits["train"]] == [
        (r.id, r.labels, r.shares) for r in once.splits["train"]
    ]
    lone = write(tmp_path, HEADER + 2 * "so,t1,x,1,False,0,0,1\n" + "no,t2,x,1,False,1,0,0\n")
    file_format, rows, _ = read(lone, raters=raters)  # nobody else rated anything: these are no rows of raters
    assert file_format.raters is None
    assert [(r.names, r.line, r.id) for r in rows] == [(("joy",), 2, "t1"), (("joy",), 3, "t1"), (("anger",), 4, "t2")]


def test_raters_without_a_name_are_nobody_twice(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + 2 * "so,t1,x,,False,0,0,1\n" + 2 * "no,t2,x,,False,1,0,0\n")
    assert [r.labels for r in load(path).splits["train"]] == [(2,), (0,)]


def test_rows_of_raters_with_a_column_of_labels_are_merged_too(tmp_path: Path) -> None:
    rows = [("so", 1, 1, "joy"), ("so", 1, 2, "joy"), ("so", 1, 3, "fear"), ("no", 2, 1, "fear"), ("no", 2, 2, "anger")]
    rows += [("oh", 3, r, label) for r, label in enumerate(["joy", "joy", "fear", "fear"])]
    rows += [("eh", 4, r, label) for r, label in enumerate(["fear", "joy", "fear", "joy", "fear"])]
    path = write(tmp_path, VOTES + "".join(f"{t},{i},{r},{label}\n" for t, i, r, label in rows))
    corpus = load(path)
    assert corpus.labels == LabelSet(("fear", "joy"), Task.MULTI_CLASS)
    assert [(r.text, r.labels) for r in corpus.splits["train"]] == [("so", (1,)), ("eh", (0,))]
    assert "the label is the one that most raters, and at least two, chose" in " ".join(corpus.description)
    both = load(path, task="multi_label").splits["train"]
    assert [(r.text, r.labels) for r in both] == [("so", (1,)), ("oh", (0, 1)), ("eh", (0, 1))]
    soft = load(path, raters="soft", task="multi_label")
    assert soft.labels.names == ("anger", "fear", "joy")
    assert soft.targets("train") == pytest.approx(
        np.array([[0, 1 / 3, 2 / 3], [1 / 2, 1 / 2, 0], [0, 1 / 2, 1 / 2], [0, 3 / 5, 2 / 5]])
    )
    assert load(path, raters="soft").labels.task is Task.MULTI_CLASS


def test_objects_are_rows_of_raters_too(tmp_path: Path) -> None:
    votes = [("so", "a", 1, ["joy"]), ("so", "a", 2, ["joy", "awe"]), ("so", "a", 3, []), ("no", "b", 1, ["awe"])]
    lines = [json.dumps(dict(zip(("text", "id", "annotator", "labels"), vote, strict=True))) for vote in votes]
    path = write(tmp_path, "\n".join(lines), "x.jsonl")
    soft = load(path, raters="soft")
    assert soft.targets("train") == pytest.approx(np.array([[1 / 3, 2 / 3], [1, 0]]))
    path = write(
        tmp_path, "\n".join([*lines, '{"text": "so", "id": "a", "annotator": 4, "labels": {"joy": 1}}']), "x.jsonl"
    )
    with pytest.raises(DataError, match=r"x\.jsonl:5: the row of a rater has labels"):
        load(path)


def test_a_table_in_which_no_text_stands_twice_is_not_of_raters(tmp_path: Path) -> None:
    file_format, rows, labels = read(write(tmp_path, HEADER + "so,t1,x,1,False,0,0,1\nno,t2,x,1,False,1,0,0\n"))
    assert file_format.raters is None
    assert [row.names for row in rows] == [("joy",), ("anger",)]
    assert labels.names == ("anger", "fear", "joy")


def test_texts_without_any_agreement_end_in_an_error_that_offers_soft_targets(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "so,t1,x,1,False,0,0,1\nso,t1,x,2,False,1,0,0\n")
    with pytest.raises(DataError, match="no text has a label that two raters chose") as caught:
        load(path)
    assert "data.raters=soft" in str(caught.value.hint)
    assert len(load(path, raters="soft").splits["train"]) == 1


def test_rows_of_raters_may_be_trained_on_and_agreed_labels_scored(tmp_path: Path) -> None:
    write(tmp_path, HEADER + ROWS, "train.csv")
    write(tmp_path, "id,text,anger,fear,joy\n1,so so,0,0,1\n2,oh,0,0,0\n", "dev.csv")
    corpus = load_corpus(DataConfig(path=str(tmp_path), raters="soft"), ("train", "valid"))
    assert [r.shares is None for r in corpus.splits["train"]] == [False] * 3
    assert [(r.labels, r.shares) for r in corpus.splits["valid"]] == [((2,), None), ((), None)]


def test_soft_targets_count_in_the_fingerprint() -> None:
    labels = LabelSet(("anger", "joy"))
    one, two = (Record("a", (0,), Path("x"), 1, None, ((0, share),)) for share in (0.5, 0.75))
    assert fingerprint([one], labels) != fingerprint([two], labels)
    assert targets_of([one, two, Record("b", (1,), Path("x"), 2)], 2).tolist() == [[0.5, 0], [0.75, 0], [0, 1]]


def test_the_published_rows_of_raters_are_read() -> None:
    if not SHARED.is_file():
        pytest.skip(f"the published sample is not here: {SHARED}")
    corpus = load(SHARED)
    assert corpus.labels == GOEMOTIONS
    soft = load(SHARED, raters="soft")
    raters = Counter(r.id for r in soft.splits["train"])
    assert set(raters.values()) == {1}
    assert {r.id for r in corpus.splits["train"]} <= set(raters)
    assert any("4,895 rows of raters" in line for line in corpus.description)
