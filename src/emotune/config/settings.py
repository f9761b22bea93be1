"""The section `model`: the settings of each kind of model. `kinds` has the table of the kinds."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo

from emotune.config.kinds import DEFAULT_ENCODER


def _number(value: Any) -> Any:
    """Return the number that a string holds, because YAML 1.1 reads `1e-4` as a string; other values as they are."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Number = Annotated[float, BeforeValidator(_number)]


class Section(BaseModel):
    """A section of the configuration. Unknown keys and wrong types are errors; an empty section means the defaults."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, values: Any) -> Any:
        return {} if values is None else values

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """Return the fields by the keys that YAML uses."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}


class KindConfig(Section):
    """The settings that every kind of model has."""

    kind: str

    @property
    def takes_thresholds(self) -> bool:
        """Whether thresholds are tuned. False for a model whose scores are already decisions."""
        return True


class CheckpointConfig(KindConfig):
    """The settings of a kind that starts from a pretrained checkpoint, or uses only its tokenizer."""

    encoder: str = Field(default=DEFAULT_ENCODER, min_length=1, description="local directory or hub id")
    revision: str | None = Field(default=None, description="hub revision: branch, tag or commit")
    max_length: int = Field(default=128, ge=8, description="tokens of a training text; longer texts are cut")
    emoji_tokens: bool = Field(default=True, description="add tokens for the emoji that the tokenizer does not know")


class NetworkConfig(CheckpointConfig):
    """The settings of a network that the training loop trains."""

    dropout: Number = Field(default=0.1, ge=0, lt=1, description="dropout of the encoder and the head")
    freeze: Literal["none", "all", "last_n"] = Field(
        default="none", description="frozen part of the encoder; last_n: all but the top layers"
    )
    last_n: int = Field(default=2, ge=1, description="number of top layers that freeze last_n trains")
    freeze_word_embeddings: bool = Field(default=True, description="leave the word embeddings as they are")
    freeze_epochs: int = Field(default=0, ge=0, description="first epochs, in which the whole encoder is frozen")
    train_only: list[str] | None = Field(
        default=None,
        description="names or patterns (*.bias) of the trained parameters; replaces freeze and freeze_word_embeddings",
    )
    freeze_parameters: list[str] = Field(
        default=[], description="names or patterns of parameters that are always frozen"
    )


