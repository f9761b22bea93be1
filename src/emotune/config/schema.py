"""The configuration of a run by section. `kinds` has the section `model`; `loading` reads files and `--set`."""

import codecs
import json
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator

from emotune.config.settings import CheckpointConfig, EncoderConfig, KindConfig, NetworkConfig, Number, Section

# settings of the loss that apply only with one choice of another setting
_USED_WITH = {"beta": ("weights", "effective_number"), "focal_gamma": ("name", "focal")}
_USED_WITH |= dict.fromkeys(("gamma_pos", "gamma_neg", "clip"), ("name", "asl"))
# arguments of the optimizers
_ARGUMENTS = {"adamw": ("betas", "eps"), "adam": ("betas", "eps"), "sgd": ("momentum", "nesterov")}
_ASCII = bytes(range(128))
_Name = Annotated[str, Field(min_length=1)]
# encodings of domain names and of Python's source code
_NOT_OF_TEXT = ("idna", "unicode-escape", "raw-unicode-escape")


def _is_text_encoding(name: str) -> bool:
    """Whether Python has this encoding of text: UTF-16, UTF-32, or one with the ASCII characters as bytes."""
    try:
        name = codecs.lookup(name).name
        if name in _NOT_OF_TEXT:
            return False
        return name.startswith(("utf-16", "utf-32")) or _ASCII.decode(name) == _ASCII.decode("ascii")
    except (LookupError, ValueError, OSError):  # OSError: an encoding of Windows elsewhere
        return False


