"""Classifiers of other software are used as they are; `tune --out` makes them models of emotune."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import pipeline
from typer.testing import CliRunner, Result

from emotune.artifact.manifest import DECISION, MANIFEST
from emotune.artifact.opening import open_model
from emotune.cli.app import app
from emotune.errors import EmotuneWarning, ModelError
from emotune.inference.classifier import load
from emotune.labels import DAIR, EKMAN, Task

TEXTS = ["my brother was happy today", "furious and scared", "the letter"]
NAMES = ("anger", "fear", "joy", "sadness")


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def foreign_copy(model: Path, target: Path) -> Path:
    """The files of a model of emotune that plain transformers would write."""
    ours = shutil.ignore_patterns(MANIFEST, DECISION, "README.md")
    return Path(shutil.copytree(model, target, ignore=ours))


def configure(directory: Path, **changes: Any) -> Path:
    """Change config.json; None takes a key out."""
    path = directory / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return directory


def named(*names: str) -> dict[str, Any]:
    return {"id2label": {str(i): name for i, name in enumerate(names)}, "label2id": {n: i for i, n in enumerate(names)}}


@pytest.fixture
def foreign(multi_label_run: Path, tmp_path: Path) -> Path:
    """A multi-label classifier as transformers writes it."""
    return foreign_copy(multi_label_run / "model", tmp_path / "foreign")


@pytest.fixture
def foreign_classes(multi_class_run: Path, tmp_path: Path) -> Path:
    """A multi-class classifier as transformers writes it."""
    return foreign_copy(multi_class_run / "model", tmp_path / "foreign")


@contextmanager
def warned(match: str) -> Iterator[None]:
    with pytest.warns(EmotuneWarning, match=match) as caught:
        yield
    assert len(caught) == 1


# Used as it is


def test_it_gives_the_probabilities_of_plain_transformers(foreign: Path) -> None:
    with warned("not written by emotune"):
        classifier = load(foreign, device="cpu")
    answers = pipeline("text-classification", model=str(foreign), device="cpu", top_k=None)(TEXTS)
    expected = [[{a["label"]: a["score"] for a in answer}[name] for name in NAMES] for answer in answers]
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, atol=1e-5)
    assert classifier.labels.names == NAMES
    assert classifier.manifest.max_tokens == 48
    for said, row in zip(classifier(TEXTS), expected, strict=True):
        assert set(said.labels) == {name for name, p in zip(NAMES, row, strict=True) if p >= 0.5}


def test_every_verb_takes_it_and_warns_once(foreign: Path, multi_label_corpus: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in foreign.iterdir())
    for args in (["predict", "-m", foreign, TEXTS[0]], ["evaluate", foreign, "--data", multi_label_corpus]):
        result = call(*args, "--json")
        (warning,) = [line for line in result.stderr.splitlines() if line.startswith("warning:")]
        assert "its thresholds are untuned, 0.5 for every label" in warning
        assert f"emotune tune {foreign} --data DATA --out DIR" in warning
        assert json.loads(result.stdout.splitlines()[0])
    assert sorted(path.name for path in foreign.iterdir()) == before


def test_classes_need_no_thresholds(foreign_classes: Path) -> None:
    with warned("not written by emotune"):
        classifier = load(foreign_classes, device="cpu")
    assert classifier.labels.task is Task.MULTI_CLASS
    assert "untuned" not in open_model(str(foreign_classes)).notes[0]
    assert np.allclose(classifier.predict_proba(TEXTS).sum(axis=1), 1)


@pytest.mark.parametrize(
    ("problem", "names", "task"),
    [
        ("multi_label_classification", DAIR.names, Task.MULTI_LABEL),
        ("single_label_classification", EKMAN.names, Task.MULTI_CLASS),
        (None, DAIR.names, Task.MULTI_CLASS),  # dair-ai/emotion is known to have one label a text
        (None, EKMAN.names, Task.MULTI_LABEL),
        (None, ("calm", "wild"), Task.MULTI_CLASS),
        (None, ("calm",), Task.MULTI_LABEL),
    ],
)
def test_the_task_is_given_or_inferred_by_a_reported_rule(
    foreign: Path, problem: str | None, names: tuple[str, ...], task: Task
) -> None:
    found = open_model(str(configure(foreign, problem_type=problem, **named(*names))))
    assert (found.decision.labels.task, found.decision.labels.names) == (task, names)
    assert ("so emotune treats it" in found.notes[0]) == (problem is None)
    assert ("--task" in found.notes[0]) == (problem is None)


def test_labels_without_names_are_reported(foreign: Path) -> None:
    for changes in (named("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"), named("0", "1", "2", "3")):
        found = open_model(str(configure(foreign, **changes)))
        assert found.unnamed
        assert "emotune tune --labels FILE" in found.notes[0]
    assert not open_model(str(configure(foreign, **named(*NAMES)))).unnamed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem_type": "regression"}, "problem_type is 'regression'"),
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM, not a text classifier"),
        ({"id2label": {"0": "anger", "2": "joy"}}, "does not name each id from 0 to 1"),
        ({"id2label": ["anger", "joy"]}, "id2label names no labels"),
        (named("anger", "anger ", "joy", "sadness"), "blanks around it"),
        ({"id2label": {"0": "joy", "1": "joy", "2": "a", "3": "b"}}, "repeated label names: joy"),
    ],
)
def test_an_invalid_configuration_is_refused(foreign: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        open_model(str(configure(foreign, **changes)))


def test_pickles_beside_the_weights_are_not_read_and_alone_are_refused(foreign: Path) -> None:
    (foreign / "pytorch_model.bin").write_bytes(b"\x80not a pickle that could be read")
    assert open_model(str(foreign)).manifest is None
    (foreign / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="pickle files are never read"):
        open_model(str(foreign))


@pytest.mark.parametrize("tokenizer", ["tokenizer.json", "vocab.txt"])
def test_a_model_in_several_files_with_any_tokenizer(
    foreign: Path, tokenizer: str, checkpoint: Callable[[str], Path]
) -> None:
    from transformers import AutoModelForSequenceClassification

    expected = quietly(foreign).predict_proba(TEXTS)
    model = AutoModelForSequenceClassification.from_pretrained(foreign)
    (foreign / "model.safetensors").unlink()
    model.save_pretrained(foreign, max_shard_size="10KB")
    assert len(list(foreign.glob("model-*.safetensors"))) > 1
    if tokenizer == "vocab.txt":
        vocabulary = json.loads((foreign / "tokenizer.json").read_text())["model"]["vocab"]
        (foreign / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n")
        (foreign / "tokenizer.json").unlink()
    np.testing.assert_allclose(quietly(foreign).predict_proba(TEXTS), expected, atol=1e-6)


def quietly(directory: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmotuneWarning)
        return load(directory, device="cpu")
