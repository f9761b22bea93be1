"""The JSON of requests and answers: emotune's own form, that of Hugging Face, that of text-embeddings-inference."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import from_json

from emotune.artifact.manifest import Manifest
from emotune.decision import Decision
from emotune.errors import did_you_mean
from emotune.labels import Task, levels

_Form = TypeVar("_Form", bound="Form")
# a body of a megabyte may have half a million items that are no texts: one error is enough
Texts = Annotated[list[str], Field(fail_fast=True)]
Inputs = Annotated[str | Texts, Field(description="A text, or a list of texts.")]
_ONE_TEXT = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1}
OneText = Annotated[list[str], WithJsonSchema(_ONE_TEXT)]  # a validator of the form refuses others, with a remedy
# JSON has no integers: 3.0 is one
Whole = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
TopK = Annotated[int | None, Field(ge=1, le=100_000, description="The k highest scores; all by default."), Whole]
_BRANCHES = ("str", "list[str]", "list[list[str]]")  # of `inputs`, in the places of errors


class RequestError(Exception):
    """A request that is refused. kind: its `error_type`. close: whether the connection ends after the answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "Validation",
        hint: str | None = None,
        headers: dict[str, str] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.hint = status, message, kind, hint
        self.headers, self.close = headers or {}, close


class Form(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)
    _place: ClassVar[str] = ""  # of its keys in the body

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_key(cls, content: Any) -> Any:
        """Raise RequestError for the first unknown key; pydantic would collect an error for each."""
        keys = content if isinstance(content, dict) else ()
        if (unknown := next((key for key in keys if key not in cls.model_fields), None)) is not None:
            hint = did_you_mean(unknown[:100], cls.model_fields)
            raise RequestError(422, f"unknown key {(cls._place + unknown)[:100]!r}", hint=hint)
        return content


class PredictRequest(Form):
    """emotune's own form: `text` or `texts`."""

    text: str | None = Field(None, description="A text.")
    texts: Texts | None = Field(None, description="Texts; the answer has their order.")
    model: str | None = Field(None, max_length=100, description="The name of a model; by default the first one.")
    level: str | None = Field(None, max_length=100, description="A coarser level, such as ekman or sentiment.")
    threshold: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False, description="A threshold for all labels, instead of the tuned ones."
    )
    top_k: TopK = None
    explain: bool = Field(False, description="Add the words that speak for each label.")

    @model_validator(mode="after")
    def _require_texts(self) -> "PredictRequest":
        if (self.text is None) == (self.texts is None):
            raise ValueError("one of the keys 'text' and 'texts' is required, and not both")
        if self.explain and (self.level is not None or self.threshold is not None):
            raise ValueError("'explain' is for the model's own labels and thresholds: without 'level' and 'threshold'")
        return self

    @property
    def all_texts(self) -> list[str]:
        """The texts."""
        return [self.text] if self.text is not None else self.texts or []


class HuggingFaceParameters(Form):
    """The parameters of text classification; those of tokenizers are accepted and have no effect."""

    _place = "parameters."

    top_k: TopK = None
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = Field(
        None,
        description="By default that of the model: sigmoid for a multi-label model, softmax for a multi-class one.",
    )
    return_all_scores: bool | None = None
    truncation: bool | str | None = None
    padding: bool | str | None = None
    max_length: Annotated[int | None, Whole] = None


class HuggingFaceRequest(Form):
    """The form of Hugging Face's Inference API and Inference Endpoints. `options` has no effect."""

    inputs: Inputs
    parameters: HuggingFaceParameters | None = None
    options: dict[str, Any] | None = None


class TextEmbeddingsRequest(Form):
    """The form of text-embeddings-inference. Long texts are read in windows, whatever `truncate` is."""

    inputs: str | Texts | Annotated[list[OneText], Field(fail_fast=True)] = Field(
        description="A text, a list of texts, or a list of lists with one text each."
    )
    raw_scores: bool = Field(False, description="Logits instead of probabilities.")
    truncate: bool | None = None
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = None

    @model_validator(mode="after")
    def _refuse_pairs(self) -> "TextEmbeddingsRequest":
        if any(isinstance(each, list) and len(each) != 1 for each in self.inputs):
            raise ValueError("each list in 'inputs' has one text: this model does not score pairs of texts")
        return self


