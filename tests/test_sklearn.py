"""`emotune.sklearn.EmotionClassifier` is a classifier as scikit-learn expects one, but for its input: texts."""

from __future__ import annotations

import gc
import importlib
import logging
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import DataConversionWarning, NotFittedError, SkipTestWarning
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

import emotune
import tiny
from emotune.errors import ConfigError, DataError, EmotuneError, ModelError, install
from emotune.sklearn import EmotionClassifier

NAMES = ["anger", "fear", "joy"]
FAST = {"model.min_df": 1, "model.char_ngrams": None, "tuning.folds": 2}


def multi_label(number: int = 60) -> tuple[list[str], np.ndarray]:
    """Texts, and the indicator matrix of anger, fear and joy; each text has any of them."""
    matrix = np.array([[i >> j & 1 for j in range(3)] for i in range(number)])
    return tiny.texts(number, lambda i: [tiny.CUES[n][0] for n, on in zip(NAMES, matrix[i], strict=True) if on]), matrix


def multi_class(number: int = 60) -> tuple[list[str], list[str]]:
    """Texts, and the one label of each."""
    return tiny.texts(number, lambda i: [tiny.CUES[NAMES[i % 3]][0]]), [NAMES[i % 3] for i in range(number)]


def fast(**parameters: Any) -> EmotionClassifier:
    return EmotionClassifier(**{"settings": FAST} | parameters)


@pytest.fixture(scope="module")
def fitted() -> EmotionClassifier:
    """A multi-label model; not to be changed."""
    return fast().fit(*multi_label())


# --- scikit-learn's own checks -----------------------------------------------------------------------------------