class DataConfig(Section):
    """The labelled texts and their file format (`auto`: detected)."""

    path: str | None = Field(
        default=None, description="folder with train/valid/test files, one file to split, or the id of a hub data set"
    )
    revision: str | None = Field(default=None, description="branch, tag or commit of a hub data set")
    subset: str | None = Field(default=None, description="subset of a hub data set, as in ID:SUBSET")
    format: Literal[
        "auto", "goemotions", "text_label", "table", "headerless", "jsonl", "parquet", "arrow", "xlsx", "fasttext"
    ] = Field(default="auto", description="format of the label files; auto: detected")
    sheet: str | None = Field(default=None, description="sheet of an Excel workbook; null: the only one with cells")
    encoding: str | None = Field(
        default=None, description="encoding of text files, such as cp1252; null: UTF-8, or UTF-16 with its mark"
    )
    task: Literal["auto", "multi_label", "multi_class"] = Field(
        default="auto", description="labels of a text; auto: multi_class where each row has exactly one"
    )
    delimiter: str | None = Field(default=None, description="column delimiter; null: detected")
    text_column: str | None = Field(default=None, description="column of the texts; null: detected")
    label_column: str | None = Field(default=None, description="column of label names; null: detected")
    label_columns: list[str] | None = Field(
        default=None, description="columns of 0 and 1, one per label; or columns with names, all of which a text has"
    )
    label_delimiter: str | None = Field(
        default=None, description="delimiter of label names within a cell; none: a cell is one name; null: detected"
    )
    labels: list[str] | None = Field(default=None, description="label names in order, if the data has none")
    labels_file: str | None = Field(
        default=None,
        description="file of names for label ids, one per line or JSON; null: labels.txt, labels.json or *dict*.json "
        "in the data folder",
    )
    first_id: Literal[0, 1] | None = Field(
        default=None, description="id of the first name in a list of names; null: 0, which must occur in the data"
    )
    values: Literal["auto", "soft", "graded"] = Field(
        default="auto",
        description="cells of label_columns; auto: 0/1, yes/no, x/blank and the like; soft: shares from 0 to 1; "
        "graded: numbers, positive from positive_from on",
    )
    positive_from: Number | None = Field(
        default=None, validate_default=True, description="grade from which on a label is positive"
    )
    unlabelled: Literal["keep", "drop"] = Field(
        default="keep", description="rows without a label; keep: an error in multi-class data; drop: left out"
    )
    raters: Literal["majority", "soft"] = Field(
        default="majority",
        description="rows of several raters; majority: labels of two or more; soft: shares of raters",
    )
    emoji_rows: bool = Field(
        default=True,
        description="add training rows of emoji and emoticons that stand alone, for labels named after emotions; at "
        "most a tenth of the training rows",
    )
    teacher: str | None = Field(
        default=None,
        min_length=1,
        description="model of the same labels whose probabilities become soft targets: a run, a model, a hub id, or "
        "default, the model of the package",
    )
    teacher_folds: int | None = Field(
        default=None,
        ge=2,
        description="without data.teacher: first train a teacher of this many models, each without one fold of the "
        "training rows, in the folder teacher/ of the run; null: no teacher",
    )
    teacher_recipe: _Name | list[_Name] | None = Field(
        default=None,
        description="recipe or YAML file of the teacher that teacher_folds asks for; several: their mean, each named "
        "again with its next seed; null: the settings of the run",
    )
    teacher_weight: Number = Field(
        default=0.5, gt=0, le=1, description="share of the teacher in the targets of a labelled text; the rest: labels"
    )
    unlabelled_texts: str | None = Field(
        default=None, description="file of more training texts, whose targets are the probabilities of the teacher"
    )
    fragments: int = Field(
        default=0,
        ge=0,
        le=100,
        description="parts of each training text, of one to eight words, that the teacher scores as more texts",
    )
    split: list[Number] = Field(
        default=[0.8, 0.1, 0.1], description="fractions of train, valid and test when one file is split"
    )
    split_seed: int = Field(default=0, ge=0, description="seed of the division into splits")
    fold: list[int] | None = Field(
        default=None,
        description="[n, folds]: hold out the n-th stratified fold of the training rows in place of the validation "
        "split, as a member of train --folds does",
    )

    @field_validator("encoding")
    @classmethod
    def _encoding_is_of_text(cls, name: str | None) -> str | None:
        if name is not None and not _is_text_encoding(name):
            raise ValueError(
                "needs an encoding of text that Python has, such as utf-8, utf-16, cp1252, latin-1, shift_jis"
            )
        return name

    @field_validator("positive_from")
    @classmethod
    def _belongs_to_grades(cls, grade: float | None, info: ValidationInfo) -> float | None:
        if (grade is not None) != (info.data.get("values") == "graded"):
            raise ValueError("needs a number with data.values=graded, and applies only with it")
        return grade

    @field_validator("teacher_weight", "unlabelled_texts", "fragments")
    @classmethod
    def _belongs_to_a_teacher(cls, value: object, info: ValidationInfo) -> object:
        changed = value != cls.model_fields[str(info.field_name)].default
        if changed and info.data.get("teacher") is None and info.data.get("teacher_folds") is None:
            raise ValueError(
                "applies only with a teacher: data.teacher=MODEL names one, data.teacher_folds=5 trains one"
            )
        return value

    @field_validator("teacher_recipe")
    @classmethod
    def _recipe_has_folds(cls, recipe: str | list[str] | None, info: ValidationInfo) -> str | list[str] | None:
        if recipe is not None and info.data.get("teacher_folds") is None:
            raise ValueError("applies only with data.teacher_folds, such as 5")
        if recipe == []:
            raise ValueError("needs a recipe, or null for the settings of the run")
        return recipe

    @field_validator("split")
    @classmethod
    def _split_adds_up(cls, split: list[float]) -> list[float]:
        if len(split) != 3 or min(split) < 0 or abs(sum(split) - 1) > 1e-6 or not split[0]:
            raise ValueError("needs three fractions (train, valid, test) that add up to 1")
        return split

    @field_validator("fold")
    @classmethod
    def _fold_exists(cls, fold: list[int] | None) -> list[int] | None:
        if fold is not None and (len(fold) != 2 or not 1 <= fold[0] <= fold[1] or fold[1] < 2):
            raise ValueError("needs two numbers, [n, folds], with n from 1 to folds and folds at least 2")
        return fold

    @property
    def teacher_recipes(self) -> list[str]:
        """The recipes of the teacher that `teacher_folds` asks for; none: it has the settings of the run."""
        return [self.teacher_recipe] if isinstance(self.teacher_recipe, str) else self.teacher_recipe or []


