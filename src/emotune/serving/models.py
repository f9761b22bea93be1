"""The models that are served, by name: loaded, scored through their queues, and reloaded without losing a request."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from emotune.artifact.opening import FoundModel, open_model
from emotune.config.kinds import available_cpus
from emotune.decision import Decision, probabilities
from emotune.errors import ModelError, UsageError, did_you_mean
from emotune.inference.classifier import EmotionClassifier, Prediction, Prepared, Rule, Scored, readable, run_model
from emotune.inference.explain import Explanation
from emotune.labels import Task
from emotune.serving.batching import Batcher
from emotune.serving.metrics import Metrics, ModelMetrics
from emotune.serving.schema import ModelInfo, RequestError, model_name

_T = TypeVar("_T")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
RELOAD = "reload"  # POST /models/reload is a route
_FEW_TEXTS, _FEW_CHARACTERS = 16, 4000  # that are tokenized, and become predictions, in about a millisecond
_SECONDS_TO_LEAVE = 0.05  # between two looks whether a replaced model has requests left


@dataclass(frozen=True)
class BatchOptions:
    """How texts are scored. threads: None for the CPUs that this process may use. max_windows: see `stream`.

    batch_tokens, queue_tokens: of a batch, and of all rows that wait, at most.
    """

    device: str = "auto"
    threads: int | None = None
    max_windows: int = 64
    batch_tokens: int = 1024
    queue_tokens: int = 32_768


def named_models(arguments: Sequence[str]) -> dict[str, str]:
    """Return the models of `NAME=MODEL` or `MODEL` arguments by name; raises UsageError.

    The name of a MODEL is that of its run or directory.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        name, _, model = argument.partition("=")
        if not model or Path(argument).exists():
            name, model = model_name(argument), argument
        if not NAME.fullmatch(name) or name == RELOAD:
            message = f"{name!r} cannot be the name of a model: letters, digits, _, . and -, but not {RELOAD!r}"
            raise UsageError(message, hint=f"Choose another name: emotune serve NAME={model}")
        if name in found:
            message = f"two models are named {name!r}: {found[name]} and {model}"
            raise UsageError(message, hint=f"Choose another name for one: emotune serve {name}-2={model}")
        found[name] = model
    return found


def _run(found: FoundModel, options: BatchOptions) -> EmotionClassifier:
    # the threads of the queue score exported models, one batch each; PyTorch has threads of its own
    threads = 1 if found.kind == "onnx" else options.threads
    return run_model(found, device=options.device, warn=lambda note: None, threads=threads)  # noqa: ARG005


