"""The shipped starter corpus passes its check, and the check refuses broken copies of it."""

from __future__ import annotations

import csv
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
STARTER = ROOT / "src" / "emotune" / "starter"
SPLITS = ("train", "valid", "test")

Rows = list[list[str]]


def load_check() -> ModuleType:
    """The script as a module; scripts/ is not a package."""
    spec = importlib.util.spec_from_file_location("check_starter", ROOT / "scripts" / "check_starter.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check = load_check()


def read(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def write(path: Path, rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A copy of the shipped corpus to be broken."""
    for split in SPLITS:
        shutil.copy(STARTER / f"{split}.csv", tmp_path)
    return tmp_path


def find_row(rows: Rows, holds: Callable[[str, str], bool]) -> int:
    """The index of the first row for which it holds; rows[0] is the header, so the line is one more."""
    return next(index for index, (text, labels) in enumerate(rows) if index and holds(text, labels))


def refusals(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the check says against a folder it must refuse."""
    assert check.main(folder) == 1
    return capsys.readouterr().err.splitlines()


def test_the_shipped_corpus_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(STARTER) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for label in check.LABELS:
        assert f"\n{label} " in out


def test_the_files_are_plain_csv_as_python_writes_it(tmp_path: Path) -> None:
    for split in SPLITS:
        shipped = STARTER / f"{split}.csv"
        write(tmp_path / shipped.name, read(shipped))
        assert (tmp_path / shipped.name).read_bytes() == shipped.read_bytes()


def test_the_card_states_the_counts() -> None:
    card = (STARTER / "CARD.md").read_text(encoding="utf-8")
    lines = {line.replace(" ", "") for line in card.splitlines()}
    tables = [read(STARTER / f"{split}.csv")[1:] for split in SPLITS]
    for label in check.LABELS:
        counts = [sum(label in labels.split("|") for _, labels in rows) for rows in tables]
        assert f"|{label}|{'|'.join(map(str, counts))}|{sum(counts)}|" in lines
    sizes = [len(rows) for rows in tables]
    assert f"|texts|{'|'.join(map(str, sizes))}|{sum(sizes)}|" in lines


def test_a_duplicate_is_refused_within_and_across_splits(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = read(corpus / "train.csv")[1:3]
    wanted = []
    for split, line, (text, labels) in (("train", 2, first), ("test", 3, second)):
        rows = read(corpus / f"{split}.csv")
        write(corpus / f"{split}.csv", [*rows, [f"{text.upper()} ...!", labels]])
        wanted.append(f"{split}.csv:{len(rows) + 1}: duplicate of train.csv:{line}")
    assert refusals(corpus, capsys) == wanted


def test_a_near_duplicate_is_refused(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read(corpus / "train.csv")
    index = find_row(rows, lambda text, _: 15 <= len(text.split()) <= 25)
    held_out = read(corpus / "test.csv")
    text, labels = rows[index]
    write(corpus / "test.csv", [*held_out, [f"well, {text} anyway", labels]])
    messages = refusals(corpus, capsys)
    assert messages
    for message in messages:
        assert message.startswith(f"test.csv:{len(held_out) + 1}: near-duplicate of train.csv:{index + 1} ")


def test_an_unknown_label_is_refused(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read(corpus / "valid.csv")
    rows[3][1] = "happiness"
    write(corpus / "valid.csv", rows)
    assert "valid.csv:4: unknown label 'happiness'" in refusals(corpus, capsys)


def test_a_repeated_label_is_refused(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read(corpus / "train.csv")
    index = find_row(rows, lambda _, labels: labels == "joy")
    rows[index][1] = "joy|joy"
    write(corpus / "train.csv", rows)
    assert refusals(corpus, capsys) == [f"train.csv:{index + 1}: a repeated label in joy|joy"]


def test_neutral_beside_another_label_is_refused(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read(corpus / "train.csv")
    index = find_row(rows, lambda _, labels: labels == "neutral")
    rows[index][1] = "curiosity|neutral"
    write(corpus / "train.csv", rows)
    wanted = f"train.csv:{index + 1}: neutral beside another label: curiosity|neutral"
    assert refusals(corpus, capsys) == [wanted]


def test_texts_of_the_wrong_length_are_refused(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read(corpus / "train.csv")
    line = len(rows) + 1
    too_long = " ".join(f"word{number}" for number in range(61))
    write(corpus / "train.csv", [*rows, [too_long, "joy"], ["too short", "joy"], ["", "joy"]])
    assert refusals(corpus, capsys) == [
        f"train.csv:{line}: 61 words, not 3 to 60",
        f"train.csv:{line + 1}: 2 words, not 3 to 60",
        f"train.csv:{line + 2}: empty text",
    ]


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (
            [
                "Zebras quietly paint ladders whenever my uncle forgets to lock up his orchard",
                "zebras quietly paint ladders, and the council still sends us every single invoice",
                "ZEBRAS QUIETLY PAINT LADDERS?? nobody mentioned this during orientation",
                "zebras, quietly, paint ladders. goodnight from a very confused zookeeper in Antwerp",
            ],
            "opening 'zebras quietly paint ladders'",
        ),
        (
            [
                "my uncle swears that zebras quietly paint ladders every noon behind his orchard",
                "Why would zebras quietly paint ladders every noon when council workers finish so early?",
                "orientation was brief: zebras quietly paint ladders every noon, goodnight, wear gloves",
            ],
            "phrase 'zebras quietly paint ladders every noon'",
        ),
    ],
)
def test_a_template_is_refused(
    corpus: Path, capsys: pytest.CaptureFixture[str], texts: list[str], complaint: str
) -> None:
    rows = read(corpus / "train.csv")
    write(corpus / "train.csv", [*rows, *([text, "joy"] for text in texts)])
    messages = refusals(corpus, capsys)
    assert len(messages) == 1
    assert messages[0].startswith(f"train.csv:{len(rows) + len(texts)}: template: the {complaint} also in ")


def test_a_lopsided_split_is_refused(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read(corpus / "train.csv")
    write(corpus / "train.csv", rows[:600])
    assert any(message.startswith("train.csv:1: ") and "not 70%" in message for message in refusals(corpus, capsys))


def test_a_missing_file_and_a_broken_row_are_refused(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (corpus / "valid.csv").unlink()
    rows = read(corpus / "test.csv")
    write(corpus / "test.csv", [*rows, ["one field only"]])
    messages = refusals(corpus, capsys)
    assert any(message.startswith("valid.csv:1: cannot be read") for message in messages)
    assert f"test.csv:{len(rows) + 1}: 1 fields, not 2" in messages