class LossConfig(Section):
    """The training loss."""

    name: Literal["auto", "bce", "cross_entropy", "focal", "asl"] = Field(
        default="auto", description="auto: bce for multi-label, cross_entropy for multi-class"
    )
    weights: Literal["none", "ratio", "sqrt_ratio", "max_ratio", "balanced", "effective_number"] = Field(
        default="none",
        description="weights of positives (multi-label): ratio = negatives/positives, sqrt_ratio, max_ratio = "
        "max(freq)/freq; of classes (multi-class): balanced; both: effective_number",
    )
    max_weight: Number = Field(default=20.0, gt=0, description="maximum weight")
    beta: Number = Field(default=0.999, ge=0, lt=1, description="effective_number of n rows: (1 - beta^n)/(1 - beta)")
    smoothing: Number = Field(
        default=0.0, ge=0, lt=1, description="label smoothing towards 1/2 (multi-label) or 1/classes"
    )
    focal_gamma: Number = Field(default=2.0, ge=0, description="gamma of focal: factor (1 - p)^gamma")
    gamma_pos: Number = Field(default=0.0, ge=0, description="focal gamma of positives (asl)")
    gamma_neg: Number = Field(default=4.0, ge=0, description="focal gamma of negatives (asl)")
    clip: Number = Field(
        default=0.05, ge=0, lt=1, description="probability margin of negatives (asl): no loss below it"
    )

    @field_validator("beta", "focal_gamma", "gamma_pos", "gamma_neg", "clip")
    @classmethod
    def _applies(cls, value: float, info: ValidationInfo) -> float:
        key = str(info.field_name)
        chooser, choice = _USED_WITH[key]
        if value != cls.model_fields[key].default and info.data.get(chooser, choice) != choice:
            raise ValueError(f"applies only with loss.{chooser} {choice}, not with {info.data[chooser]}")
        return value


class OptimizerConfig(Section):
    """Optimizer settings."""

    name: Literal["adamw", "adam", "sgd"] = Field(
        default="adamw", description="adamw: decoupled weight decay; adam and sgd: L2 regularisation"
    )
    lr: Number = Field(default=1.5e-4, gt=0, description="learning rate of the encoder")
    head_lr: Number | None = Field(default=1e-3, gt=0, description="learning rate of the head; null: lr")
    adapter_lr: Number = Field(
        default=5e-4, gt=0, description="learning rate of the encoder's adapters (model.adapter), in place of lr"
    )
    layer_decay: Number = Field(
        default=1.0, gt=0, le=1, description="learning rate of a layer relative to the layer above; embeddings last"
    )
    weight_decay: Number = Field(default=0.01, ge=0, description="weight decay of the parameters that have it")
    no_decay: list[str] | None = Field(
        default=None, description="names or patterns of parameters without weight decay; null: biases and norms"
    )
    betas: list[Annotated[Number, Field(ge=0, lt=1)]] | None = Field(
        default=None, min_length=2, max_length=2, description="betas of adamw and adam; null: 0.9 and 0.999"
    )
    eps: Number | None = Field(default=None, gt=0, description="epsilon of adamw and adam; null: 1e-8")
    momentum: Number | None = Field(default=None, ge=0, lt=1, description="momentum of sgd; null: 0.9")
    nesterov: bool | None = Field(default=None, description="Nesterov momentum of sgd; null: false")
    warmup: Number = Field(default=0.1, ge=0, lt=1, description="share of the steps with warm-up")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="learning rates after the warm-up; linear and cosine: down to 0"
    )
    clip_norm: Number | None = Field(default=1.0, gt=0, description="maximum gradient norm; null: none")

    @field_validator("betas", "eps", "momentum", "nesterov")
    @classmethod
    def _is_an_argument(cls, value: object, info: ValidationInfo) -> object:
        name = info.data.get("name", "adamw")
        if value is not None and info.field_name not in _ARGUMENTS[name]:
            raise ValueError(f"is not an argument of {name}, which takes {' and '.join(_ARGUMENTS[name])}")
        if info.field_name == "nesterov" and value and info.data.get("momentum") == 0:
            raise ValueError("needs an optimizer.momentum above 0")
        return value


class TrainingConfig(Section):
    """The training loop: duration, batches, precision, checkpoints and stopping."""

    epochs: int = Field(default=4, ge=1, description="passes over the training rows")
    batch_size: int = Field(default=32, ge=1, description="rows of a batch, divided over the processes of a training")
    accumulation: int = Field(default=1, ge=1, description="batches per optimizer step")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto",
        description="arithmetic; auto: bf16 where the device has it, fp16 on older GPUs, else fp32",
    )
    metric: Literal["macro_f1", "micro_f1", "weighted_f1", "accuracy", "loss"] = Field(
        default="macro_f1", description="metric that selects the best epoch, at thresholds tuned out of fold"
    )
    keep: Literal["best", "last"] = Field(default="best", description="epoch whose weights become the model")
    patience: int | None = Field(
        default=None, ge=1, description="epochs without improvement before early stopping; null: no early stopping"
    )
    ema: Number = Field(
        default=0.0, ge=0, lt=1, description="decay of an exponential moving average of the weights; 0: none"
    )
    max_steps: int | None = Field(default=None, ge=1, description="maximum number of optimizer steps; null: no limit")
    checkpoint_steps: int | None = Field(default=None, ge=0, description="steps between checkpoints; null or 0: none")
    checkpoint_minutes: Number | None = Field(
        default=10.0, ge=0, description="minutes between checkpoints, besides one after each epoch; null or 0: none"
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        description="number of models to train, each without one fold of the training rows, and to average; null: one "
        "model of all rows",
    )
    keep_checkpoints: bool = Field(default=False, description="keep the checkpoints of a finished run")
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of new weights, dropout and the order of the rows")


