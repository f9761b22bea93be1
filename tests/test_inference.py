"""A loaded model has the same probabilities as plain transformers, for any batch, length and text."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, pipeline

from emotune.artifact import manifest
from emotune.artifact.manifest import DECISION, reseal, verify
from emotune.artifact.safety.files import read_json
from emotune.atomic import json_text, write_json
from emotune.config.settings import EncoderConfig
from emotune.data import tokens
from emotune.decision import Decision
from emotune.errors import EmotuneError, MissingInputError, ModelError, UsageError
from emotune.inference.classifier import EmotionClassifier, Prediction, Scored, load
from emotune.labels import GOEMOTIONS, mapping_to
from emotune.models import bert
from emotune.models import encoder as encoders
from emotune.models.scoring import pick_device

POSITIONS = 48
Checkpoint = Callable[[str], Path]
Floats = npt.NDArray[np.float64]

TEXTS = [
    "my brother was happy today",
    "furious",
    "the dog came home without tears, but it was scared and it felt lonely in the rain again today",
    "the letter was about the garden",
    "glad",
    "a morning in terror before your friend came",
]
RUNS = ["multi_label_run", "multi_class_run"]


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Path:
    """A trained run directory, multi-label or multi-class."""
    return Path(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def classifier(multi_label_run: Path) -> EmotionClassifier:
    return load(multi_label_run, device="cpu")


def by_pipeline(directory: Path, texts: list[str], labels: tuple[str, ...], **options: Any) -> Floats:
    answers = pipeline("text-classification", model=str(directory), device="cpu", top_k=None)(texts, **options)
    scores = [{a["label"]: a["score"] for a in answer} for answer in answers]
    return np.array([[row[name] for name in labels] for row in scores])


# --- the same numbers --------------------------------------------------------------------------------------------


def test_probabilities_are_those_of_the_pipeline(run: Path) -> None:
    classifier = load(run, device="cpu")
    names = classifier.labels.names
    alone = np.concatenate([classifier.predict_proba(text) for text in TEXTS])
    np.testing.assert_allclose(alone, by_pipeline(run / "model", TEXTS, names), atol=2e-6)
    batched = by_pipeline(run / "model", TEXTS, names, batch_size=len(TEXTS))
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), batched, atol=1e-5)


def test_a_trained_model_predicts_the_emotions(run: Path) -> None:
    said = load(run, device="cpu")(["that was a furious letter", "my friend felt happy again"])
    assert [prediction.labels for prediction in said] == [("anger",), ("joy",)]


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(TEXTS), st.integers(1, 8))
def test_scores_depend_on_neither_batch_nor_order(
    classifier: EmotionClassifier, texts: list[str], batch_size: int
) -> None:
    alone = {text: classifier.predict_proba(text)[0] for text in TEXTS}
    together = classifier.predict_proba(texts, batch_size=batch_size)
    np.testing.assert_allclose(together, [alone[text] for text in texts], atol=1e-6)
    assert [p.text for p in classifier.predict(texts, batch_size=batch_size)] == texts


# --- one shape ---------------------------------------------------------------------------------------------------


def test_one_many_and_no_texts_give_a_list(classifier: EmotionClassifier) -> None:
    (alone,) = classifier("furious")
    assert classifier(["furious"]) == [alone] == classifier(("furious",)) == classifier.predict("furious")
    assert classifier([]) == []
    assert classifier.predict_proba("furious").shape == (1, 4)
    assert classifier.predict_proba([]).shape == (0, 4)
    assert classifier.logits([]).shape == (0, 4)


def test_a_prediction_holds_labels_and_all_scores(classifier: EmotionClassifier) -> None:
    text = "happy and glad but scared"
    (said,) = classifier(text)
    probabilities = classifier.predict_proba(text)
    assert said.scores == dict(zip(classifier.labels.names, probabilities[0].tolist(), strict=True))
    decided = classifier.decision.decide(probabilities)
    assert said.labels == tuple(classifier.decision.names(decided, probabilities)[0])
    ordered = sorted(said.scores.values(), reverse=True)
    assert list(said.top(2).values()) == ordered[:2]
    assert said.to_json(top_k=1)["scores"] == said.top(1)
    assert json.loads(json.dumps(said.to_json())) == {
        "text": text,
        "labels": list(said.labels),
        "scores": said.scores,
        "windows": 1,
        "unread": 0,
        "foreign": False,
        "blank": False,
    }


# --- long and strange texts --------------------------------------------------------------------------------------


def logits_by_hand(directory: Path, text: str, limit: int) -> tuple[Floats, int]:
    """Windows of `limit` tokens that overlap by a quarter, each scored alone; their mean weighted by tokens."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    first, *body, last = tokenizer.encode(text).ids
    size = limit - 2
    starts = range(0, max(1, len(body) - size // 4), size - size // 4)
    windows = [[first, *body[start : start + size], last] for start in starts]
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor([window])).logits[0].double().numpy() for window in windows]
    return np.average(logits, axis=0, weights=[len(window) for window in windows]), len(windows)