class EncoderConfig(NetworkConfig):
    """A pretrained encoder with a new head."""

    kind: Literal["encoder"] = "encoder"
    init: str | None = Field(
        default=None,
        min_length=1,
        description="encoder model of the same architecture that the network starts from, with its tokenizer and its "
        "head of the labels that both have: a run, a model or a hub id; null: the encoder alone",
    )
    init_share: Number = Field(
        default=1.0, gt=0, le=1, description="share of that model in the weights at the start; the rest: the encoder"
    )
    layers: int | list[int] | None = Field(
        default=None,
        description="number of encoder layers, from the bottom; or a list of them, where 1 is the lowest; null: all",
    )
    pooling: Literal["class", "mean"] = Field(
        default="class",
        description="input of the head; class: as the transformers class has it, mostly the first token; "
        "mean: the mean of all tokens, as one more layer (BERT-like encoders)",
    )
    head: Literal["linear", "mlp"] = Field(
        default="linear",
        description="linear: a new layer on the pooling of the transformers class; mlp: a new hidden layer instead",
    )
    head_hidden: int | None = Field(
        default=None, ge=1, description="units of an mlp head, at most the encoder's width; null: that width"
    )
    head_activation: Literal["auto", "tanh", "relu", "gelu"] = Field(
        default="auto", description="activation of an mlp head; auto: that of the transformers class, mostly fixed"
    )
    head_init: Literal["auto", "checkpoint", "identity"] = Field(
        default="auto", description="initial pooling layer of a linear head; auto: identity for sentence encoders"
    )
    attention_dropout: Number = Field(default=0.0, ge=0, lt=1, description="dropout of attention weights")
    adapter: Literal["none", "lora"] = Field(
        default="none",
        description="lora: train low-rank adapters of the encoder's layers and the head; the saved model has none",
    )
    lora_rank: int = Field(default=16, ge=1, description="rank of the adapters")
    lora_alpha: Number | None = Field(
        default=None, gt=0, description="factor of the adapters, divided by the rank; null: the rank"
    )
    lora_dropout: Number = Field(default=0.0, ge=0, lt=1, description="dropout of the inputs of the adapters")
    lora_targets: list[str] | None = Field(
        default=None,
        min_length=1,
        description="names or patterns (*.query) of the linear layers with an adapter; null: all within the encoder's "
        "layers",
    )

    @field_validator("init_share")
    @classmethod
    def _belongs_to_a_model(cls, share: float, info: ValidationInfo) -> float:
        if share != 1 and info.data.get("init") is None:
            raise ValueError("applies only with another model to start from, which model.init=MODEL names")
        return share

    @field_validator("layers", mode="before")
    @classmethod
    def _layers_ascend(cls, found: Any) -> Any:
        numbers = found if isinstance(found, list) else [found]
        whole = found is None or all(type(number) is int and number > 0 for number in numbers)
        if not whole or not numbers or any(a >= b for a, b in pairwise(numbers)):
            raise ValueError("is a number of layers, or a list of layers from the bottom, such as [1, 3, 6]")
        return found

    @field_validator("adapter")
    @classmethod
    def _adapter_can_be_trained(cls, adapter: str, info: ValidationInfo) -> str:
        if adapter == "lora" and info.data.get("freeze") == "all":
            raise ValueError("cannot be combined with model.freeze all, which leaves no layer to adapt")
        if adapter == "lora" and info.data.get("train_only") is not None:
            raise ValueError("cannot be combined with model.train_only; model.lora_targets names the adapted layers")
        return adapter

    @field_validator("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")
    @classmethod
    def _belongs_to_lora(cls, value: object, info: ValidationInfo) -> object:
        if value != cls.model_fields[str(info.field_name)].default and info.data.get("adapter", "lora") != "lora":
            raise ValueError("applies only with model.adapter lora")
        return value


class BilstmConfig(NetworkConfig):
    """Word embeddings, bidirectional LSTM layers, pooling and a linear head; `encoder` names the tokenizer."""

    kind: Literal["bilstm"] = "bilstm"
    embedding_size: int = Field(default=128, ge=1, description="width of the word embeddings")
    hidden_size: int = Field(default=256, ge=1, description="units of each direction")
    layers: int = Field(default=3, ge=1, description="number of LSTM layers")
    pooling: Literal["max", "last"] = Field(
        default="max", description="max: maximum over the tokens; last: the last state of each direction"
    )
    dropout: Number = Field(default=0.25, ge=0, lt=1, description="dropout of embeddings and of each layer's outputs")
    freeze_word_embeddings: bool = Field(default=False, description="leave the word embeddings as they are")


class LogisticConfig(KindConfig):
    """The settings of a kind that ends in logistic regression: one for each label, or one over all classes."""

    C: Number = Field(default=1.0, gt=0, description="inverse strength of the L2 penalty")
    max_iter: int = Field(default=1000, ge=1, description="maximum number of L-BFGS iterations")
    class_weight: Literal["none", "balanced"] = Field(
        default="none", description="balanced: equal weight for positives and negatives of a label, or for all classes"
    )


_Range = list[Annotated[int, Field(ge=1, le=10)]]


def _ordered(found: list[int] | None) -> list[int] | None:
    """Return a range; raises ValueError unless it has two numbers, the smaller one first."""
    if found is not None and (len(found) != 2 or found[0] > found[1]):
        raise ValueError("needs two numbers, the smaller one first")
    return found