def inputs_of(inputs: str | Sequence[str | list[str]]) -> list[str]:
    """Return the texts of `inputs`."""
    if isinstance(inputs, str):
        return [inputs]
    return [each if isinstance(each, str) else each[0] for each in inputs]


class LabelScore(BaseModel):
    """A label and its score."""

    label: str
    score: float


class WordContributions(BaseModel):
    """A word `text[start:end]`, and what it contributes to the score of each label."""

    word: str
    start: int
    end: int
    contributions: dict[str, float]


class TextPrediction(BaseModel):
    """The labels of a text, the most probable first, and its scores; see `emotune predict --json`."""

    model_config = ConfigDict(extra="forbid")

    text: str
    labels: list[str]
    scores: dict[str, float]
    windows: int
    unread: int
    foreign: bool
    blank: bool
    words: list[WordContributions] | None = Field(None, description="With `explain`.")


class PredictAnswer(BaseModel):
    """The predictions of texts in their order. thresholds: null for multi-class models and coarser levels."""

    model_config = ConfigDict(extra="forbid")

    model: str
    level: str | None
    thresholds: dict[str, float] | None
    predictions: list[TextPrediction]


class ModelInfo(BaseModel):
    """A model that is served. thresholds: null for a multi-class model. digest: that of its manifest."""

    name: str
    kind: str
    task: str
    labels: list[str]
    thresholds: dict[str, float] | None
    levels: list[str]
    language: str | None
    max_tokens: int | None
    digest: str | None

    @classmethod
    def of(cls, name: str, decision: Decision, manifest: Manifest, language: str | None) -> "ModelInfo":
        """Describe a model."""
        multi_label = decision.labels.task is Task.MULTI_LABEL
        return cls(
            name=name,
            kind=manifest.kind,
            task=str(decision.labels.task),
            labels=list(decision.labels.names),
            thresholds=dict(zip(decision.labels.names, decision.thresholds, strict=True)) if multi_label else None,
            levels=levels(decision.labels),
            language=language,
            max_tokens=manifest.max_tokens,
            digest=manifest.digest,
        )


def model_name(argument: str) -> str:
    """Return the name of a model in requests: that of the run or the directory that a MODEL argument names."""
    path = Path(argument).absolute()
    last = path.parent.name if path.name == "model" else path.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).lstrip(".-")[:64]


class ModelsAnswer(BaseModel):
    """The models; the first is the default."""

    models: list[ModelInfo]


class ReloadAnswer(BaseModel):
    """The names of the models that were replaced, and all models."""

    reloaded: list[str]
    models: list[ModelInfo]


class StatusAnswer(BaseModel):
    """The state of the server."""

    status: str


class ErrorAnswer(BaseModel):
    """A refused or failed request. request_id: also in the header X-Request-ID, and in the log of the server."""

    error: str
    error_type: Literal["Validation", "Tokenizer", "Overloaded", "Backend", "Unhealthy", "Unauthorized"]
    hint: str | None = None
    request_id: str


def parsed_body(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body; raises RequestError."""
    try:
        found = from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise RequestError(400, f"the body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise RequestError(422, f"the body is a JSON {type(found).__name__}, not an object")
    return found


def parsed(form: type[_Form], content: dict[str, Any]) -> _Form:
    """Return the content of a body as a form; raises RequestError with the place in it."""
    try:
        return form.model_validate(content)
    except ValidationError as error:
        # of the alternatives of a value, the one that got furthest
        worst = max(error.errors(include_url=False, include_input=False), key=lambda each: len(each["loc"]))
    where = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in worst["loc"] if part not in _BRANCHES
    ).removeprefix(".")
    message = worst["msg"].removeprefix("Value error, ")
    raise RequestError(422, f"{where[:100]}: {message}" if where else message)
