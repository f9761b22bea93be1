"""The scikit-learn estimator of emotune, for pipelines, grid searches and cross-validation; needs scikit-learn.

A fitted estimator has its model directory among the temporary files. Its pickle has the bytes of these files; they are
verified against their manifest before a library reads them, and contain no pickle themselves.
"""

import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from emotune.artifact.manifest import MANIFEST
from emotune.artifact.opening import open_model
from emotune.config.kinds import FittedKind, find_kind
from emotune.config.loading import config_from, load_config
from emotune.config.schema import Config, DataConfig
from emotune.data.corpus import DataSource
from emotune.data.records import Corpus, Record, targets_of, text_keys
from emotune.errors import ConfigError, ModelError, UsageError, missing_library
from emotune.inference import classifier as inference
from emotune.labels import LabelSet, Task
from emotune.reporter import NullReporter
from emotune.runs import tracking
from emotune.scoring.folds import stratified_parts
from emotune.training import processes
from emotune.workflows.train import Material, findings_of, require_trainable, resolved_config, train_on

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.preprocessing import MultiLabelBinarizer
    from sklearn.utils import check_consistent_length, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise missing_library("emotune.sklearn", error.name, "ngrams") from error

_DEFAULT_KIND = "tfidf"
_MOST_HELD_OUT = 0.5
_X = Path("X")  # the file of a text in messages; its line is the position of the text, from 0
_NAMES = (list, tuple, set, frozenset, np.ndarray)
# the settings of the section data that do not describe files of texts
_USED = ("emoji_rows", "teacher", "teacher_weight", "unlabelled_texts", "fragments")
_logger = logging.getLogger(__name__)
_logger.addHandler(logging.NullHandler())  # or Python would print warnings of a program that configures no logging


class EmotionClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Any model that emotune trains, as a scikit-learn classifier of texts.

    X: texts (str), shape (n,) or (n, 1): a list, an array, a Series or a data frame of one column.
    y: for one label a text, names or integers, shape (n,); for any number of labels, an indicator matrix of 0 and 1,
    shape (n, labels), dense or sparse, or n lists of names. The columns of a data frame name the labels.

    recipe: a recipe by name, or a YAML file by path; its data is ignored. None: emotune's defaults.
    kind: the kind of model (model.kind); None: that of the recipe, or tfidf without a recipe.
    thresholds: how thresholds of multi-label models are chosen (tuning.method): none (0.5), global, per_label, shrunk,
    auto.
    C: the inverse strength of regularisation of tfidf, ngrams and features (model.C).
    epochs: the epochs of a network (training.epochs).
    random_state: an integer, the seed of the training and of the split (training.seed).
    validation_fraction: the share of the texts that is held out to tune thresholds and temperature and to choose the
    best epoch; stratified, equal texts together. Of very few texts, more are held out.
    settings: any other settings, such as {"loss.name": "focal"}; `set_params(settings__loss__name="focal")` sets a
    single one.
    device: auto, cpu, cuda, cuda:0, …, mps.
    None stands for the value of the recipe.

    Fitted attributes. classes_: the labels in the order of the columns of `predict_proba`: sorted classes or names, the
    columns of a data frame, or positions 0, 1, … of an indicator matrix. classifier_: the trained
    `emotune.EmotionClassifier`; its `directory` is a model directory for every command, until the estimator is deleted.
    """

    def __init__(
        self,
        recipe: str | Path | None = None,
        *,
        kind: str | None = None,
        thresholds: str | None = None,
        C: float | None = None,
        epochs: int | None = None,
        random_state: int | None = None,
        validation_fraction: float = 0.1,
        settings: Mapping[str, Any] | None = None,
        device: str = "auto",
    ) -> None:
        self.recipe, self.kind, self.thresholds, self.C, self.epochs = recipe, kind, thresholds, C, epochs
        self.random_state, self.validation_fraction = random_state, validation_fraction
        self.settings, self.device = settings, device

    def set_params(self, **params: Any) -> Self:
        """Set parameters; `settings__NAME` sets one setting and keeps the others."""
        single = {key: value for key, value in params.items() if key.startswith("settings__")}
        super().set_params(**{key: value for key, value in params.items() if key not in single})
        if single:
            named = {key.removeprefix("settings__").replace("__", "."): value for key, value in single.items()}
            self.settings = {**(self.settings or {}), **named}
        return self

    def fit(self, X: Any, y: Any) -> Self:
        """Train on texts and their labels.

        Raises TypeError for anything but texts and ValueError for labels of no known form, with the position;
        EmotuneError for settings or data that cannot be trained on, and for a missing library.
        """
        texts, answers = _texts(X), _Answers.of(y)
        check_consistent_length(texts, answers.rows)
        config = self._config()
        corpus = _corpus(texts, answers, self.validation_fraction, config.training.seed)
        self.classifier_ = _kept(lambda home: _train(config, corpus, home / "run", self.device), self.device)
        self.classes_ = answers.classes
        return self

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the class of each text, shape (n,), or the indicator matrix of the labels, shape (n, labels).

        A blank text gets the answer to the scores of no words.
        """
        probabilities = self.predict_proba(X)
        decision = self.classifier_.decision
        decided = decision.decide(probabilities)
        return (
            self.classes_[decided.argmax(axis=1)] if decision.labels.task is Task.MULTI_CLASS else decided.astype(int)
        )

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the probability of each label in the order of `classes_`, shape (n, labels)."""
        check_is_fitted(self)
        return self.classifier_.predict_proba(_texts(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy: the share of texts whose class, or whose whole set of labels, is right."""
        check_is_fitted(self)
        if (names := _lists_of_names(y)) is not None:
            y = MultiLabelBinarizer(classes=self.classes_).fit_transform(names)
        return float(super().score(X, y, sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.classifier_tags.multi_label = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if (found := state.get("classifier_")) is not None:
            names = [MANIFEST, *found.manifest.files]
            state["classifier_"] = {name: (found.directory / name).read_bytes() for name in names}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state.get("classifier_")
        super().__setstate__({key: value for key, value in state.items() if key != "classifier_"})
        if files is not None:
            self.classifier_ = _kept(lambda home: _write(files, home / "model"), self.device)

    def _config(self) -> Config:
        """Return the configuration of the training.

        Raises ConfigError for settings that it cannot have, EmotuneError for a missing library.
        """
        named = {
            "model.kind": _DEFAULT_KIND if self.kind is None and self.recipe is None else self.kind,
            "model.C": self.C,
            "training.epochs": self.epochs,
            "training.seed": self.random_state,
            "tuning.method": self.thresholds,
        }
        settings = {key.replace("__", "."): value for key, value in (self.settings or {}).items()}
        given = {key: value for key, value in named.items() if value is not None}
        for key in settings:
            if key in given and (key != "model.kind" or self.kind is not None):
                raise ConfigError(f"{key} is a parameter and in settings; give it once")
            if key == "training.folds" or (key.startswith("data.") and key.removeprefix("data.") not in _USED):
                raise ConfigError(
                    f"settings: {key} does not apply: the texts and labels are X and y, and one model is fitted"
                )
        # a grid of numpy has scalars of numpy
        values = {
            key: value.tolist() if hasattr(value, "tolist") else value for key, value in (given | settings).items()
        }
        config = config_from({}, values) if self.recipe is None else load_config(str(self.recipe), values)
        kind = find_kind(config.model.kind)
        require_trainable(kind)
        tracking.require(config.tracking)
        if self.epochs is not None and isinstance(kind, FittedKind):
            raise ConfigError(f"epochs does not apply: a model of kind {kind.name} is fitted by one call")
        training = config.training.model_copy(update={"folds": None, "checkpoint_minutes": None})
        data = DataConfig(**{key: getattr(config.data, key) for key in _USED})
        return config.model_copy(update={"data": data, "training": training})


# Texts and labels


def _texts(X: Any) -> list[str]:
    """Return the texts; raises TypeError with the position of another value, ValueError for several columns."""
    if isinstance(X, str):
        raise TypeError("X is one text; pass a list of texts, [text]")
    shape: tuple[int, ...] = getattr(X, "shape", ())
    if len(shape) == 2:
        if shape[1] != 1:
            raise ValueError(f"X has {shape[1]} columns; pass the one with the texts, such as X[:, 0] or frame['text']")
        X = np.asarray(X, dtype=object).ravel()
    return list(inference.checked_texts(X))


@dataclass(frozen=True)
class _Answers:
    """The labels of texts: `classes_`, the labels by name in the same order, and the label positions of each text."""

    classes: npt.NDArray[Any]
    labels: LabelSet
    rows: Sequence[Sequence[int]]

    @classmethod
    def of(cls, y: Any) -> "_Answers":
        """Read `y` of any form that `EmotionClassifier` takes; raises ValueError, DataError for an invalid name."""
        if y is None:
            raise ValueError("EmotionClassifier requires y to be passed, but the target y is None")
        if (names := _lists_of_names(y)) is not None:
            binarizer = MultiLabelBinarizer()
            matrix = binarizer.fit_transform(names)
            return cls._multi_label(np.array(binarizer.classes_.tolist()), matrix)
        try:
            values = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
        except ValueError:  # rows of different lengths
            raise ValueError(
                "y has rows of different lengths: pass an indicator matrix, or lists of names (str)"
            ) from None
        if values.ndim == 2 and values.shape[1] > 1:
            wrong = np.argwhere((values != 0) & (values != 1))
            if len(wrong):
                i, j = wrong[0].tolist()
                raise ValueError(f"y[{i}, {j}] is {values[i, j]!r}; an indicator matrix has 0 and 1")
            columns = getattr(y, "columns", None)
            classes = np.arange(values.shape[1]) if columns is None else np.array([str(name) for name in columns])
            return cls._multi_label(classes, values)
        return cls._multi_class(column_or_1d(values, warn=True))

    @classmethod
    def _multi_label(cls, classes: npt.NDArray[Any], matrix: npt.NDArray[Any]) -> "_Answers":
        rows = [np.flatnonzero(row).tolist() for row in matrix]
        return cls(classes, LabelSet(tuple(map(str, classes.tolist())), Task.MULTI_LABEL), rows)

    @classmethod
    def _multi_class(cls, values: npt.NDArray[Any]) -> "_Answers":
        for i, value in enumerate(values.tolist()):
            if value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value):
                raise ValueError(f"y[{i}] is {value} (a missing value); leave out the texts without a label")
        check_classification_targets(values)
        classes, positions = np.unique(values, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has one class only, {classes.tolist()}; a classifier needs two or more")
        labels = LabelSet(tuple(map(str, classes.tolist())), Task.MULTI_CLASS)
        return cls(classes, labels, [[position] for position in positions.tolist()])


def _lists_of_names(y: Any) -> list[Any] | None:
    """Return labels that are lists of names; None for another form. Raises ValueError for a row that is none."""
    rows = list(y) if getattr(y, "ndim", 1) == 1 and hasattr(y, "__len__") else []
    if not any(isinstance(row, _NAMES) and any(isinstance(name, str) for name in row) for row in rows):
        return None
    for i, row in enumerate(rows):
        if not isinstance(row, _NAMES) or not all(isinstance(name, str) for name in row):
            raise ValueError(f"y[{i}] is {row!r}, not a list of names, as others are")
    return rows


def _corpus(texts: Sequence[str], answers: _Answers, fraction: float, seed: int) -> Corpus:
    """Return the texts with a stratified part of them as the validation split: a larger one where that is empty."""
    if not 0 < fraction < 1:
        raise ValueError(f"validation_fraction is between 0 and 1, not {fraction!r}")
    labels = answers.labels
    records = [Record(text, tuple(row), _X, i) for i, (text, row) in enumerate(zip(texts, answers.rows, strict=True))]
    targets, keys = targets_of(records, len(labels)), text_keys(records)
    while len(set(parts := stratified_parts(targets, [1 - fraction, fraction], seed, keys).tolist())) < 2:
        if fraction >= _MOST_HELD_OUT:
            message = f"{len(texts)} texts, {len(set(texts))} of them different, are too few to hold some out"
            raise ValueError(f"{message} for validation")
        fraction = min(2 * fraction, _MOST_HELD_OUT)
    splits = {
        name: [record for record, part in zip(records, parts, strict=True) if part == number]
        for number, name in enumerate(("train", "valid"))
    }
    note = f"{len(texts):,} texts given in Python; {100 * fraction:g} % for validation, stratified, seed {seed}"
    return Corpus(labels, splits, (note,))


# The model and its directory


class _Log(NullReporter):
    """A reporter that passes messages and warnings to Python's logging."""

    def info(self, message: str) -> None:
        _logger.info(message)

    def warn(self, message: str) -> None:
        _logger.warning(message)


def _train(config: Config, corpus: Corpus, out: Path, device: str) -> Path:
    """Train a model and return its directory. Ctrl-C raises KeyboardInterrupt, also where a network would be kept."""
    if processes.count() > 1:
        raise UsageError("a scikit-learn estimator is fitted by one process; several train with: emotune train")
    resolved = resolved_config(config, DataSource(config.data, config.data))
    material = Material(config, resolved, corpus, findings_of(corpus, _Log()))
    outcome = train_on(material, out, reporter=_Log(), device=device, overwrite=False, resume=False)
    assert outcome is not None, "there is one process"
    if outcome.fitted.interrupted:
        raise KeyboardInterrupt
    return out / "model"


def _write(files: Mapping[str, bytes], directory: Path) -> Path:
    """Write the files of a pickled model directory; raises ModelError unless they are those of a manifest."""
    if MANIFEST not in files:
        raise ModelError(f"the pickled model has no {MANIFEST}")
    for name, content in files.items():
        path = directory / name
        if not path.resolve().is_relative_to(directory.resolve()):
            raise ModelError(
                f"a file of the pickled model has the name {name!r}; nothing is written outside its directory"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def _kept(fill: Callable[[Path], Path], device: str) -> inference.EmotionClassifier:
    """Fill a temporary directory with a model and load it, checked. The directory is removed with the classifier."""
    home = Path(tempfile.mkdtemp(prefix="emotune-"))
    try:
        found = inference.run_model(open_model(str(fill(home))), device=device, warn=_Log().warn, threads=None)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    weakref.finalize(found, _remove, home, os.getpid())
    return found


def _remove(home: Path, owner: int) -> None:
    """Remove a directory, unless this is a forked process and not its owner."""
    if os.getpid() == owner:
        shutil.rmtree(home, ignore_errors=True)
