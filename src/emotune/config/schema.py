"""The configuration of a run, key by key. `config_files` reads it from recipes, YAML files and `--set a.b=c`."""

from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from emotune.decision import Fallback

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


def _number(value: Any) -> Any:
    """`1e-4`, which YAML 1.1 reads as a text, made the number that was meant."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Number = Annotated[float, BeforeValidator(_number)]


class Section(BaseModel):
    """A part of the configuration: unknown keys and values of another type are refused; an empty one is the default."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, values: Any) -> Any:
        return {} if values is None else values

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """The keys as they are written, with what each holds."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}


class DataConfig(Section):
    """Which texts to learn from, and how their files are laid out (`auto`: found by looking)."""

    path: str | None = Field(
        default=None, description="folder with train/valid/test files, one file that is split, or a hub data set's id"
    )
    revision: str | None = Field(default=None, description="of a hub data set: a branch, tag or commit")
    subset: str | None = Field(default=None, description="of a data set with several; ID:SUBSET means the same")
    format: Literal["auto", "goemotions", "text_label", "table", "headerless", "jsonl", "parquet", "fasttext"] = "auto"
    task: Literal["auto", "multi_label", "multi_class"] = "auto"
    delimiter: str | None = Field(default=None, description="between columns; found by looking when null")
    text_column: str | None = None
    label_column: str | None = Field(default=None, description="the one column that holds label names")
    label_columns: list[str] | None = Field(default=None, description="the 0/1 columns, one a label")
    label_delimiter: str | None = Field(default=None, description="between the label names of one cell")
    labels: list[str] | None = Field(default=None, description="the label names in order, when the data does not tell")
    labels_file: str | None = Field(
        default=None,
        description="names for label ids, one a line or as JSON; null: labels.txt, labels.json or *dict*.json beside",
    )
    raters: Literal["majority", "soft"] = Field(
        default="majority", description="where each rater has a row: labels of two or more, or shares as soft targets"
    )
    split: list[Number] = Field(
        default=[0.8, 0.1, 0.1], description="train, valid and test fractions when one file is split"
    )
    split_seed: int = Field(default=0, ge=0)
    fold: list[int] | None = Field(
        default=None,
        description="[n, folds]: the n-th of so many stratified folds of the training rows is held out and takes the "
        "validation split's place, as in the members of train --folds",
    )

    @field_validator("split")
    @classmethod
    def _split_is_whole(cls, split: list[float]) -> list[float]:
        if len(split) != 3 or min(split) < 0 or abs(sum(split) - 1) > 1e-6 or not split[0]:
            raise ValueError("needs three fractions (train, valid, test) that add up to 1")
        return split

    @field_validator("fold")
    @classmethod
    def _fold_is_one_of_them(cls, fold: list[int] | None) -> list[int] | None:
        if fold is not None and (len(fold) != 2 or not 1 <= fold[0] <= fold[1] or fold[1] < 2):
            raise ValueError("needs two numbers, [n, folds], with n from 1 to folds and folds at least 2")
        return fold


class KindConfig(Section):
    """What every kind of model is asked: which it is. Each kind has its own keys (`emotune.config.kinds`)."""

    kind: str

    @property
    def takes_thresholds(self) -> bool:
        """Whether thresholds are tuned: not for scores that say the labels themselves."""
        return True


class CheckpointConfig(KindConfig):
    """A kind that starts from somebody's checkpoint, or from its tokenizer alone."""

    encoder: str = Field(default=DEFAULT_ENCODER, min_length=1, description="local directory or hub id")
    revision: str | None = Field(default=None, description="hub revision: a branch, tag or commit")
    max_length: int = Field(default=128, ge=8, description="tokens of a training text; longer ones are cut")


class NetworkConfig(CheckpointConfig):
    """A network that the training loop fits step by step, and how much of it is trained."""

    dropout: Number = Field(default=0.1, ge=0, lt=1)
    freeze: Literal["none", "all", "last_n"] = Field(default="none", description="what of the encoder stays as it is")
    last_n: int = Field(default=2, ge=1, description="with freeze last_n: the top layers that are trained")
    freeze_word_embeddings: bool = True
    freeze_epochs: int = Field(default=0, ge=0, description="epochs at the start with the whole encoder frozen")
    train_only: list[str] | None = Field(
        default=None,
        description="names or patterns (*.bias) of the parameters that are trained, in place of freeze and "
        "freeze_word_embeddings",
    )
    freeze_parameters: list[str] = Field(
        default=[], description="names or patterns of parameters that stay as they are, whatever else is trained"
    )