class OfNumbers(EmotionClassifier):
    """Reads each row of numbers as a text, because scikit-learn's checks have numbers."""

    def fit(self, X: Any, y: Any) -> OfNumbers:
        if y is not None:
            X, _ = validate_data(self, X, y, multi_output=True)
        return super().fit(self._as_texts(X), y)

    def predict_proba(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return super().predict_proba(self._as_texts(validate_data(self, X, reset=False)))

    def _as_texts(self, X: Any) -> list[str]:
        return [" ".join(f"f{j}v{round(float(v) * 2)}" for j, v in enumerate(row)) for row in np.asarray(X)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = False, True
        return tags


def checks(*estimators: EmotionClassifier) -> Any:
    with warnings.catch_warnings():  # most checks need numbers, and are skipped for texts
        warnings.simplefilter("ignore", SkipTestWarning)
        return parametrize_with_checks(list(estimators))


@checks(EmotionClassifier())
def test_the_checks_that_take_texts_pass(estimator: Any, check: Any) -> None:
    check(estimator)


@checks(OfNumbers(settings=FAST))
def test_the_checks_pass_with_numbers_as_texts(estimator: Any, check: Any) -> None:
    check(estimator)


# --- labels ------------------------------------------------------------------------------------------------------


def test_an_indicator_matrix_comes_back() -> None:
    texts, matrix = multi_label()
    model = fast().fit(texts, matrix)
    found = model.predict(texts)
    assert found.dtype == int
    assert f1_score(matrix, found, average="macro") > 0.95
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.predict_proba(texts).shape == (60, 3)


@pytest.mark.parametrize(
    "form",
    [
        lambda matrix: [[NAMES[j] for j in np.flatnonzero(row)] for row in matrix],
        lambda matrix: pd.Series([{NAMES[j] for j in np.flatnonzero(row)} for row in matrix]),
        lambda matrix: pd.DataFrame(matrix, columns=NAMES),
        lambda matrix: pd.DataFrame(matrix.astype(bool), columns=NAMES),
    ],
    ids=["lists", "series of sets", "frame", "frame of booleans"],
)
def test_labels_with_names_give_the_model_of_the_matrix(form: Any, fitted: EmotionClassifier) -> None:
    texts, matrix = multi_label()
    model = fast().fit(texts, form(matrix))
    assert model.classes_.tolist() == NAMES
    assert model.classifier_.labels.names == tuple(NAMES)
    np.testing.assert_array_equal(model.predict_proba(texts), fitted.predict_proba(texts))
    assert model.score(texts, form(matrix)) == fitted.score(texts, matrix) > 0.9


@pytest.mark.parametrize("form", [csr_matrix, np.ndarray.tolist, lambda matrix: matrix.astype(float)])
def test_a_matrix_can_be_sparse_or_a_list(form: Any, fitted: EmotionClassifier) -> None:
    texts, matrix = multi_label()
    model = fast().fit(texts, form(matrix))
    np.testing.assert_array_equal(model.predict_proba(texts), fitted.predict_proba(texts))


@pytest.mark.parametrize("kind", [str, int, bool])
def test_classes_keep_their_type(kind: type) -> None:
    texts, names = multi_class()
    y = np.array([{str: name, int: 7 - NAMES.index(name), bool: name == "joy"}[kind] for name in names])
    model = fast().fit(texts, y)
    assert model.classes_.dtype == y.dtype
    assert model.classes_.tolist() == sorted(set(y.tolist()))
    assert (model.predict(texts) == y).mean() > 0.95
    np.testing.assert_allclose(model.predict_proba(texts).sum(axis=1), 1)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["joy", None, "fear"] * 4, r"y\[1\] is None \(a missing value\)"),
        ([1, 2, float("nan")] * 4, r"y\[2\] is nan"),
        ([0.5, 1.5, 2.5] * 4, "Unknown label type: continuous"),
        (["joy"] * 12, r"one class only, \['joy'\]"),
        ([["joy"], "fear", []] * 4, r"y\[1\] is 'fear', not a list of names"),
        ([["joy"], [3], []] * 4, r"y\[1\] is \[3\], not a list of names"),
        ([[1], [1, 2], []] * 4, "rows of different lengths"),
        ([[1, 0], [0, 2], [0, 0]] * 4, r"y\[1, 1\] is .*2"),
        (["joy", "fear"], "inconsistent numbers of samples"),
        (None, "the target y is None"),
    ],
)
def test_labels_that_are_none_are_refused(y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fast().fit(multi_class(12)[0], y)


def test_a_name_that_no_label_can_have_is_refused() -> None:
    texts, names = multi_class(12)
    with pytest.raises(DataError, match=r"label name ' joy'"):
        fast().fit(texts, [name.replace("joy", " joy") for name in names])


# --- texts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        tuple,
        np.array,
        pd.Series,
        lambda texts: pd.Series(texts, index=reversed(range(len(texts)))),
        lambda texts: np.array(texts, dtype=object).reshape(-1, 1),
        lambda texts: pd.DataFrame({"text": texts}),
    ],
    ids=["tuple", "array", "series", "series with another index", "column", "frame"],
)
def test_texts_of_any_form_have_the_same_answers(form: Any, fitted: EmotionClassifier) -> None:
    texts, matrix = multi_label()
    np.testing.assert_array_equal(fitted.predict(form(texts)), fitted.predict(texts))
    np.testing.assert_array_equal(fast().fit(form(texts), matrix).predict_proba(texts), fitted.predict_proba(texts))


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (["fine", None], TypeError, r"\[1\] is None"),
        (["fine", float("nan")], TypeError, r"\[1\] is nan"),
        (["fine", "fine", 3], TypeError, r"\[2\] is the number 3"),
        (["fine", ["nested"]], TypeError, r"\[1\] is a list"),
        ([["nested"], ["nested"]], TypeError, r"\[0\] is a list"),
        (np.zeros((4, 1)), TypeError, r"\[0\] is the number 0"),
        (np.array([["a", "b"]]), ValueError, "2 columns"),
        (pd.DataFrame({"id": [1], "text": ["a"]}), ValueError, r"2 columns.*frame\['text'\]"),
        ("fine", TypeError, "one text"),
        (b"fine", TypeError, "bytes"),
    ],
)
def test_anything_but_texts_is_refused(
    texts: Any, error: type[Exception], message: str, fitted: EmotionClassifier
) -> None:
    for call in (fitted.predict, fitted.predict_proba, lambda X: fast().fit(X, ["joy", "fear"])):
        with pytest.raises(error, match=message):
            call(texts)


def test_blank_texts_get_an_answer_and_train_nothing() -> None:
    texts, names = multi_class()
    model = fast().fit([*texts, "", "   "], [*names, "joy", "joy"])
    assert set(model.predict(["", "   "])) <= set(NAMES)
    with pytest.raises(ValueError, match="1 of them different, are too few"):
        fast().fit([""] * 20, ["joy", "fear"] * 10)


# --- parameters --------------------------------------------------------------------------------------------------


def test_parameters_reach_the_training(caplog: pytest.LogCaptureFixture) -> None:
    texts, matrix = multi_label()
    model = fast(thresholds="none", C=0.01).fit(texts, matrix)
    assert set(model.classifier_.decision.thresholds) == {0.5}
    assert np.ptp(model.predict_proba(texts)) < np.ptp(fast(C=100.0).fit(texts, matrix).predict_proba(texts))
    model = fast(kind="dummy", settings={"decision.when_nothing_passes": "best"}).fit(texts, matrix)
    assert model.classifier_.manifest.kind == "dummy"
    assert str(model.classifier_.decision.fallback) == "best"
    assert not caplog.records or max(record.levelno for record in caplog.records) <= logging.WARNING


