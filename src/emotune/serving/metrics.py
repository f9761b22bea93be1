"""The metrics of the server for Prometheus."""

import os
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"  # the folder in which several processes share their metrics
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class ModelMetrics:
    """The metrics of a model."""

    def __init__(self, metrics: "Metrics", model: str, labels: Iterable[str]) -> None:
        self._texts = metrics.texts.labels(model)
        self.queue_tokens = metrics.queue_tokens.labels(model)
        self.queue_seconds = metrics.queue_seconds.labels(model)
        self._labels = {label: metrics.labels.labels(model, label) for label in labels}
        self._rows = metrics.batch_rows.labels(model)
        self._tokens = metrics.batch_tokens.labels(model)
        self._seconds = metrics.batch_seconds.labels(model)

    def batch(self, rows: int, tokens: int, seconds: float) -> None:
        """Count a batch."""
        self._rows.observe(rows)
        self._tokens.observe(tokens)
        self._seconds.observe(seconds)

    def count(self, predicted: Iterable[Iterable[str]]) -> None:
        """Count texts, by the predicted labels of each."""
        for labels in predicted:
            self._texts.inc()
            for label in labels:
                self._labels[label].inc()


class Metrics:
    """The metrics of a process; `text` has those of all processes, if there are several."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "emotune_requests", "Answers by route and status.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "emotune_request_seconds",
            "Seconds from the headers of a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.texts = Counter("emotune_texts", "Texts predicted.", ["model"], registry=registry)
        self.labels = Counter("emotune_labels", "Labels predicted.", ["model", "label"], registry=registry)
        self.queue_tokens = Gauge(
            "emotune_queue_tokens",
            "Tokens that wait to be scored.",
            ["model"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "emotune_queue_seconds",
            "Seconds from the queue to the last batch of a request.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "emotune_batch_rows", "Rows of a batch.", ["model"], buckets=_ROWS, registry=registry
        )
        self.batch_tokens = Histogram(
            "emotune_batch_tokens", "Tokens of a batch.", ["model"], buckets=_TOKENS, registry=registry
        )
        self.batch_seconds = Histogram(
            "emotune_batch_seconds", "Seconds of scoring a batch.", ["model"], buckets=_SECONDS, registry=registry
        )
        self.reloads = Counter("emotune_reloads", "Reloads of the models by outcome.", ["outcome"], registry=registry)
        for outcome in ("success", "failure"):  # so that the first one is an increase
            self.reloads.labels(outcome)

    def text(self) -> bytes:
        """Return the metrics in the format of Prometheus."""
        registry = self._registry
        if MULTIPROCESS in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
