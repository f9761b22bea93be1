"""The model that is part of emotune: what it is, what it says, and that it needs no PyTorch."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import emotune
from emotune.artifact.manifest import DEFAULT, find_model, verify
from emotune.cli.app import app
from emotune.config.behaviour import read_suite
from emotune.labels import GOEMOTIONS
from emotune.models import onnx
from emotune.workflows.check import Tally, run_cases

TEXTS = [
    "I can't believe I got the job!!",
    "The library closes at eight on weekdays.",
    "😂😂😂",
    "he left",
    "so sad :(",
]


@pytest.fixture(scope="module")
def classifier() -> emotune.EmotionClassifier:
    return emotune.load()


def test_it_is_whole_and_small() -> None:
    directory = find_model(DEFAULT)
    assert verify(directory).kind == "onnx"
    assert sum(path.stat().st_size for path in directory.iterdir()) <= 25_000_000


def test_it_has_the_labels_of_goemotions_and_a_card(classifier: emotune.EmotionClassifier) -> None:
    assert set(classifier.labels.names) == set(GOEMOTIONS.names)
    card = (find_model(DEFAULT) / "README.md").read_text(encoding="utf-8")
    for part in ("Intended use", "Data and method", "Scores", "Behaviour", "Limits and known biases", "Licences"):
        assert f"## {part}" in card
    assert "{{ " not in card
    assert " moves by 0." in card.partition("Words of identity")[2]  # the biases are named, not only mentioned
    assert classifier.language == "en"


def test_emoji_and_emoticons_alone_get_sensible_labels(classifier: emotune.EmotionClassifier) -> None:
    table = yaml.safe_load(Path(__file__).with_name("emoji_labels.yaml").read_text(encoding="utf-8"))
    for part, at_least in (("emoji", 36), ("emoticons", 17)):
        asked = [(text, set(table["groups"][group])) for group, texts in table[part].items() for text in texts]
        given = classifier([text for text, _ in asked])
        wrong = [text for (text, allowed), p in zip(asked, given, strict=True) if not allowed & set(p.labels)]
        assert len(asked) - len(wrong) >= at_least, wrong
    laughing, crying, angry, heart = (p.labels for p in classifier(["😂😂😂", "😢", "😡", "❤️"]))
    assert (laughing, crying, angry, heart) == (("amusement",), ("sadness",), ("anger",), ("love",))


def test_it_passes_most_of_the_behaviour_suite(classifier: emotune.EmotionClassifier) -> None:
    tally = Tally.of(run_cases(classifier, read_suite(None, classifier.labels), 64))
    assert tally.cases > 200
    assert tally.rate is not None
    assert tally.rate >= 0.7


def test_a_score_does_not_depend_on_the_batch(classifier: emotune.EmotionClassifier) -> None:
    rng = np.random.default_rng(0)
    together = classifier.logits(TEXTS)
    for _ in range(5):
        order = rng.permutation(len(TEXTS))
        assert np.abs(classifier.logits([TEXTS[i] for i in order]) - together[order]).max() <= 5e-6


def test_texts_by_themselves_share_the_threads_and_keep_their_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    own = onnx.Scorer._open
    monkeypatch.setattr(onnx, "_LONG", 0.0)
    monkeypatch.setattr(onnx.Scorer, "_open", lambda self, threads: (opened.append(threads), own(self, threads))[1])
    classifier = emotune.load(threads=2)
    together = classifier.logits(TEXTS)
    for _ in range(3):
        alone = np.concatenate([classifier.logits([text]) for text in TEXTS])
        np.testing.assert_array_equal(alone, together)
    assert opened == [1, 2]
    opened.clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: classifier.logits([text]), TEXTS * 20))
    np.testing.assert_array_equal(np.concatenate(found), np.tile(together, (20, 1)))
    one = emotune.load(threads=1)
    np.testing.assert_array_equal(np.concatenate([one.logits([text]) for text in TEXTS * 3]), np.tile(together, (3, 1)))
    assert opened == [1]
    monkeypatch.setattr(onnx, "_LONG", 60.0)
    short = emotune.load(threads=2)
    np.testing.assert_array_equal(
        np.concatenate([short.logits([text]) for text in TEXTS * 3]), np.tile(together, (3, 1))
    )
    assert opened == [1, 1]


def test_a_command_without_a_model_uses_it_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EMOTUNE_MODEL", raising=False)
    shown = CliRunner().invoke(app, ["predict", "--json", "thank you so much"])
    assert shown.exit_code == 0, shown.stderr
    assert "model: default, which is part of emotune" in shown.stderr
    assert "gratitude" in json.loads(shown.stdout)["labels"]
    named = CliRunner().invoke(app, ["predict", "-m", "default", "--json", "thank you so much"])
    assert (named.stdout, named.stderr) == (shown.stdout, "")


def test_texts_that_are_not_english_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["predict", "-m", "default", "--json", "Ich bin heute wirklich sehr traurig."])
    assert "probably not English" in shown.stderr
    assert json.loads(shown.stdout)["foreign"] is True


def test_predicting_imports_no_heavy_library(tmp_path: Path) -> None:
    code = "import sys; from emotune.cli.app import main; sys.argv[1:] = ['predict', '-q', 'well done!']\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'transformers', 'sklearn', 'scipy', 'onnx', 'jinja2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="there, telemetry has no file")
def test_onnx_runtime_sends_no_telemetry(tmp_path: Path) -> None:
    off = ("CI", "ORT_DISABLE_TELEMETRY", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")  # it sends none in tests
    environment = {name: value for name, value in os.environ.items() if name not in off} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-m", "emotune", "predict", "-m", DEFAULT, "so proud of you"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, env=environment)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_files_are_in_the_package() -> None:
    assert {path.name for path in (resources.files("emotune") / "default").iterdir()} == {
        *("README.md", "decision.json", "emotune.json", "export.json", "model.onnx", "tokenizer.json")
    }
