"""The kinds `tfidf`, `ngrams` and `dummy`, from configuration to prediction."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from typer.testing import CliRunner, Result

import emotune
import tiny
from emotune.artifact.manifest import verify
from emotune.cli.app import app
from emotune.config.kinds import FitData, FittedKind, TextModel, find_kind
from emotune.config.loading import config_from, load_config
from emotune.errors import ConfigError
from emotune.inference.classifier import EmotionClassifier
from emotune.labels import LabelSet, Task
from emotune.models.tfidf import WORD, Terms, Unit, weighting

KINDS = ("tfidf", "ngrams", "dummy")
OF_TERMS = ("tfidf", "ngrams")
WORDS = st.sampled_from(["so", "SO", "happy", "a", "don't", "naïve", "İ", "ﬁn", "!!", "😀😀", "x1_2", "\u200b", "日本"])
ANY_TEXT = st.one_of(st.text(max_size=20), st.lists(WORDS, max_size=8).map(" ".join))
TEXTS = ["so happy today", "HAPPY, happy; happy!", "furious and scared", "", "zebra ☂", "the cat sat on a mat " * 50]

READABLE = [text for text in TEXTS if text]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def trained(base: Path, kind: str, data: Path) -> Path:
    """A run of a kind on a corpus, trained once; do not change it."""

    def build(out: Path) -> None:
        result = call("train", "starter", "--data", data, "--out", out, "--set", f"model.kind={kind}")
        assert result.exit_code == 0, result.output
        out.with_suffix(".stderr").write_text(result.stderr)

    return tiny.once(base, f"{kind}-{data.name}", build)


@pytest.fixture(params=[(kind, corpus) for kind in KINDS for corpus in ("multi_label", "multi_class")], ids="-".join)
def run_of_kind(request: pytest.FixtureRequest, base: Path) -> Path:
    """Each kind, of both tasks."""
    kind, corpus = request.param
    return trained(base, kind, getattr(tiny, corpus)(base))


@pytest.fixture(scope="module")
def tfidf(base: Path) -> Path:
    return trained(base, "tfidf", tiny.multi_label(base))


@pytest.fixture(scope="module")
def classifier(tfidf: Path) -> EmotionClassifier:
    return emotune.load(tfidf)


# Training, and every verb after it


def test_every_verb_works_with_it(run_of_kind: Path, tmp_path: Path) -> None:
    run = tiny.copy(run_of_kind, tmp_path / "run")
    scores = json.loads(call("evaluate", run, "--json").stdout)
    assert scores["rows"] == tiny.SPLITS["test"]
    assert (run / "eval" / "test" / "report.html").is_file()
    answered = call("predict", "-m", run, "--json", *TEXTS)
    assert [json.loads(line)["text"] for line in answered.stdout.splitlines()] == TEXTS
    if verify(run / "model").kind in OF_TERMS:
        assert scores["metrics"]["macro_f1"] > 0.9
        assert json.loads(answered.stdout.splitlines()[0])["labels"] == ["joy"]
    made = call("tune", run, "--calibrate", "--out", tmp_path / "calibrated", "--json")
    assert made.exit_code == 0, made.stderr
    temperatures = json.loads(made.stdout)["calibration"]["temperatures"]
    before, after = (emotune.load(path) for path in (run, tmp_path / "calibrated"))
    expected = before.logits(TEXTS) / np.array(list(temperatures.values()))
    np.testing.assert_allclose(after.logits(TEXTS), expected, rtol=1e-5, atol=1e-6 + 1e-7 * np.abs(expected).max())
    if before.labels.task is Task.MULTI_LABEL:
        assert call("tune", run, "--method", "global").exit_code == 0
        assert len(set(emotune.load(run).decision.thresholds)) == 1


def test_message_card_and_manifest_say_that_transformers_cannot_load_it(
    run_of_kind: Path,
) -> None:
    shown, card = run_of_kind.with_suffix(".stderr").read_text(), (run_of_kind / "model" / "README.md").read_text()
    sentence = "plain transformers cannot (portability: emotune)"
    before, found, after = shown.partition(sentence)
    assert found
    assert "fitting" not in before
    assert ("fitting" in after) is (verify(run_of_kind / "model").kind in OF_TERMS)
    assert "Portability: emotune" in card
    assert "Plain transformers cannot load this kind of model" in card
    assert "library_name: emotune" in card
    assert verify(run_of_kind / "model").portability == "emotune"


def test_ignored_settings_are_named_in_one_sentence(run_of_kind: Path) -> None:
    shown = run_of_kind.with_suffix(".stderr").read_text()
    (line,) = [line for line in shown.splitlines() if "ignored for this kind" in line]
    assert "optimizer.lr" in line
    assert "training.epochs" in line
    assert "training.seed" not in line


def test_a_stopped_run_starts_again_and_a_finished_one_does_not(tfidf: Path, tmp_path: Path) -> None:
    run = tiny.copy(tfidf, tmp_path / "run")
    complete = call("train", "--resume", run)
    assert complete.exit_code == 0
    assert "already finished" in complete.stderr
    whole = tiny.contents(run / "model")
    (run / "model" / "emotune.json").unlink()
    resumed = call("train", "--resume", run)
    assert resumed.exit_code == 0, resumed.stderr
    assert "starting from scratch" in resumed.stderr
    assert tiny.contents(run / "model") == whole


def test_training_prints_json(base: Path, tmp_path: Path) -> None:
    data = tiny.multi_label(base)
    result = call("train", "semeval2025-tfidf", "--data", data, "--out", tmp_path / "run", "--json", "--device", "cpu")
    assert "ignored for this kind of model: --device" in result.stderr
    content = json.loads(result.stdout)
    assert content["epochs"] == []
    assert content["validation"]["macro_f1"] > 0.9


def test_the_dummy_recipe_predicts_the_most_frequent_class(base: Path, tmp_path: Path) -> None:
    result = call("train", "emotion-dummy", "--data", tiny.multi_class(base), "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "ignored for this kind" not in result.stderr
    answers = emotune.load(tmp_path / "run")(READABLE)
    assert {answer.labels for answer in answers} == {("anger",)}
    assert answers[0].scores["anger"] == max(answers[0].scores.values())
    assert all(answer.scores == answers[0].scores for answer in answers)


def test_the_most_frequent_labels_are_predicted_without_thresholds(base: Path, tmp_path: Path) -> None:
    settings = ("--set", "model.kind=dummy", "--set", "model.strategy=most_frequent", "--set", "model.num_labels=2")
    result = call("train", "starter", "--data", tiny.multi_label(base), "--out", tmp_path / "run", *settings)
    assert result.exit_code == 0, result.output
    assert "no thresholds are tuned" in result.stderr
    answers = emotune.load(tmp_path / "run")(READABLE)
    assert {len(answer.labels) for answer in answers} == {2}
    folds = call("train", "starter", "--data", tiny.multi_label(base), "--out", tmp_path / "f", "--folds", 2, *settings)
    assert folds.exit_code == 0, folds.output
    assert {len(answer.labels) for answer in emotune.load(tmp_path / "f")(READABLE)} == {2}


def test_more_labels_than_a_text_can_have_are_refused() -> None:
    for task, told in ((Task.MULTI_LABEL, "there are 3"), (Task.MULTI_CLASS, "a text has one label here")):
        with pytest.raises(ConfigError, match=told):
            fitted("dummy", fit_data(["a"] * 3, np.eye(3), task), strategy="most_frequent", num_labels=4)


@pytest.mark.parametrize(
    "name", ["goemotions-tfidf", "goemotions-ngrams", "emotion-tfidf", "semeval2025-tfidf", "emotion-dummy"]
)
def test_the_recipes_are_of_their_kind(name: str) -> None:
    assert load_config(name).model.kind == name.rsplit("-")[-1]


# What is saved, and what runs it


def test_torch_and_scikit_learn_are_not_needed_to_predict(run_of_kind: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'accelerate', 'sklearn', 'scipy'):\n"
        "    sys.modules[name] = None\n"
        "from emotune.cli.app import main\n"
        f"sys.argv = ['emotune', 'predict', '-m', {str(run_of_kind)!r}, 'so happy today']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("so happy today\n")


def fit_data(texts: list[str], targets: npt.ArrayLike, task: Task = Task.MULTI_LABEL) -> FitData:
    found = np.asarray(targets, dtype=np.float32)
    labels = LabelSet(tuple(f"label {i}" for i in range(found.shape[1])), task)
    return FitData(texts, found, labels, None, 0, "cpu", lambda _: None)


def fitted(kind: str, taught: FitData, **keys: object) -> tuple[FittedKind, TextModel]:
    found = find_kind(kind)
    assert isinstance(found, FittedKind)
    return found, found.fit(taught, config_from({"model": {"kind": kind, **keys}}).model)


@settings(deadline=None, max_examples=30)
@given(texts=st.lists(st.text(max_size=30), max_size=6), data=st.data())
@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("tfidf", {"min_df": 1}),
        ("tfidf", {"char_ngrams": None}),
        ("ngrams", {"min_df": 1, "word_ngrams": 3}),
        ("ngrams", {"char_ngrams": None, "lowercase": False}),
        ("dummy", {}),
    ],
)
def test_saved_scores_are_equal_and_do_not_depend_on_other_texts(
    kind: str, keys: dict[str, object], texts: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    number = 12
    targets = data.draw(st.lists(st.tuples(*[st.sampled_from([0.0, 0.4, 1.0])] * 3), min_size=number, max_size=number))
    taught = tiny.texts(number, lambda i: tiny.CUES["joy"][: i % 2])
    found, model = fitted(kind, fit_data(taught, targets), **keys)
    folder = tmp_path_factory.mktemp("model")
    model.save(folder)
    read = found.load(folder, "cpu")
    logits = read.logits([*taught, *texts], 32)
    np.testing.assert_allclose(logits, model.logits([*taught, *texts], 32), atol=1e-6)
    assert logits.dtype == np.float32
    alone = [read.logits([text], 1) for text in [*taught, *texts]]
    np.testing.assert_array_equal(logits, np.concatenate(alone))


@pytest.mark.parametrize("kind", OF_TERMS)
def test_the_empty_text_and_unknown_words_have_the_scores_of_the_bias_alone(kind: str, base: Path) -> None:
    classifier = emotune.load(trained(base, kind, tiny.multi_label(base)))
    logits = classifier.logits(["", "   ", "☂☂ ЖЖЖ"])
    assert np.isfinite(logits).all()
    assert (logits == logits[0]).all()
    assert classifier.logits([]).shape == (0, 3)


@pytest.mark.parametrize("task", list(Task))
def test_labels_without_a_row_are_unlikely(task: Task) -> None:
    targets = np.zeros((8, 3))
    targets[:, 0] = 1
    for kind in KINDS:
        _, model = fitted(
            kind, fit_data(["so happy today"] * 8, targets, task), **{"min_df": 1} if kind in OF_TERMS else {}
        )
        logits = model.logits(["so happy"], 1)[0]
        assert logits[0] > logits[1] == pytest.approx(logits[2])


def test_the_dummy_gives_the_frequencies_of_the_labels() -> None:
    targets = np.zeros((1000, 3))
    targets[:700, 0], targets[:200, 1] = 1, 1
    _, multi_label = fitted("dummy", fit_data(["a"] * 1000, targets))
    np.testing.assert_allclose(1 / (1 + np.exp(-multi_label.logits(["x"], 1)[0])), [0.7, 0.2, 0.0], atol=1e-3)
    _, most_frequent = fitted("dummy", fit_data(["a"] * 1000, targets), strategy="most_frequent")
    assert (most_frequent.logits(["x"], 1)[0] > 0).tolist() == [True, False, False]


# What is wrong with settings and surroundings


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"word_ngrams": None, "char_ngrams": None}, "needs word_ngrams or char_ngrams"),
        ({"word_ngrams": [2, 1]}, "the smaller one first"),
        ({"word_ngrams": [1]}, "two numbers"),
        ({"char_ngrams": [0, 3]}, "greater than or equal to 1"),
        ({"C": 0}, "greater than 0"),
        ({"class_weight": "balance"}, "one of none, balanced"),
        ({"encoder": "x"}, "unknown key 'model.encoder'"),
    ],
)
def test_invalid_settings_are_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from({"model": {"kind": "tfidf", **keys}})


def test_texts_without_a_common_term_are_refused() -> None:
    with pytest.raises(ConfigError, match="no n-gram occurs in 2 training texts") as caught:
        fitted("tfidf", fit_data(["one", "two"], [[1, 0], [0, 1]]), char_ngrams=None)
    assert "model.min_df=1" in str(caught.value)


def test_more_terms_than_a_model_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emotune.models.tfidf._MAX_TERMS", 3)
    with pytest.raises(ConfigError, match="6 n-grams occur in 1 training texts or more") as caught:
        fitted("tfidf", fit_data(["one two", "three four"], [[1, 0], [0, 1]]), char_ngrams=None, min_df=1)
    assert "model.max_features" in str(caught.value)


def test_without_scikit_learn_the_extra_is_named(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    result = call("train", "emotion-tfidf", "--data", tiny.multi_class(base), "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "pip install '.[ngrams]'" in result.stderr
    assert not (tmp_path / "run" / "model").exists()


# The weights of terms


@settings(deadline=None, max_examples=150)
@given(
    texts=st.lists(ANY_TEXT, min_size=1, max_size=8),
    others=st.lists(ANY_TEXT, max_size=3),
    unit=st.sampled_from(["word", "char"]),
    shortest=st.integers(1, 4),
    more=st.integers(0, 3),
    min_df=st.integers(1, 2),
    sublinear=st.booleans(),
    lowercase=st.booleans(),
)
def test_tfidf_weights_equal_those_of_scikit_learn(
    texts: list[str],
    others: list[str],
    unit: Unit,
    shortest: int,
    more: int,
    min_df: int,
    sublinear: bool,
    lowercase: bool,
) -> None:
    ours = weighting(
        texts, Terms(unit, shortest, shortest + more, lowercase), min_df=min_df, most=None, sublinear=sublinear
    )
    theirs = TfidfVectorizer(
        analyzer="word" if unit == "word" else "char_wb",
        token_pattern=WORD if unit == "word" else None,
        ngram_range=(shortest, shortest + more),
        min_df=min_df,
        sublinear_tf=sublinear,
        lowercase=lowercase,
    )
    try:
        theirs.fit(texts)
    except ValueError:  # it finds no term
        assert not ours.vocabulary
        return
    assert ours.vocabulary == tuple(theirs.get_feature_names_out())
    for text, row in zip([*texts, *others], theirs.transform([*texts, *others]).toarray(), strict=True):
        columns, weights = ours.row(text)
        mine = np.zeros(len(row))
        mine[columns] = weights
        np.testing.assert_allclose(mine, row, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("most", "kept"), [(1, ("b",)), (2, ("a", "b")), (9, ("a", "b", "c"))])
def test_the_terms_of_the_most_texts_are_kept(most: int, kept: tuple[str, ...]) -> None:
    found = weighting(["a b b", "b c", "a b", "c"], Terms("word", 1, 1, True), min_df=1, most=most, sublinear=True)
    assert found.vocabulary == kept