@pytest.mark.parametrize("words", [46, 47, 120, 300])
def test_a_long_text_is_the_mean_of_its_windows(
    words: int, classifier: EmotionClassifier, multi_label_run: Path
) -> None:
    assert classifier.manifest.max_tokens == 48
    text = " ".join((["happy", "the", "dog", "furious", "rain", "tears", "again"] * 50)[:words])
    expected, num_windows = logits_by_hand(multi_label_run / "model", text, 48)
    np.testing.assert_allclose(classifier.logits([text, "glad"])[0], expected, atol=1e-5)
    windows = [p.windows for p in classifier(["glad", text, "sad"])]
    assert windows == [1, num_windows, 1]
    assert (num_windows > 1) == (words > 46)


def test_the_end_of_a_long_text_counts(classifier: EmotionClassifier) -> None:
    calm = "the train came to the market " * 20
    (early, late) = classifier.predict_proba([calm, calm + "furious rage " * 60])
    anger = classifier.labels.index("anger")
    assert late[anger] > early[anger] + 0.2


STRANGE = ["", "   ", "😀", "\ud83d", "a\ud800b \udfff", "\x00", "\n\t", "ﷺ" * 50, "[CLS] [SEP] [PAD]", "x" * 5000]


@pytest.mark.parametrize("text", STRANGE, ids=ascii)
def test_unusual_texts_are_predicted(text: str, classifier: EmotionClassifier) -> None:
    alone = classifier.predict_proba(text)
    assert alone.shape == (1, 4)
    assert ((alone > 0) & (alone < 1)).all()
    np.testing.assert_allclose(classifier.predict_proba(["furious", text])[1], alone[0], atol=1e-6)


def test_ten_thousand_words_are_predicted(classifier: EmotionClassifier) -> None:
    (said,) = classifier("happy " * 10_000, max_windows=None)
    assert (said.windows > 200, said.unread) == (True, 0)
    assert said.labels == ("joy",)


@pytest.mark.parametrize("max_windows", [1, 2, 5])
@pytest.mark.parametrize("text", ["happy the dog again " * 100, "dogs" * 400, "!" * 400, "愛" * 400, "\ud83d " * 400])
def test_only_the_first_windows_of_a_very_long_text_are_read(
    text: str, max_windows: int, classifier: EmotionClassifier
) -> None:
    (whole,), (said,) = classifier(text, max_windows=None), classifier(text, max_windows=max_windows)
    read = text[: len(text) - said.unread]
    assert said.windows == min(max_windows, whole.windows)
    assert bool(said.unread) == (whole.windows > max_windows)
    (again,) = classifier(read, max_windows=None)
    assert again.scores == pytest.approx(said.scores, abs=1e-6)
    if whole.windows > max_windows:  # nothing more fits
        assert classifier(text[: len(read) + 4], max_windows=None)[0].windows > max_windows


def test_the_end_of_a_text_that_is_far_too_long_is_not_even_tokenized(
    classifier: EmotionClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(text: str) -> str:
        assert len(text) <= 1 << 20
        return text

    monkeypatch.setattr(tokens, "_without_surrogates", refuse)
    (said,) = classifier("happy rain " * 200_000, max_windows=3)
    assert (said.windows, said.labels) == (3, ("joy",))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=30), max_size=4))
