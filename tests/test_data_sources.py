"""A corpus is found in a folder or a single file, and whatever is wrong with it is said with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emotune.config.schema import DataConfig
from emotune.data.corpus import STARTER, locate
from emotune.data.records import Corpus
from emotune.data.split_files import find_splits
from emotune.errors import DataError, EmotuneError, MissingInputError
from emotune.labels import GOEMOTIONS, LabelSet, Task
from label_files import load_corpus, load_split

SHARED_FOLDER = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
TABLE = "text,label\nso,joy\nna,fear\n"


def write(folder: Path, **files: str | bytes) -> Path:
    """Write `train_csv="…"` as `train.csv`, and so on; the folder."""
    for name, content in files.items():
        raw = content if isinstance(content, bytes) else content.encode("utf-8")
        (folder / ".".join(name.rsplit("_", 1))).write_bytes(raw)
    return folder


def load(path: Path, splits: tuple[str, ...] = ("train", "valid"), **options: Any) -> Corpus:
    return load_corpus(DataConfig(path=str(path), **options), splits)


def many(count: int, label: str = "") -> str:
    """A table of that many rows, half of them joy."""
    return "text,label\n" + "".join(f"text {i},{label or ('joy', 'fear')[i % 2]}\n" for i in range(count))


# --- a folder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dev.csv", "val.tsv", "Valid.TXT", "VALIDATION.csv"])
def test_validation_has_many_names(tmp_path: Path, name: str) -> None:
    write(tmp_path, train_csv=TABLE, test_csv=TABLE, notes_csv="x", labels_json="{}")
    (tmp_path / name).write_text("text,label\nhm,joy\n")
    (tmp_path / "test.txt").mkdir()
    assert find_splits(tmp_path) == {
        "train": (tmp_path / "train.csv",),
        "valid": (tmp_path / name,),
        "test": (tmp_path / "test.csv",),
    }


def test_splits_are_read_in_the_format_of_train_with_its_labels(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,label\nso,joy|fear\nna,fear\n", dev_csv="id,Label,Text\n1,Fear,hm\n")
    corpus = load(tmp_path)
    assert corpus.labels == LabelSet(("fear", "joy"), Task.MULTI_LABEL)
    assert [(r.text, r.labels, r.line) for r in corpus.splits["train"]] == [("so", (0, 1), 2), ("na", (0,), 3)]
    (row,) = corpus.splits["valid"]
    assert (row.text, row.labels, str(row.place)) == ("hm", (0,), f"{tmp_path / 'dev.csv'}:2")
    assert corpus.targets("train").tolist() == [[1, 1], [1, 0]]


def test_labels_that_differ_in_case_alone_are_told_apart_when_given_so(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,label\na,Joy\nb,joy\nc,JOY\n", dev_csv=TABLE.replace("fear", "joy"))
    corpus = load(tmp_path, labels=["joy", "Joy", "awe"])
    assert [r.labels for r in corpus.splits["train"]][:2] == [(1,), (0,)]


def test_a_multi_class_row_may_name_its_label_twice(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,label\na,joy|joy\nb,fear\n", dev_csv=TABLE)
    corpus = load(tmp_path, task="multi_class")
    assert [r.labels for r in corpus.splits["train"]] == [(1,), (0,)]


def test_the_detection_is_said(tmp_path: Path) -> None:
    said = " ".join(load(write(tmp_path, train_csv=TABLE, dev_csv=TABLE)).description)
    for words in ("train.csv, dev.csv", "comma-separated", "'text'", "'label'", "multi-class", "fear, joy"):
        assert words in said


def test_splits_come_as_they_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path, train_csv=TABLE, dev_csv=TABLE, test_csv="text,label\nbroken\n")
    assert list(load(tmp_path).splits) == ["train", "valid"]
    assert list(load(tmp_path, ("valid",)).splits) == ["valid"]
    with pytest.raises(DataError, match=r"test\.csv:2: the row has 1 columns"):
        load(tmp_path, ("test",))


def test_without_a_validation_file_a_tenth_of_train_is_set_apart(tmp_path: Path) -> None:
    corpus = load(write(tmp_path, train_csv=many(40)))
    sizes = {split: len(records) for split, records in corpus.splits.items()}
    assert sizes == {"train": 36, "valid": 4}
    assert corpus.targets("valid").sum(axis=0).tolist() == [2, 2]
    texts = [record.text for records in corpus.splits.values() for record in records]
    assert sorted(texts) == sorted(f"text {i}" for i in range(40))
    assert "4 training rows are used for validation" in corpus.description[-1]


@pytest.mark.parametrize("names", [["rows_1", "rows_2", "rows_3"], ["part-0", "part-1", "part-2"], ["1", "2", "3"]])
def test_files_that_differ_in_their_number_are_training_rows(tmp_path: Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        write(tmp_path, **{f"{name}_csv": f"text,label\na{i},joy\nb{i},fear\nc{i},joy\nd{i},fear\n"})
    write(tmp_path, notes_csv="x", labels_txt="joy\nfear\n")
    assert find_splits(tmp_path) == {"train": tuple(tmp_path / f"{name}.csv" for name in names)}
    corpus = load(tmp_path)
    assert sorted(len(records) for records in corpus.splits.values()) == [2, 10]
    (tmp_path / f"{names[1]}.csv").unlink()
    with pytest.raises(DataError, match=rf"of the files {names[0]}\.csv, … number [12] is missing"):
        load(tmp_path)


def test_numbered_files_of_splits_are_their_rows_in_order(tmp_path: Path) -> None:
    for n in range(1, 13):
        write(tmp_path, **{f"train_{n}_csv": f"text,label\na{n},joy\nb{n},fear\n"})
    write(tmp_path, dev_1_csv=TABLE, dev_2_csv=TABLE)
    corpus = load(tmp_path)
    assert [r.text for r in corpus.splits["train"]][:4] == ["a1", "b1", "a2", "b2"]
    assert [r.text for r in corpus.splits["train"]][-1] == "b12"
    assert len(corpus.splits["valid"]) == 4
    write(tmp_path, dev_02_csv=TABLE)
    with pytest.raises(DataError, match=r"two files with the number 2: dev_02\.csv and dev_2\.csv"):
        load(tmp_path)


@pytest.mark.parametrize("names", [["a_1", "a_2", "b_1", "b_2"], ["y2019", "y2020"], ["a_1"], ["a_1", "b_2"]])
def test_numbers_that_do_not_tell_what_belongs_together_are_no_training_rows(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        write(tmp_path, **{f"{name}_csv": TABLE})
    with pytest.raises(MissingInputError, match="no training file") as caught:
        load(tmp_path)
    assert "rows_1.csv" in str(caught.value.hint)


# --- one file ----------------------------------------------------------------------------------------------------


def test_one_file_is_split_with_equal_texts_together(tmp_path: Path) -> None:
    write(tmp_path, all_csv=many(80) + "TEXT  3,joy\n text 3,joy\n")
    corpus = load(tmp_path / "all.csv", ("train", "valid", "test"), split=[0.5, 0.25, 0.25])
    where = {record.line: split for split, records in corpus.splits.items() for record in records}
    assert sorted(where) == list(range(2, 84))
    assert where[5] == where[82] == where[83]
    assert [len(corpus.splits[s]) for s in ("train", "valid", "test")] == pytest.approx([41, 20.5, 20.5], abs=2.5)
    assert "50/25/25 %" in corpus.description[-1]


def test_the_split_follows_the_seed(tmp_path: Path) -> None:
    path = write(tmp_path, all_csv=many(100)) / "all.csv"
    first, again, other = (load(path, split_seed=seed).splits["valid"] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_part_without_rows_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, all_csv=TABLE) / "all.csv"
    with pytest.raises(DataError, match=r"all\.csv: too few rows \(2\) for a split 'valid'"):
        load(path)
    assert len(load(path, ("train",), split=[1.0, 0.0, 0.0]).splits["train"]) == 2


# --- one split, for a model --------------------------------------------------------------------------------------


def test_a_split_is_scored_by_name_or_else_the_last_there_is(tmp_path: Path) -> None:
    labels = LabelSet(("joy", "fear", "awe"))
    write(tmp_path, train_csv=TABLE, dev_csv="text,label\nhm,joy\n")
    config = DataConfig(path=str(tmp_path))
    assert load_split(config, labels, None)[0] == "valid"
    write(tmp_path, test_csv="text,label\nha,AWE\n")
    name, corpus = load_split(config, labels, None)
    assert (name, list(corpus.splits), corpus.labels) == ("test", ["test"], labels)
    assert [(r.text, r.labels) for r in corpus.splits["test"]] == [("ha", (2,))]
    assert [load_split(config, labels, split)[0] for split in ("dev", "valid", "train")] == ["valid", "valid", "train"]
    with pytest.raises(MissingInputError, match="no split 'tets'") as caught:
        load_split(config, labels, "tets")
    assert "'test'" in str(caught.value.hint)


def test_a_folder_with_training_rows_alone_has_no_split_to_score(tmp_path: Path) -> None:
    write(tmp_path, train_csv=TABLE)
    with pytest.raises(MissingInputError, match="neither a test nor a validation file"):
        load_split(DataConfig(path=str(tmp_path)), LabelSet(("joy", "fear")), None)


def test_a_single_file_is_one_split_called_by_its_stem(tmp_path: Path) -> None:
    path = write(tmp_path, dev_csv=many(50)) / "dev.csv"
    for split in (None, "dev"):
        name, corpus = load_split(DataConfig(path=str(path)), LabelSet(("fear", "joy")), split)
        assert (name, len(corpus.splits["dev"])) == ("dev", 50)
    with pytest.raises(MissingInputError, match="no split 'test'"):
        load_split(DataConfig(path=str(path)), LabelSet(("fear", "joy")), "test")


def test_a_file_of_columns_is_scored_by_a_model_whatever_their_case_and_order(tmp_path: Path) -> None:
    path = write(tmp_path, x_csv="Joy,TEXT,Fear\n1,ha,0\n0,hm,1\n") / "x.csv"
    corpus = load_split(DataConfig(path=str(path)), LabelSet(("fear", "joy")), None)[1]
    assert [r.labels for r in corpus.splits["x"]] == [(1,), (0,)]
    with pytest.raises(DataError, match=r"x\.csv:1: the header has no column for 1 of the labels: awe"):
        load_split(DataConfig(path=str(path)), LabelSet(("fear", "joy", "awe")), None)


# --- the starter corpus ------------------------------------------------------------------------------------------


def test_the_starter_corpus_comes_with_the_package() -> None:
    corpus = load_corpus(DataConfig(path=STARTER), ("train", "valid", "test"))
    assert corpus.labels == GOEMOTIONS
    assert min(len(records) for records in corpus.splits.values()) > 100


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["missing", "a\0b", "~nobody-of-this-name/x", "x" * 5000])
def test_a_path_that_is_not_there_is_refused(path: str) -> None:
    with pytest.raises(MissingInputError, match="no such file or folder") as caught:
        locate(path)
    assert STARTER in str(caught.value.hint)


def test_no_data_at_all_is_refused() -> None:
    with pytest.raises(MissingInputError, match="no data given"):
        load_corpus(DataConfig())


def test_a_folder_without_training_rows_is_refused(tmp_path: Path) -> None:
    write(tmp_path, dev_csv=TABLE)
    with pytest.raises(MissingInputError, match="no training file") as caught:
        load(tmp_path)
    assert "train.csv" in str(caught.value.hint)


def test_two_files_for_a_split_are_refused(tmp_path: Path) -> None:
    write(tmp_path, train_csv=TABLE, dev_csv=TABLE, val_txt="so;joy\n")
    with pytest.raises(DataError, match=r"two files for the split 'valid': dev\.csv and val\.txt") as caught:
        load(tmp_path)
    assert str(caught.value.place) == str(tmp_path)


def test_a_missing_split_is_refused(tmp_path: Path) -> None:
    write(tmp_path, train_csv=TABLE, dev_csv=TABLE)
    with pytest.raises(MissingInputError, match="no split 'test'") as caught:
        load(tmp_path, ("train", "test"))
    assert caught.value.hint == "Allowed: train, valid."


@pytest.mark.parametrize(
    ("files", "options", "place", "message"),
    [
        (
            {"train_csv": TABLE, "dev_csv": "text,label\na,joy\n\nb,jyo\n"},
            {},
            "dev.csv:4",
            "unknown label 'jyo'",
        ),
        ({"train_csv": TABLE, "dev_csv": TABLE}, {"labels": ["joy", "awe"]}, "train.csv:3", "unknown label 'fear'"),
        ({"train_csv": TABLE, "dev_csv": "texts,label\na,joy\n"}, {}, "dev.csv:1", "no column 'text'"),
        ({"train_txt": "a;joy\nb;fear\n", "dev_txt": b"\xff"}, {}, "dev.txt:1", "not UTF-8"),
        ({"train_csv": TABLE, "dev_csv": ""}, {}, "dev.csv", "empty"),
        ({"train_csv": TABLE + "hm,\n", "dev_csv": TABLE}, {}, "train.csv:4", "exactly one label, this one has 0"),
        (
            {"train_csv": "text,joy,fear\na,1,0\nb,1,1\n", "dev_csv": "text,joy,fear\na,1,0\n"},
            {"task": "multi_class"},
            "train.csv:3",
            "exactly one label, this one has 2",
        ),
        (
            {"train_csv": "text,label\na,joy\nb,joy|fear\n", "dev_csv": TABLE},
            {"task": "multi_class"},
            "train.csv:3",
            "exactly one label, this one has 2",
        ),
        ({"train_csv": many(9, "joy"), "dev_csv": TABLE}, {}, "train.csv", "needs more labels than ['joy']"),
        ({"train_csv": 'text,label\na,"j\noy"\nb,joy\n', "dev_csv": TABLE}, {}, "train.csv:2", "control characters"),
        ({"train_csv": "text,label\nso,joy\n"}, {"task": "multi_label"}, None, "too few rows (1) for a split 'valid'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, files: dict[str, str | bytes], options: dict[str, Any], place: str | None, message: str
) -> None:
    write(tmp_path, **files)
    with pytest.raises(DataError) as caught:
        load(tmp_path, **options)
    assert message in caught.value.message
    assert str(caught.value.place) == str(tmp_path if place is None else tmp_path / place)


def test_the_nearest_label_is_named(tmp_path: Path) -> None:
    write(tmp_path, train_csv=TABLE, dev_csv="text,label\na,faer\n")
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert str(caught.value.hint).startswith("Did you mean 'fear'?")


# --- whatever a file holds ---------------------------------------------------------------------------------------

FORMATS = st.sampled_from(["auto", "auto", "goemotions", "text_label", "table"])
PIECES = [
    *(b"text", b"label", b"anger", b"joy", b"0", b"1", b"2", b"99999999999999999999", b" ", b"[", b"]", b"'"),
    *(b",", b";", b"\t", b"|", b"\n", b"\n", b"\r", b'"', b'""', b"\0", b"\xff", b"\xef\xbb\xbf", b"PK\x03\x04"),
    *("\u2028".encode(), "²".encode(), "😀".encode(), b"text,label\n", b"text;anger;joy\n", b"so\t1\tx\n", b"so;joy\n"),
]


def survives(folder: Path, content: bytes, kind: Any) -> None:
    """The file is read, or refused with a message of ours."""
    write(folder, data_csv=content, labels_txt="anger\njoy\n")
    try:
        corpus = load(folder / "data.csv", ("train",), format=kind, split=[1.0, 0.0, 0.0])
    except EmotuneError:
        return
    assert corpus.splits["train"]
    assert all(corpus.labels.names)


@SHARED_FOLDER
@given(content=st.binary(max_size=300), kind=FORMATS)
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes, kind: str) -> None:
    survives(tmp_path, content, kind)


@SHARED_FOLDER
@given(content=st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join), kind=FORMATS)
def test_any_mixture_of_what_files_are_made_of_is_read_or_refused(tmp_path: Path, content: bytes, kind: str) -> None:
    survives(tmp_path, content, kind)
