"""The code of docs/adding-a-kind.md makes a kind that every verb takes."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny
from emotune import models
from emotune.cli.app import app
from emotune.config import kinds, settings

TEXT = (Path(__file__).parent.parent / "docs" / "adding-a-kind.md").read_text(encoding="utf-8")
FILE = re.compile(r"^<!-- file: (\S+) -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SETTINGS = re.compile(r"^<!-- settings -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(r"^<!-- entry -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files of the page, importable; its settings and its entry in `emotune.config`."""
    for name, content in FILE.findall(TEXT):
        (tmp_path / name).write_text(content, encoding="utf-8")
    known = vars(settings) | {}
    exec(SETTINGS.findall(TEXT)[0], known)
    monkeypatch.setattr(settings, "NaiveBayesConfig", known["NaiveBayesConfig"], raising=False)
    for name, kind in eval("{" + ENTRY.findall(TEXT)[0] + "}", vars(kinds) | {}).items():
        monkeypatch.setitem(kinds.KINDS, name, kind)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    yield tmp_path
    for loaded in ("emotune.models.naive_bayes", "test_naive_bayes"):
        sys.modules.pop(loaded, None)


def call(*args: str) -> str:
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_page_has_settings_an_entry_a_module_and_a_test() -> None:
    assert [name for name, _ in FILE.findall(TEXT)] == ["naive_bayes.py", "test_naive_bayes.py"]
    assert len(SETTINGS.findall(TEXT)) == len(ENTRY.findall(TEXT)) == 1


def test_its_test_passes(folder: Path) -> None:
    importlib.import_module("test_naive_bayes").test_it_learns_and_is_read_back(folder)


def test_every_verb_takes_it(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    data, run = tiny.multi_label(tmp_path_factory.getbasetemp()), folder / "run"
    kind = ("--set", "model.kind=naive_bayes", "--set", "model.columns=512", "--set", "tuning.folds=3")
    trained = json.loads(call("train", "starter", "--data", str(data), "--out", str(run), *kind, "--json"))
    assert trained["validation"]["macro_f1"] > 0.9
    assert json.loads(call("evaluate", str(run), "--split", "test", "--json"))["metrics"]["macro_f1"] > 0.9
    assert json.loads(call("predict", "-m", str(run), "so happy", "--json"))["labels"] == ["joy"]
    call("tune", str(run), "--calibrate", "--data", str(data), "--out", str(folder / "calibrated"))
    assert "naive Bayes over hashed words" in (run / "model" / "README.md").read_text(encoding="utf-8")