def test_any_text_is_predicted(classifier: EmotionClassifier, texts: list[str]) -> None:
    said = classifier(texts)
    assert [p.text for p in said] == texts
    assert all(0 <= score <= 1 for p in said for score in p.scores.values())


class Table:
    """A table as of pandas, whose iterator yields the names of its columns."""

    columns = ("text",)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


WRONG: dict[str, tuple[Any, str]] = {
    "None among texts": (["fine", None], r"texts\[1\] is None \(a missing value\), not a str"),
    "NaN among texts": (["fine", "well", float("nan")], r"texts\[2\] is nan \(a missing value\), not a str"),
    "a number": ([1], r"texts\[0\] is the number 1 \(int\)"),
    "bytes among texts": ([b"bytes"], r"texts\[0\] is a bytes"),
    "a nested list": (["fine", ["nested"]], r"texts\[1\] is a list"),
    "rows": ([{"text": "fine"}], r"texts\[0\] is a dict"),
    "an array of numbers": (np.ones(2), r"texts\[0\] is the number 1.0 \(float64\)"),
    "bytes": (b"bytes", "texts is a bytes"),
    "None": (None, "texts is None"),
    "3": (3, r"texts is the number 3 \(int\)"),
    "a dict": ({"text": "fine"}, r"texts is a dict.*pass its texts"),
    "a table": (Table(), "texts is a Table.*pass the column"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("method", ["__call__", "predict_proba", "stream"])
def test_anything_but_texts_is_a_type_error_with_its_position(
    method: str, case: str, classifier: EmotionClassifier
) -> None:
    texts, message = WRONG[case]
    with pytest.raises(TypeError, match=message):
        list(getattr(classifier, method)(texts))


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\x00", "\ufeff", "\u200b \u2060", "\u3000"], ids=ascii)
def test_a_blank_text_is_not_read(text: str, classifier: EmotionClassifier) -> None:
    first, blank, last = classifier(["furious", text, "glad"])
    assert (blank.text, blank.labels, blank.scores, blank.windows, blank.blank) == (text, (), {}, 0, True)
    assert blank.to_json()["blank"] is True
    assert (first.labels[0], first.blank, last.labels[0]) == ("anger", False, "joy")
    assert np.isfinite(classifier.predict_proba(text)).all()


def test_a_classifier_shows_what_it_is(classifier: EmotionClassifier, multi_label_run: Path) -> None:
    for part in ("encoder", "4 labels", "multi_label", "anger, fear, joy, …", str(multi_label_run / "model")):
        assert part in repr(classifier)


# --- streams -----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*TEXTS, "", " "]), max_size=12), st.integers(1, 5))
def test_a_stream_has_the_predictions_of_a_list(
    classifier: EmotionClassifier, texts: list[str], chunk_size: int
) -> None:
    streamed = list(classifier.stream(iter(texts), chunk_size=chunk_size))
    assert [p.text for p in streamed] == texts
    for one, other in zip(streamed, classifier(texts), strict=True):
        assert (one.labels, one.windows) == (other.labels, other.windows)
        assert one.scores == pytest.approx(other.scores, abs=1e-6)


def test_a_stream_reads_no_more_than_a_chunk_ahead(classifier: EmotionClassifier) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"furious rain {read % 3}"

    stream = classifier.stream(endless(), chunk_size=4)
    assert [next(stream).labels for _ in range(5)] == [("anger",)] * 5
    assert read == 8


def test_equal_texts_of_a_chunk_are_scored_once(classifier: EmotionClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[str] = []
    backend = classifier._backend

    def counted(texts: Sequence[str], batch_size: int, max_windows: int | None) -> Scored:
        scored.extend(texts)
        return backend(texts, batch_size, max_windows)

    monkeypatch.setattr(classifier, "_backend", counted)
    assert len(classifier(["glad", "furious", "glad", "", "glad"])) == 5
    assert scored == ["glad", "furious"]


@pytest.mark.parametrize("error", [TypeError, ValueError, OSError])
def test_the_texts_before_an_error_are_predicted(error: type[Exception], classifier: EmotionClassifier) -> None:
    def failing() -> Iterator[Any]:
        yield from TEXTS[:5]
        if error is not TypeError:
            raise error
        yield None

    found: list[Prediction] = []
    with pytest.raises(error):
        found.extend(classifier.stream(failing(), chunk_size=3))
    assert [p.text for p in found] == TEXTS[:5]


@pytest.mark.parametrize("option", ["batch_size", "max_windows", "chunk_size"])
def test_a_number_below_one_is_refused_at_once(option: str, classifier: EmotionClassifier) -> None:
    with pytest.raises(UsageError, match=f"{option} is at least 1, not 0"):
        classifier.stream(TEXTS, **{option: 0})


# --- the network without transformers ----------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"pooling": "mean"}, {"head": "mlp", "head_hidden": 8}], ids=str)
def test_a_bert_classifier_without_transformers_has_the_same_logits(
    settings: dict[str, Any], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = encoders.build(checkpoint("bert"), EncoderConfig(**settings), GOEMOTIONS, torch.device("cpu"))
    seal(model, checkpoint("bert"), Decision.default(GOEMOTIONS), tmp_path)
    encoded = tokens.TextEncoder.from_file(tmp_path / "tokenizer.json", POSITIONS, 0).windows([*TEXTS, "rain " * 90])
    found = bert.load(tmp_path, "cpu")
    assert found is not None
    expected = encoders.TorchBackend(encoders.load(tmp_path), "cpu").logits(encoded, 4, 0)
    np.testing.assert_allclose(found.logits(encoded, 4, 0), expected, atol=1e-6)


@pytest.mark.parametrize("change", [{"hidden_act": "relu"}, {"num_hidden_layers": 3}, {"type_vocab_size": 1}], ids=str)
def test_what_that_network_does_not_know_is_left_to_transformers(
    change: dict[str, Any], multi_label_run: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(multi_label_run / "model", tmp_path / "model"))
    assert bert.load(model, "cpu") is not None
    write_json(model / "config.json", read_json(model / "config.json") | change)
    assert bert.load(model, "cpu") is None


def test_a_prediction_imports_only_what_it_uses(multi_label_run: Path) -> None:
    heavy = {"transformers", "torch._dynamo", "torch.distributed.tensor", "sklearn", "scipy", "accelerate"}
    code = (
        "import sys, emotune\n"
        f"print(emotune.load({str(multi_label_run)!r})('furious')[0].text)\n"
        f"print(sorted({heavy} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["furious", "[]"]


# --- options -----------------------------------------------------------------------------------------------------


def test_one_threshold_replaces_the_tuned_ones(classifier: EmotionClassifier) -> None:
    scores = classifier.predict_proba(TEXTS)
    tuned = [p.labels for p in classifier(TEXTS)]
    for threshold in (0.0, 0.2, 0.9, 1.0):
        found = [set(p.labels) for p in classifier(TEXTS, threshold=threshold)]
        names = classifier.labels.names
        assert found == [{names[j] for j in np.flatnonzero(row >= threshold)} for row in scores]
    assert [p.labels for p in classifier(TEXTS)] == tuned


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_an_invalid_threshold_is_refused(threshold: float, classifier: EmotionClassifier) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        classifier(TEXTS, threshold=threshold)


@pytest.mark.parametrize("number", ["3", 2.5, True, float("nan")])
@pytest.mark.parametrize("option", ["batch_size", "max_windows"])
def test_a_number_that_is_no_integer_is_refused(option: str, number: Any, classifier: EmotionClassifier) -> None:
    for method in (classifier.predict, classifier.predict_proba):
        with pytest.raises(UsageError, match=f"{option} is an integer, not"):
            method(TEXTS, **{option: number})
    assert classifier.predict_proba(TEXTS, **{option: np.int64(3)}).shape == (len(TEXTS), 4)


def test_options_of_other_types_are_refused(classifier: EmotionClassifier) -> None:
    with pytest.raises(UsageError, match="threshold is a number"):
        classifier(TEXTS, threshold="0.5")
    with pytest.raises(UsageError, match="level is a name"):
        classifier(TEXTS, level=3)


@pytest.mark.parametrize("k", [-1, 0, "2"])
def test_the_number_of_best_scores_is_checked(k: Any, classifier: EmotionClassifier) -> None:
    for method in (classifier("glad")[0].top, classifier("glad")[0].to_json):
        with pytest.raises(UsageError, match="k is"):
            method(k)


def test_logits_take_the_same_texts_as_predictions(classifier: EmotionClassifier) -> None:
    np.testing.assert_array_equal(classifier.logits("glad"), classifier.logits(["glad"]))
    np.testing.assert_array_equal(classifier.logits(text for text in TEXTS), classifier.logits(TEXTS))
    for texts, found in ((["glad", None], "texts[1] is None"), ({"a": 1}, "texts is a dict"), (None, "texts is None")):
        with pytest.raises(TypeError, match=re.escape(found)):
            classifier.logits(texts)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [0, -1])
def test_an_invalid_batch_size_is_refused(batch_size: int, classifier: EmotionClassifier) -> None:
    with pytest.raises(UsageError, match=f"batch_size is at least 1, not {batch_size}"):
        classifier(TEXTS, batch_size=batch_size)


@pytest.fixture(scope="module")
def goemotions(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> EmotionClassifier:
    """An untrained model of GoEmotions' 28 labels, with a different bias for each label."""
    directory = tmp_path_factory.mktemp("goemotions")
    torch.manual_seed(0)
    model = encoders.build(checkpoint("bert"), EncoderConfig(), GOEMOTIONS, torch.device("cpu"))
    torch.nn.init.normal_(model.classifier.bias, std=2.0)
    seal(model, checkpoint("bert"), Decision.default(GOEMOTIONS, 0.6), directory)
    return load(directory, device="cpu")


def seal(model: Any, source: Path, decision: Decision, directory: Path) -> None:
    encoder = encoders.text_encoder(source, model)
    encoders.save(model, source, encoder, directory)
    write_json(directory / DECISION, decision.to_json())
    described: dict[str, Any] = {"portability": "transformers", "encoder": "tiny", "versions": {}, "data": {}}
    manifest.seal(directory, kind="encoder", max_tokens=encoder.max_tokens, **described)


@pytest.mark.parametrize("level", ["ekman", "sentiment"])
def test_a_level_groups_labels_and_scores(level: str, goemotions: EmotionClassifier) -> None:
    members = mapping_to(level, GOEMOTIONS).members
    fine, coarse = goemotions(TEXTS), goemotions(TEXTS, level=level)
    assert any(p.labels for p in fine)
    for f, c in zip(fine, coarse, strict=True):
        assert c.scores == {name: max(f.scores[m] for m in group) for name, group in members.items()}
        assert set(c.labels) == {name for name, group in members.items() if set(group) & set(f.labels)}
        assert list(c.labels) == sorted(c.labels, key=lambda name: -c.scores[name])


def test_a_level_and_a_threshold_go_together(goemotions: EmotionClassifier) -> None:
    for said in goemotions(TEXTS, level="ekman", threshold=0.9):
        assert set(said.labels) == {name for name, score in said.scores.items() if score >= 0.9}


def test_an_unknown_level_is_refused(goemotions: EmotionClassifier, classifier: EmotionClassifier) -> None:
    with pytest.raises(UsageError, match=r"no level 'ekmann'\n.*Did you mean 'ekman'"):
        goemotions(TEXTS, level="ekmann")
    with pytest.raises(UsageError, match=r"no level 'ekman'\n.*known label set"):
        classifier(TEXTS, level="ekman")


# --- devices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tpu", "", "gpu", "meta", "xpu", "cuda:x"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        pick_device(name)


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [("cuda", 0, "PyTorch sees 0 GPUs"), ("cuda:2", 2, "PyTorch sees 2 GPUs"), ("mps", 0, "no device 'mps'")],
)
def test_a_missing_device_is_refused(
    name: str, gpus: int, message: str, multi_label_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=message):
        load(multi_label_run, device=name)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_best_device(cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 * cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device("auto") == torch.device(expected)
    assert pick_device("cpu") == torch.device("cpu")
    if cuda:
        assert pick_device("cuda:1") == torch.device("cuda:1")


# --- loading -----------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(multi_label_run: Path, tmp_path: Path) -> Path:
    """A copy of a model directory, to be damaged."""
    return Path(shutil.copytree(multi_label_run / "model", tmp_path / "model"))


def test_a_run_and_its_model_directory_are_the_same_model(multi_label_run: Path, copied: Path) -> None:
    expected = load(multi_label_run, device="cpu").predict_proba(TEXTS)
    assert np.array_equal(load(str(copied), device="cpu").predict_proba(TEXTS), expected)


def flip_a_byte(directory: Path) -> None:
    path = directory / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a byte flipped": flip_a_byte,
    "cut short": lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-1]),
    "no weights": lambda d: (d / "model.safetensors").unlink(),
    "no manifest": lambda d: (d / "emotune.json").unlink(),
    "manifest is no JSON": lambda d: (d / "emotune.json").write_text("{"),
    "thresholds changed": lambda d: (d / "decision.json").write_text((d / "decision.json").read_text() + " "),
    "a pickle beside": lambda d: (d / "pytorch_model.bin").write_bytes(b"\x80"),
    "code beside": lambda d: (d / "modeling_evil.py").write_text("raise SystemExit('was imported')"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_refused(damage: str, copied: Path) -> None:
    DAMAGES[damage](copied)
    with pytest.raises(ModelError):
        load(copied)


def resealed(directory: Path, **changes: Any) -> None:
    """Change config.json, and the manifest with it."""
    config = read_json(directory / "config.json") | changes
    reseal(directory, verify(directory), {"config.json": json_text(config)})


@pytest.mark.parametrize("id2label", [{"0": "fear", "1": "anger", "2": "joy", "3": "sadness"}, {"0": "anger"}, None])
def test_labels_that_differ_from_the_decision_are_refused(id2label: Any, copied: Path) -> None:
    resealed(copied, id2label=id2label)
    with pytest.raises(ModelError, match="do not name the same labels"):
        load(copied)


def test_labels_are_ordered_by_their_ids(copied: Path, classifier: EmotionClassifier) -> None:
    names = classifier.labels.names
    resealed(copied, id2label={str(i): names[i] for i in (3, 1, 0, 2)})
    assert np.array_equal(load(copied, device="cpu").predict_proba(TEXTS), classifier.predict_proba(TEXTS))


def test_weights_that_do_not_fit_are_refused(copied: Path) -> None:
    resealed(copied, intermediate_size=24)
    with pytest.raises(ModelError, match="cannot read this checkpoint"):
        load(copied, device="cpu")


def test_a_missing_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        load(tmp_path / "nothing")


def test_a_damaged_model_is_refused_before_anything_is_imported_for_it(copied: Path) -> None:
    """Neither torch nor code in the model directory is imported; a sealed model with code is refused."""
    config = read_json(copied / "config.json") | {"auto_map": {"AutoConfig": "evil.Config"}}
    (copied / "evil.py").write_text(f"open({str(copied.parent / 'was_run')!r}, 'w').close()")
    write_json(copied / "config.json", config)
    fields = read_json(copied / "emotune.json")
    (copied / "emotune.json").unlink()
    manifest.seal(copied, **{key: fields[key] for key in fields.keys() - {"format_version", "files"}})
    code = (
        "import sys\n"
        "from emotune.errors import ModelError\n"
        "from emotune.inference.classifier import load\n"
        "try:\n"
        f"    load({str(copied)!r})\n"
        "except ModelError as error:\n"
        "    print('auto_map' in str(error), 'torch' in sys.modules, 'transformers' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]
    assert not (copied.parent / "was_run").exists()


def test_without_torch_the_error_names_the_extra(multi_label_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "emotune.models.bert", None)
    with pytest.raises(EmotuneError, match=r"pip install '\.\[train\]'"):
        load(multi_label_run)


def test_scores_are_those_of_predict_as_arrays(run: Path) -> None:
    classifier = load(run)
    texts = ["what a day", "", "so sad", "what a day"]
    scores = classifier.scores(texts)
    for i, prediction in enumerate(classifier.predict(texts)):
        assert tuple(scores.names()[i]) == prediction.labels
        assert scores.windows[i] == prediction.windows
        if prediction.blank:
            assert np.isnan(scores.probabilities[i]).all()
        else:
            assert dict(zip(scores.labels.names, scores.probabilities[i], strict=True)) == prediction.scores