def test_one_setting_can_be_set_among_others() -> None:
    model = fast().set_params(settings__model__min_df=np.int64(2)).set_params(**{"settings__model.min_df": 3, "C": 5})
    assert model.settings == FAST | {"model.min_df": 3}
    assert model.C == 5
    assert FAST["model.min_df"] == 1
    assert clone(model).get_params() == model.get_params()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kind": "tfdf"}, "Did you mean 'tfidf'"),
        ({"recipe": "startr"}, "Did you mean 'starter'"),
        ({"kind": "ensemble"}, "made of trained models"),
        ({"kind": "dummy", "C": 1.0}, "unknown key 'model.C'"),
        ({"thresholds": "bets"}, "tuning.method is one of"),
        ({"epochs": 3}, "epochs does not apply"),
        ({"random_state": -1}, "training.seed"),
        ({"settings": {"model.min_fd": 2}}, "unknown key 'model.min_fd'. Did you mean 'min_df'"),
        ({"settings": {"model.min_df": object()}}, "model.min_df"),
        ({"settings": {"data.path": "x"}}, "data.path does not apply"),
        ({"settings": {"training.folds": 3}}, "training.folds does not apply"),
        ({"C": 2.0, "settings": {"model.C": 1.0}}, "model.C is a parameter and in settings"),
    ],
)
def test_wrong_settings_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        EmotionClassifier(**parameters).fit(*multi_class(12))
    assert "--set" not in caught.value.message


def test_of_very_few_texts_more_are_held_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="emotune"):
        fast().fit(["a b", "b c", "c d", "d e"], ["x", "y", "x", "y"])
    assert "2 train rows, 2 valid rows" in caplog.messages
    with pytest.raises(ValueError, match="validation_fraction is between 0 and 1"):
        fast(validation_fraction=0).fit(*multi_class(12))


def test_the_same_seed_gives_the_same_model() -> None:
    texts, matrix = multi_label()
    probabilities = [fast(random_state=seed).fit(texts, matrix).predict_proba(texts) for seed in (None, 0, 0, 1)]
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    np.testing.assert_array_equal(probabilities[1], probabilities[2])
    assert not np.array_equal(probabilities[2], probabilities[3])


def test_fitting_is_quiet_and_logs_what_it_finds(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    texts, names = multi_class(24)
    with caplog.at_level(logging.INFO, logger="emotune"):
        fast().fit([*texts, texts[0]], [*names, "joy" if names[0] != "joy" else "fear"])
    assert capfd.readouterr() == ("", "")
    assert any("different labels" in r.message for r in caplog.records if r.levelno == logging.WARNING)


# --- with the rest of scikit-learn -------------------------------------------------------------------------------


def test_a_grid_search_over_the_threshold_policy_and_c() -> None:
    texts, matrix = multi_label()
    grid = {"thresholds": ["none", "shrunk"], "C": [0.01, 10.0]}
    search = GridSearchCV(fast(), grid, scoring="f1_macro", cv=KFold(2), error_score="raise").fit(texts, matrix)
    scores = dict(zip(map(str, search.cv_results_["params"]), search.cv_results_["mean_test_score"], strict=True))
    assert len(set(scores.values())) > 1
    assert search.best_score_ == max(scores.values()) > 0.75
    np.testing.assert_array_equal(search.predict(texts), search.best_estimator_.predict(texts))


def test_a_setting_can_be_searched_in_a_pipeline() -> None:
    texts, names = multi_class()
    pipeline = Pipeline(
        [
            ("column", ColumnTransformer([("text", "passthrough", ["text"])])),
            ("lower", FunctionTransformer(lambda X: np.char.lower(X.astype(str)))),
            ("emotion", fast()),
        ]
    )
    frame = pd.DataFrame({"id": range(len(texts)), "text": [text.upper() for text in texts]})
    search = GridSearchCV(pipeline, {"emotion__settings__model__min_df": [1, 2]}, cv=2, error_score="raise")
    assert search.fit(frame, names).score(frame, names) > 0.95


@pytest.mark.parametrize("scoring", ["f1_macro", "f1_samples", "accuracy", "roc_auc"])
def test_cross_validation_with_scores_of_several_labels(scoring: str) -> None:
    texts, matrix = multi_label()
    scores = cross_val_score(fast(), texts, matrix, cv=KFold(2), scoring=scoring, error_score="raise")
    assert scores.min() > 0.4


@pytest.mark.slow
def test_processes_of_joblib_fit_and_predict() -> None:
    texts, matrix = multi_label()
    scores = [cross_val_score(fast(), texts, matrix, cv=KFold(2), scoring="f1_macro", n_jobs=n) for n in (1, 2)]
    np.testing.assert_array_equal(*scores)
    model = fast().fit(texts, matrix)
    parts = joblib.Parallel(n_jobs=2)(joblib.delayed(model.predict_proba)(part) for part in (texts[:30], texts[30:]))
    np.testing.assert_array_equal(np.concatenate(parts), model.predict_proba(texts))


@pytest.mark.slow
def test_a_network_is_fitted_with_its_epochs(base: Path) -> None:
    texts, names = multi_class()
    settings = {
        "model.encoder": str(tiny.encoder(base)),
        "model.dropout": 0,
        "optimizer.lr": 5e-3,
        "optimizer.head_lr": 1e-2,
        "training.batch_size": 8,
        "training.precision": "fp32",
    }
    model = EmotionClassifier("starter", epochs=6, settings=settings, device="cpu").fit(texts, names)
    assert model.classifier_.manifest.kind == "encoder"
    assert model.score(texts, names) > 0.8
    restored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(restored.predict_proba(texts), model.predict_proba(texts))


@pytest.mark.slow
def test_an_interrupted_training_ends_the_program(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emotune.training.progress import Interrupt

    monkeypatch.setattr(Interrupt, "__enter__", lambda self: setattr(self, "requested", True) or self)
    settings = {"model.encoder": str(tiny.encoder(base)), "training.precision": "fp32"}
    with pytest.raises(KeyboardInterrupt):
        EmotionClassifier(kind="encoder", epochs=2, settings=settings, device="cpu").fit(*multi_class(24))


# --- the model directory and its pickle --------------------------------------------------------------------------


def test_the_directory_is_a_model_and_goes_with_the_estimator() -> None:
    texts, matrix = multi_label()
    model = fast().fit(texts, matrix)
    directory = model.classifier_.directory
    np.testing.assert_array_equal(emotune.load(directory).predict_proba(texts), model.predict_proba(texts))
    del model
    gc.collect()
    assert not directory.parents[1].exists()


def test_a_failed_training_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ConfigError, match="no n-gram occurs"):
        EmotionClassifier(settings={"model.min_df": 1000}).fit(*multi_class(24))
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_has_the_files_and_gives_the_same_probabilities(fitted: EmotionClassifier) -> None:
    texts, matrix = multi_label()
    model = fast().fit(texts, matrix)
    pickled = pickle.dumps(model)
    expected, directory = model.predict_proba(texts), model.classifier_.directory
    del model
    gc.collect()
    assert not directory.exists()
    restored = pickle.loads(pickled)
    np.testing.assert_array_equal(restored.predict_proba(texts), expected)
    assert restored.get_params() == fast().get_params()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(restored)).predict_proba(texts), expected)