class ModelConfig(NetworkConfig):
    """A pretrained encoder with a new head."""

    kind: Literal["encoder"] = "encoder"
    layers: int | None = Field(
        default=None, ge=1, description="how many of the encoder's layers are used, from the bottom; null: all"
    )
    pooling: Literal["class", "mean"] = Field(
        default="class",
        description="what the head reads: class, as the class of the encoder has it, mostly the first token; "
        "mean, of all tokens (BERT and its like), as one more layer",
    )
    head: Literal["linear", "mlp"] = Field(
        default="linear",
        description="linear: a new layer over the class's own pooling; mlp: a new hidden layer in the pooling's place",
    )
    head_hidden: int | None = Field(
        default=None, ge=1, description="units of an mlp head, no more than the encoder is wide; null: as many"
    )
    head_activation: Literal["auto", "tanh", "relu", "gelu"] = Field(
        default="auto", description="of an mlp head; auto: the class's own, which most classes fix"
    )
    head_init: Literal["auto", "checkpoint", "identity"] = Field(
        default="auto", description="start of a linear head's pooling; auto: identity for sentence encoders"
    )
    attention_dropout: Number = Field(default=0.0, ge=0, lt=1)


class LossConfig(Section):
    """What is minimised."""

    name: Literal["auto", "bce", "cross_entropy", "focal", "asl"] = Field(
        default="auto", description="auto: bce for multi-label, cross_entropy for multi-class"
    )
    weights: Literal["none", "ratio", "sqrt_ratio", "max_ratio", "balanced", "effective_number"] = Field(
        default="none",
        description="multi-label, of positives: ratio = negatives/positives, its square root, max(freq)/freq; "
        "multi-class: balanced; both: effective_number",
    )
    max_weight: Number = Field(default=20.0, gt=0, description="what no weight exceeds")
    beta: Number = Field(default=0.999, ge=0, lt=1, description="of effective_number: n count (1 - beta^n)/(1 - beta)")
    smoothing: Number = Field(
        default=0.0, ge=0, lt=1, description="how far targets are drawn to 1/2 (multi-label) or 1/classes"
    )
    focal_gamma: Number = Field(default=2.0, ge=0, description="of focal: weakens what is known by (1 - p)^gamma")
    gamma_pos: Number = Field(default=0.0, ge=0, description="of asl: the focal gamma of positives")
    gamma_neg: Number = Field(default=4.0, ge=0, description="of asl: the focal gamma of negatives")
    clip: Number = Field(default=0.05, ge=0, lt=1, description="of asl: negatives below this probability cost nothing")

    @field_validator("beta", "focal_gamma", "gamma_pos", "gamma_neg", "clip")
    @classmethod
    def _is_used(cls, value: float, info: ValidationInfo) -> float:
        key = str(info.field_name)
        chooser, choice = _USED_WITH[key]
        if value != cls.model_fields[key].default and info.data.get(chooser, choice) != choice:
            raise ValueError(f"has a meaning with loss.{chooser} {choice} only, not with {info.data[chooser]}")
        return value


_USED_WITH = {
    "beta": ("weights", "effective_number"),
    "focal_gamma": ("name", "focal"),
    "gamma_pos": ("name", "asl"),
    "gamma_neg": ("name", "asl"),
    "clip": ("name", "asl"),
}
_ARGUMENTS = {"adamw": ("betas", "eps"), "adam": ("betas", "eps"), "sgd": ("momentum", "nesterov")}


class OptimizerConfig(Section):
    """Who makes the steps, and how large they are."""

    name: Literal["adamw", "adam", "sgd"] = Field(
        default="adamw", description="adamw decays weights beside the gradient, adam and sgd through it"
    )
    lr: Number = Field(default=1.5e-4, gt=0, description="of the encoder")
    head_lr: Number | None = Field(default=1e-3, gt=0, description="of the head; null: the encoder's")
    layer_decay: Number = Field(
        default=1.0, gt=0, le=1, description="rate of a layer as a share of the one above it; the embeddings come last"
    )
    weight_decay: Number = Field(default=0.01, ge=0)
    no_decay: list[str] | None = Field(
        default=None, description="names or patterns of parameters without weight decay; null: biases and norms"
    )
    betas: list[Annotated[Number, Field(ge=0, lt=1)]] | None = Field(
        default=None, min_length=2, max_length=2, description="of adamw and adam; null: 0.9 and 0.999"
    )
    eps: Number | None = Field(default=None, gt=0, description="of adamw and adam; null: 1e-8")
    momentum: Number | None = Field(default=None, ge=0, lt=1, description="of sgd; null: 0.9")
    nesterov: bool | None = Field(default=None, description="of sgd: its momentum looks ahead; null: false")
    warmup: Number = Field(default=0.1, ge=0, lt=1, description="share of the steps in which the rate rises")
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    clip_norm: Number | None = Field(default=1.0, gt=0, description="longer gradients are cut to this; null: none")

    @field_validator("betas", "eps", "momentum", "nesterov")
    @classmethod
    def _is_taken(cls, value: object, info: ValidationInfo) -> object:
        name = info.data.get("name", "adamw")
        if value is not None and info.field_name not in _ARGUMENTS[name]:
            raise ValueError(f"is nothing that {name} takes; it takes {' and '.join(_ARGUMENTS[name])}")
        if info.field_name == "nesterov" and value and info.data.get("momentum") == 0:
            raise ValueError("needs an optimizer.momentum above 0")
        return value