class ServedModel:
    """A loaded model with its queue. Used in the event loop's thread."""

    def __init__(self, name: str, classifier: EmotionClassifier, options: BatchOptions, metrics: Metrics) -> None:
        self.name, self.classifier, self._options = name, classifier, options
        self.metrics = ModelMetrics(metrics, name, classifier.labels.names)
        threads = (options.threads or available_cpus()) if classifier.concurrent else 1
        self._batcher = Batcher(
            classifier,
            self.metrics,
            threads=threads,
            batch_tokens=options.batch_tokens,
            queue_tokens=options.queue_tokens,
            max_windows=options.max_windows,
        )
        self._tokenizing = threading.Lock()
        self._users = 0

    @contextmanager
    def used(self) -> "Iterator[ServedModel]":
        """Keep the model while entered."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1

    async def leave(self) -> None:
        """End the threads when nobody uses the model."""
        while self._users:
            await asyncio.sleep(_SECONDS_TO_LEAVE)
        self._batcher.close()

    def info(self) -> ModelInfo:
        """Describe the model."""
        classifier = self.classifier
        return ModelInfo.of(self.name, classifier.decision, classifier.manifest, classifier.language)

    def rule(self, level: str | None, threshold: float | None) -> Rule:
        """Return the rule of a request; raises RequestError."""
        try:
            return Rule.of(self.classifier.decision, threshold, level, self._options.max_windows)
        except UsageError as error:
            raise RequestError(422, error.message, hint=error.hint) from None

    async def score(self, texts: Sequence[str], *, whole: bool = False) -> Scored:
        """Return the scores of texts without blank ones. whole: read all windows of each.

        Raises OverloadError, ScoringError, and RequestError for texts that the tokenizer fails on.
        """
        self._batcher.require_room()
        try:
            prepared = await self._prepared(texts, None if whole else self._options.max_windows)
        except ModelError as error:
            raise RequestError(422, error.message, kind="Tokenizer") from None
        return prepared.gathered(await self._batcher.submit(prepared))

    async def predict(self, texts: Sequence[str], rule: Rule) -> list[Prediction]:
        """Return the predictions of texts, those of `EmotionClassifier.predict`; errors as for `score`."""
        scored = await self.score(readable(texts))
        predictions = await _called(len(texts), self.classifier.predictions, texts, scored, rule)
        if rule.mapping is None:
            self.metrics.count(prediction.labels for prediction in predictions)
        return predictions

    async def explain(self, texts: Sequence[str]) -> list[Explanation]:
        """Return the explanations of texts, those of `EmotionClassifier.explain`; errors as for `score`."""
        predictions = await self.predict(list(dict.fromkeys(texts)), self.rule(None, None))
        plans, variants = await asyncio.to_thread(self.classifier.explaining, predictions)
        scored = await self.score(variants, whole=True)
        logits = dict(zip(variants, scored.logits, strict=True))
        explanations = await asyncio.to_thread(self.classifier.explained, predictions, plans, logits)
        found = {each.text: each for each in explanations}
        return [found[text] for text in texts]

    async def classify(self, texts: Sequence[str], function: str | None, top_k: int | None) -> list["Classified"]:
        """Return the labels of texts, and the scores of all labels or the `top_k` highest; errors as for `score`.

        function: see `HuggingFaceParameters`.
        """
        scored = await self.score(readable(texts))
        found = await _called(len(texts), _classified, self.classifier.decision, texts, scored, function, top_k)
        self.metrics.count(each.labels for each in found)
        return found

    async def _prepared(self, texts: Sequence[str], max_windows: int | None) -> Prepared:
        """Tokenize texts, one thread at a time: at once if they are short, else in another thread."""
        short = len(texts) <= _FEW_TEXTS and sum(map(len, texts)) <= _FEW_CHARACTERS
        if short and self._tokenizing.acquire(blocking=False):
            try:
                return self.classifier.prepare(texts, max_windows)
            finally:
                self._tokenizing.release()
        return await asyncio.to_thread(self._prepare, texts, max_windows)

    def _prepare(self, texts: Sequence[str], max_windows: int | None) -> Prepared:
        with self._tokenizing:
            return self.classifier.prepare(texts, max_windows)


@dataclass(frozen=True)
class Classified:
    """The predicted labels of a text, and its scores, the highest first; a blank text has none."""

    labels: list[str]
    scores: list[dict[str, Any]]


def _classified(
    decision: Decision, texts: Sequence[str], scored: Scored, function: str | None, top_k: int | None
) -> list[Classified]:
    own = values = decision.probabilities(scored.logits)
    if function == "none":
        values = scored.logits.astype(np.float64)
    elif function is not None:
        values = probabilities(scored.logits, Task.MULTI_CLASS if function == "softmax" else Task.MULTI_LABEL)
    order = np.argsort(-values, axis=1, kind="stable")[:, :top_k].tolist()
    names = decision.labels.names
    found = {
        text: Classified(labels, [{"label": names[j], "score": float(row[j])} for j in best])
        for text, labels, row, best in zip(
            readable(texts), decision.names(decision.decide(own), own), values, order, strict=True
        )
    }
    return [found.get(text) or Classified([], []) for text in texts]


async def _called(num_texts: int, function: Callable[..., _T], *args: Any) -> _T:
    """Call a function at once for few texts, else in another thread, so that others are answered meanwhile."""
    if num_texts <= _FEW_TEXTS:
        return function(*args)
    return await asyncio.to_thread(function, *args)


class ServedModels:
    """All models by name; the first is the default. Used in the event loop's thread."""

    def __init__(self, models: Mapping[str, str], options: BatchOptions, metrics: Metrics) -> None:
        """Load the models: errors as for `emotune.load`."""
        self._models, self._options, self._metrics = dict(models), options, metrics
        self._loaded = {name: _run(open_model(model), options) for name, model in self._models.items()}
        self._served: dict[str, ServedModel] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._served.values())

    def start(self) -> None:
        """Start the threads of the models."""
        for name, classifier in self._loaded.items():
            self._served[name] = ServedModel(name, classifier, self._options, self._metrics)
        self._loaded = {}

    def find(self, name: str | None) -> ServedModel:
        """Return a model, the default one for None; raises RequestError."""
        if name is None:
            return next(iter(self))
        if name not in self._served:
            raise RequestError(404, f"no model named {name[:80]!r} is served", hint=did_you_mean(name, self._served))
        return self._served[name]

    async def reload(self) -> list[str]:
        """Load the models that have changed, then replace all of them at once; return their names.

        Requests that have begun are answered by the old models. Raises EmotuneError, and replaces none, if a model
        cannot be loaded.
        """
        async with self._reloading:
            try:
                changed = await asyncio.to_thread(self._changed)
            except Exception:
                self._metrics.reloads.labels("failure").inc()
                raise
            for name, classifier in changed.items():
                old = self._served[name]
                self._served[name] = ServedModel(name, classifier, self._options, self._metrics)
                task = asyncio.create_task(old.leave())
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)
            self._metrics.reloads.labels("success").inc()
            return list(changed)

    def _changed(self) -> dict[str, EmotionClassifier]:
        """Load the models whose manifests are not those that are served; a model without one is always loaded."""
        found = {}
        for name, model in self._models.items():
            now, manifest = open_model(model), self._served[name].classifier.manifest
            if now.manifest is None or now.manifest.digest is None or now.manifest.digest != manifest.digest:
                found[name] = _run(now, self._options)
        return found