class TuningConfig(Section):
    """Tuning of thresholds and temperature."""

    method: Literal["auto", "none", "global", "per_label", "shrunk"] = Field(
        default="shrunk", description="auto: the best of the others out of fold"
    )
    objective: Literal["macro_f1", "micro_f1", "mean_f1", "f_beta", "micro_f_beta", "precision"] = Field(
        default="macro_f1",
        description="mean_f1: the mean of macro-F1, with weight macro_weight, and micro-F1; f_beta: macro-averaged; "
        "precision: the largest recall of each label at precision at_least",
    )
    macro_weight: Number = Field(default=0.8, ge=0, le=1, description="weight of macro-F1 in mean_f1")
    beta: Number = Field(default=0.5, gt=0, description="weight of recall relative to precision in f_beta")
    at_least: Number = Field(
        default=0.8, gt=0, le=1, description="minimum out-of-fold precision of each label (precision)"
    )
    shrinkage: Number = Field(
        default=10.0, ge=0, description="positives at which a label's own threshold counts half (shrunk)"
    )
    folds: int = Field(default=5, ge=2, description="folds of the cross-validation")
    rows: Literal["valid", "teacher"] = Field(
        default="valid",
        description="rows that choose the thresholds of a training; teacher: the training rows, by the out-of-fold "
        "probabilities of data.teacher",
    )
    calibrate: bool = Field(default=True, description="fold one temperature into the last layer")


class DecisionConfig(Section):
    """The decision rule besides the thresholds; not tuned."""

    when_nothing_passes: Literal["nothing", "best", "neutral"] = Field(
        default="nothing",
        description="prediction when no label reaches its threshold: no label, the most probable one, or neutral",
    )
    neutral_excludes: bool = Field(default=False, description="remove neutral beside another label")


class TrackingConfig(Section):
    """Experiment trackers, besides `log.jsonl`."""

    trackers: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = Field(
        default=[], alias="with", description="tensorboard, wandb, mlflow, trackio; each is an extra of the same name"
    )
    project: str = Field(default="emotune", min_length=1, description="project name in the trackers")
    run_name: str | None = Field(
        default=None, min_length=1, description="run name in the trackers; null: the name of the run directory"
    )


class Config(Section):
    """A whole run. Every key can be overridden with `--set section.key=value`.

    `loading` makes one whose section `model` has the settings of the kind that `model.kind` names.
    """

    name: str = Field(default="run", description="name of the recipe, and of its run directory")
    about: str = Field(default="", description="description of the recipe")
    data: DataConfig = DataConfig()
    model: SerializeAsAny[KindConfig] = EncoderConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    tuning: TuningConfig = TuningConfig()
    decision: DecisionConfig = DecisionConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def trains_teacher(self) -> bool:
        """Whether the run trains its teacher before its model."""
        return self.data.teacher is None and self.data.teacher_folds is not None

    def __eq__(self, other: object) -> bool:
        """Whether all keys have the same values. The class differs between kinds of models."""
        return isinstance(other, Config) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    @property
    def checkpoint(self) -> CheckpointConfig | None:
        """The settings of a model that starts from a checkpoint; None for other models."""
        return self.model if isinstance(self.model, CheckpointConfig) else None

    @property
    def tokens(self) -> CheckpointConfig:
        """The settings whose tokenizer measures text lengths: those of the model, or of the default encoder."""
        return self.checkpoint or EncoderConfig()

    @property
    def network(self) -> NetworkConfig:
        """The settings of a network; the model must be one."""
        assert isinstance(self.model, NetworkConfig), "only networks are trained by the training loop"
        return self.model

    def to_yaml(self) -> str:
        """Return YAML with every key; reading it back gives this configuration."""
        return yaml_text(self.model_dump(mode="json", by_alias=True))


def yaml_text(values: dict[str, Any]) -> str:
    """Return YAML of plain values; reading it back gives the same values."""
    # PyYAML does not read back these line breaks as it writes them, unless it escapes everything but ASCII
    odd_breaks = set(json.dumps(values, ensure_ascii=False)) & set("\x85\u2028\u2029")
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=not odd_breaks)