class TrainingConfig(Section):
    """How long, how fast, and when to stop."""

    epochs: int = Field(default=4, ge=1)
    batch_size: int = Field(default=32, ge=1)
    accumulation: int = Field(default=1, ge=1, description="batches a step")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    metric: Literal["macro_f1", "micro_f1", "weighted_f1", "accuracy", "loss"] = Field(
        default="macro_f1", description="what names the best epoch, at thresholds tuned out of fold"
    )
    keep: Literal["best", "last"] = Field(default="best", description="which epoch's weights become the model")
    patience: int | None = Field(
        default=None, ge=1, description="epochs without a better metric before stopping; null: none"
    )
    ema: Number = Field(
        default=0.0, ge=0, lt=1, description="decay of an exponential moving average of the weights; 0: none"
    )
    max_steps: int | None = Field(default=None, ge=1, description="optimizer steps after which to end; null: all")
    checkpoint_steps: int | None = Field(default=None, ge=0, description="steps between checkpoints; null or 0: none")
    checkpoint_minutes: Number | None = Field(
        default=10.0, ge=0, description="minutes between checkpoints, and one after each epoch; null or 0: none"
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        description="train so many models, each without one fold of the training rows, and take their mean; null: one "
        "model of all rows",
    )
    keep_checkpoints: bool = Field(default=False, description="keep the checkpoints of a run that has succeeded")
    seed: int = Field(default=0, ge=0, lt=2**32)


class TuningConfig(Section):
    """How thresholds and temperature are chosen on the validation logits."""

    method: Literal["auto", "none", "global", "per_label", "shrunk"] = Field(
        default="shrunk", description="auto: whichever of the others is best out of fold"
    )
    objective: Literal["macro_f1", "micro_f1", "f_beta", "micro_f_beta", "precision"] = Field(
        default="macro_f1",
        description="f_beta: macro-averaged; precision: each label's largest recall at a precision of at_least",
    )
    beta: Number = Field(default=0.5, gt=0, description="f_beta: how many times recall counts as much as precision")
    at_least: Number = Field(default=0.8, gt=0, le=1, description="precision: what each label reaches out of fold")
    shrinkage: Number = Field(
        default=10.0, ge=0, description="shrunk: as many positives as make a label's own threshold count half"
    )
    folds: int = Field(default=5, ge=2)
    calibrate: bool = Field(default=True, description="fold one temperature into the last layer")


class DecisionConfig(Section):
    """What follows from the probabilities; never changed by the tuner."""

    when_nothing_passes: Literal["nothing", "best", "neutral"] = "nothing"
    neutral_excludes: bool = False

    @property
    def fallback(self) -> Fallback:
        return Fallback(self.when_nothing_passes)


class TrackingConfig(Section):
    """Who else is told of a training; `log.jsonl` always is."""

    trackers: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = Field(
        default=[], alias="with", description="tensorboard, wandb, mlflow, trackio; each is an extra of the same name"
    )
    project: str = Field(default="emotune", min_length=1, description="under which runs stand side by side")
    run_name: str | None = Field(default=None, min_length=1, description="null: the name of the run's directory")


class Config(Section):
    """A whole run. Every key can be overridden with `--set section.key=value`.

    `config_files` makes one whose `model` is of the kind that `model.kind` names.
    """

    name: str = "run"
    about: str = ""
    data: DataConfig = DataConfig()
    model: SerializeAsAny[KindConfig] = ModelConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    tuning: TuningConfig = TuningConfig()
    decision: DecisionConfig = DecisionConfig()
    tracking: TrackingConfig = TrackingConfig()

    def __eq__(self, other: object) -> bool:
        """Whether all keys have the same values; each kind of model has a class of configurations of its own."""
        return isinstance(other, Config) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    @property
    def checkpoint(self) -> CheckpointConfig | None:
        """The settings of a model that starts from somebody's checkpoint; None for one that starts from none."""
        return self.model if isinstance(self.model, CheckpointConfig) else None

    @property
    def tokens(self) -> CheckpointConfig:
        """By whose tokenizer the length of texts is told: that of the model, or of the default encoder."""
        return self.checkpoint or ModelConfig()

    @property
    def network(self) -> NetworkConfig:
        """The settings of a model that is trained step by step, which this one must be."""
        assert isinstance(self.model, NetworkConfig), "only networks are trained step by step"
        return self.model

    def to_yaml(self) -> str:
        """Every key with its value, such that reading it back gives this configuration."""
        # PyYAML writes these line breaks in a way that it reads as others, unless it escapes all that is not ASCII
        odd_breaks = set(self.model_dump_json()) & set("\x85\u2028\u2029")
        return yaml.safe_dump(
            self.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=not odd_breaks
        )