def test_an_estimator_that_is_not_fitted_can_be_pickled() -> None:
    model = pickle.loads(pickle.dumps(fast(C=3.0)))
    assert model.C == 3.0
    with pytest.raises(NotFittedError):
        model.predict(["text"])


def changed(model: EmotionClassifier, change: Any) -> bytes:
    """The pickle of a model whose files `change` has changed."""
    state = model.__getstate__()
    change(state["classifier_"])
    copy = EmotionClassifier.__new__(EmotionClassifier)
    copy.__dict__ = state
    EmotionClassifier.__getstate__, kept = lambda self: self.__dict__, EmotionClassifier.__getstate__
    try:
        return pickle.dumps(copy)
    finally:
        EmotionClassifier.__getstate__ = kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.update({"model.safetensors": files["model.safetensors"][:-1] + b"\0"}), "sha256"),
        (lambda files: files.update({"decision.json": files["decision.json"] + b" "}), "sha256"),
        (lambda files: files.pop("vocabulary.json"), "lists 'vocabulary.json'"),
        (lambda files: files.pop("emotune.json"), "no emotune.json"),
        (
            lambda files: files.update({"emotune.json": files["emotune.json"].replace(b"tfidf", b"dummy")}),
            "its own sha256",
        ),
        (lambda files: files.update({"more.bin": b"pickle"}), "a pickle is not allowed"),
        (lambda files: files.update({"../outside.txt": b""}), "outside"),
        (lambda files: files.update({"/tmp/emotune-outside.txt": b""}), "outside"),
    ],
    ids=["weights", "thresholds", "missing", "no manifest", "manifest", "pickle", "parent", "absolute"],
)
def test_a_tampered_pickle_is_refused(
    change: Any, message: str, fitted: EmotionClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled = changed(fitted, change)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ModelError, match=message):
        pickle.loads(pickled)
    assert list(tmp_path.rglob("*")) == []


def test_a_column_of_classes_is_taken_with_a_warning() -> None:
    texts, names = multi_class(24)
    with pytest.warns(DataConversionWarning):
        fast().fit(texts, np.array(names).reshape(-1, 1))


def test_without_scikit_learn_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "emotune.sklearn")
    with pytest.raises(EmotuneError, match="needs scikit-learn") as caught:
        importlib.import_module("emotune.sklearn")
    assert caught.value.hint == install("ngrams")
