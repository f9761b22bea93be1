"""Texts that are not English are noticed, where the model's card says that its language is English."""

import json
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import tiny
from emotune import load
from emotune.artifact.manifest import reseal, verify
from emotune.artifact.opening import CARD, open_model
from emotune.cli.app import app
from emotune.data.language import is_foreign

SENTENCES: dict[str, list[str]] = yaml.safe_load((Path(__file__).parent / "languages.yaml").read_text("utf-8"))
FOREIGN = "Estoy muy triste porque se fue mi perro"


def test_sentences_of_other_languages_are_foreign() -> None:
    found = {name: [is_foreign(text) for text in texts] for name, texts in SENTENCES.items() if name != "English"}
    assert len(found) >= 15
    every = [one for each in found.values() for one in each]
    assert sum(every) / len(every) >= 0.95
    assert {name for name, each in found.items() if sum(each) / len(each) < 0.75} == set()


@pytest.mark.parametrize("text", SENTENCES["English"])
def test_english_with_foreign_words_is_not(text: str) -> None:
    assert not is_foreign(text)


@pytest.mark.parametrize("text", ["", " ", "😀 😭😭", "12345", "[NAME]", "Müller", "ok", "C++ >> C#", "é", "日"])
def test_a_text_that_tells_nothing_is_not(text: str) -> None:
    assert not is_foreign(text)


def test_real_english_is_not() -> None:
    source = os.environ.get("EMOTUNE_TEST_DATA")
    if source is None:
        pytest.skip("the published files are not here: name the folder that holds them in EMOTUNE_TEST_DATA")
    rows = (Path(source) / "goemotions" / "dev.tsv").read_text(encoding="utf-8").splitlines()
    found = [row for row in rows if is_foreign(row.partition("\t")[0])]
    assert len(found) <= 0.005 * len(rows), found


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert is_foreign(text) in (True, False)
    assert is_foreign(text * 2000) in (True, False)  # only its start is looked at


@pytest.fixture
def model(base: Path, tmp_path: Path) -> Path:
    run = tmp_path / "run"
    arguments = ["train", "emotion-dummy", "--data", str(tiny.multi_label(base)), "--out", str(run)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    return run / "model"


def set_language(model: Path, lines: str) -> None:
    card = (model / CARD).read_text().replace("---\n", f"---\n{lines}\n", 1)
    reseal(model, verify(model), {CARD: card})


def test_predict_notes_texts_in_other_languages_once(model: Path) -> None:
    def predict(*texts: str) -> tuple[list[bool], str]:
        result = CliRunner().invoke(app, ["predict", "-m", str(model), "--json", *texts])
        assert result.exit_code == 0, result.output
        return [json.loads(line)["foreign"] for line in result.stdout.splitlines()], result.stderr

    assert predict("so happy", FOREIGN) == ([False, False], "")  # the card names no language
    set_language(model, "language: en")
    assert predict("so happy") == ([False], "")
    found, note = predict("so happy", FOREIGN, "")
    assert found == [False, True, False]
    assert "1 text is probably not English" in note
    found, note = predict(FOREIGN, FOREIGN)
    assert (found, note.count("\n")) == ([True, True], 1)
    assert "2 texts are probably not English" in note
    assert load(model)(FOREIGN)[0].foreign


@pytest.mark.parametrize(
    ("lines", "language"),
    [
        ("language: en", "en"),
        ("language: 'de'", "de"),
        ("language:\n- en", "en"),
        ("language:\n- en\n- de", None),
        ("language: [en, de]", None),
        ("language: null # en", None),
        ("languages: en", None),
    ],
)
def test_the_language_of_a_card(model: Path, lines: str, language: str | None) -> None:
    set_language(model, lines)
    assert open_model(str(model)).language == language


def test_a_card_without_front_matter_names_no_language(model: Path) -> None:
    reseal(model, verify(model), {CARD: "language: en\n"})
    assert open_model(str(model)).language is None
