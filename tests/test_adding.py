"""The code of docs/adding-a-format.md and docs/adding-a-loss.md works with the code that it changes."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import tiny
from emotune.cli.app import app
from emotune.data import formats
from emotune.labels import Task
from test_adding_a_kind import FILE

ROOT = Path(__file__).parent.parent
FORMAT, LOSS = ((ROOT / "docs" / f"adding-a-{name}.md").read_text(encoding="utf-8") for name in ("format", "loss"))
CHANGE = re.compile(r"^<!-- change: (\S+) -->\n```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def changed(page: str) -> dict[str, str]:
    """The files that a page changes, with its changes; fails for a change of lines that a file does not have once."""
    texts: dict[str, str] = {}
    for name, lines in CHANGE.findall(page):
        text = texts.get(name) or (ROOT / name).read_text(encoding="utf-8")
        old, new = ("".join(f"{line[1:]}\n" for line in lines.splitlines() if line[0] in kept) for kept in (" -", " +"))
        assert text.count(old) == 1, f"{name} does not have these lines once:\n{old}"
        texts[name] = text.replace(old, new)
    return texts


def module(name: str, text: str) -> ModuleType:
    """A module of this text."""
    made = ModuleType(name)
    made.__package__ = name.rpartition(".")[0]
    sys.modules[name] = made
    exec(compile(text, name, "exec"), made.__dict__)
    return made


@pytest.fixture
def bracketed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files of the page; the reader is among those of emotune."""
    for name, content in FILE.findall(FORMAT):
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    reader = importlib.import_module("emotune.data.formats.bracketed").READER
    others = dict(formats.READERS)
    specific = {each.name: each for each in formats._SPECIFIC}
    monkeypatch.setattr(formats, "READERS", specific | {reader.name: reader} | others)
    yield tmp_path
    for loaded in ("emotune.data.formats.bracketed", "test_bracketed"):
        sys.modules.pop(loaded, None)


def test_the_changes_of_the_format_fit() -> None:
    texts = changed(FORMAT)
    assert {Path(name).name for name in texts} == {"__init__.py", "schema.py"}
    for name, text in texts.items():
        compile(text, name, "exec")


def test_the_format_is_read_and_trained_on(bracketed: Path, tmp_path: Path) -> None:
    tests = importlib.import_module("test_bracketed")
    for name, test in vars(tests).items():
        if name.startswith("test_"):
            folder = tmp_path / name
            folder.mkdir()
            test(folder)
    rows = "".join(
        f"[{name}] {text}\n" for text, name in zip(tiny.LINE.split() * 2, ["joy", "anger"] * 22, strict=False)
    )
    (tmp_path / "rows.txt").write_text(rows, encoding="utf-8")
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "rows.txt")])
    assert result.exit_code == 0, result.output
    assert "lines of [labels] and a text" in result.output


def test_the_changes_of_the_loss_make_it_work(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = changed(LOSS)
    for name in ("emotune.config.schema", "emotune.models.losses"):
        monkeypatch.setitem(sys.modules, name, sys.modules.get(name) or importlib.import_module(name))
        module(name, texts[f"src/{name.replace('.', '/')}.py"])
    schema, losses = sys.modules["emotune.config.schema"], sys.modules["emotune.models.losses"]
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0.3, 0.5, 1]])
    config = schema.LossConfig(name="poly", poly_epsilon=0.5)
    loss = losses.make_loss(config, Task.MULTI_LABEL, targets.numpy(), torch.device("cpu"))(logits, targets)
    loss.backward()
    p, y = logits.detach().sigmoid().numpy().astype(np.float64), targets.numpy()
    of_positive, of_negative = -np.log(p) + 0.5 * (1 - p), -np.log(1 - p) + 0.5 * p
    assert loss.item() == pytest.approx((y * of_positive + (1 - y) * of_negative).mean(axis=1).sum())
    assert logits.grad is not None
    with pytest.raises(ValueError, match="applies only with"):
        schema.LossConfig(poly_epsilon=0.5)