class TfidfConfig(LogisticConfig):
    """Word and character n-grams with logistic regression."""

    kind: Literal["tfidf"] = "tfidf"
    word_ngrams: _Range | None = Field(default=[1, 2], description="[shortest, longest] n-gram of words; null: none")
    char_ngrams: _Range | None = Field(
        default=[3, 4], description="[shortest, longest] n-gram of characters within a word; null: none"
    )
    min_df: int = Field(default=2, ge=1, description="minimum number of training texts that contain an n-gram")
    max_features: int | None = Field(
        default=30_000, ge=1, le=500_000, description="maximum number of word and of character n-grams; null: no limit"
    )
    sublinear_tf: bool = Field(default=True, description="count an n-gram that occurs n times as 1 + ln n")
    lowercase: bool = Field(default=True, description="treat upper and lower case alike")
    C: Number = Field(default=2.0, gt=0, description="inverse strength of the L2 penalty")

    _check_ranges = field_validator("word_ngrams", "char_ngrams")(_ordered)

    @model_validator(mode="after")
    def _has_terms(self) -> "TfidfConfig":
        if self.word_ngrams is None and self.char_ngrams is None:
            raise ValueError("needs word_ngrams or char_ngrams")
        return self


class NgramsConfig(KindConfig):
    """Hashed n-grams of words and characters, with logistic regression in int8."""

    kind: Literal["ngrams"] = "ngrams"
    word_ngrams: int = Field(default=2, ge=1, le=5, description="words of the longest n-gram of words")
    char_ngrams: _Range | None = Field(
        default=[3, 4], description="[shortest, longest] n-gram of characters within a word; null: none"
    )
    char_weight: Number = Field(
        default=0.4, gt=0, description="value of an n-gram of characters; that of a word or an n-gram of words is 1"
    )
    min_df: int = Field(default=2, ge=1, description="minimum number of training texts that contain an n-gram")
    max_features: int | None = Field(
        default=100_000, ge=1, description="maximum number of n-grams of words, and of characters; null: no limit"
    )
    lowercase: bool = Field(default=True, description="treat upper and lower case alike")
    C: Number = Field(default=4.0, gt=0, description="inverse strength of the L2 penalty")
    iterations: int = Field(default=40, ge=1, description="L-BFGS iterations, at most; fewer regularise more")

    _check_range = field_validator("char_ngrams")(_ordered)


class EmbeddingConfig(Section):
    """How the outputs of an encoder become an embedding: each layer is pooled over the tokens, the layers are joined.

    Special tokens are pooled, padding is not.
    """

    pooling: Literal["cls", "mean", "max"] = Field(
        default="mean", description="pooling over tokens: the first token, the mean, or the maximum"
    )
    layers: list[int] = Field(
        default=[-1], min_length=1, description="0: word embeddings, 1: first layer, …; -1: top layer"
    )
    layer_join: Literal["concat", "average"] = Field(default="concat", description="how several layers are joined")
    max_length: int = Field(
        default=128, ge=8, description="tokens of a window; longer texts are read in windows, averaged by tokens"
    )


class FeaturesConfig(EmbeddingConfig, LogisticConfig, CheckpointConfig):
    """Embeddings of a frozen encoder with logistic regression."""

    kind: Literal["features"] = "features"
    standardise: bool = Field(
        default=True, description="fit on embeddings of mean 0 and variance 1; saved weights take raw embeddings"
    )
    cache: bool = Field(default=True, description="keep the embeddings of training texts in the user's cache folder")


class DummyConfig(KindConfig):
    """The same scores for every text."""

    kind: Literal["dummy"] = "dummy"
    strategy: Literal["prior", "most_frequent"] = Field(
        default="prior",
        description="prior: the frequency of each label in the training rows; most_frequent: the most frequent "
        "labels only (no thresholds are tuned)",
    )
    num_labels: int = Field(
        default=1, ge=1, description="labels of a text with strategy most_frequent; 1 for multi-class data"
    )

    @property
    def takes_thresholds(self) -> bool:
        """False for the most frequent labels: a threshold would add others."""
        return self.strategy == "prior"


class EnsembleConfig(KindConfig):
    """An ensemble of trained models."""

    kind: Literal["ensemble"] = "ensemble"
    members: list[str] = Field(default=[], description="runs or models that the ensemble was made of")


class OnnxConfig(KindConfig):
    """An exported model."""

    kind: Literal["onnx"] = "onnx"
