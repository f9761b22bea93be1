"""Dynamic batching: threads score the rows of all requests to a model, the oldest first.

A row is a window of a text, or a text that the model reads whole (`Prepared`). Rows wait by their number of tokens, so
that a batch has rows of one length, or of similar ones. A request is done when all its rows are.
"""

import asyncio
import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from emotune.config.kinds import available_cpus
from emotune.inference.classifier import DEFAULT_BATCH_SIZE, EmotionClassifier, Prepared, Scored
from emotune.serving.metrics import ModelMetrics

_LONGEST_WAIT = 60  # seconds that a client is told to wait, at most
_NICER, _NICER_ALONE = 10, 3  # the priority of the threads that score, below the event loop's; alone: on one CPU
_MEMORY = 0.9  # of the moving average of the speed


class OverloadError(Exception):
    """The queue is full. retry_after: seconds until it is probably empty, an integer from 1 on."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"retry after {retry_after} s")
        self.retry_after = retry_after


class ScoringError(Exception):
    """The model failed on a batch; the cause is its exception."""


@dataclass(eq=False)
class _Job:
    """Prepared texts that are scored. scores: of the rows; left: rows without scores; waiting: tokens in the queue."""

    prepared: Prepared
    scores: Scored
    left: int
    waiting: int
    since: float = field(default_factory=time.perf_counter)
    future: "asyncio.Future[Scored]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """The queue of a model, and the threads that score its rows. All methods are called in the event loop's thread."""

    def __init__(
        self,
        classifier: EmotionClassifier,
        metrics: ModelMetrics,
        *,
        threads: int,
        batch_tokens: int,
        queue_tokens: int,
        max_windows: int,
    ) -> None:
        """Start the threads. batch_tokens: of a batch, at most, unless it has one row. queue_tokens: see `full`."""
        self._classifier, self._metrics, self._max_windows = classifier, metrics, max_windows
        self._batch_tokens, self._queue_tokens, self._ratio = batch_tokens, queue_tokens, classifier.length_ratio
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._rows: dict[int, deque[tuple[int, _Job, int]]] = {}  # by tokens: number, job, row of the job
        self._numbers = count()
        self._tokens = 0
        self._closed = False
        self._seconds_of_a_token = 0.0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def require_room(self) -> None:
        """Raise OverloadError if as many tokens as the queue takes are waiting."""
        if self._tokens >= self._queue_tokens:
            seconds = self._tokens * self._seconds_of_a_token / len(self._threads)
            raise OverloadError(max(1, min(_LONGEST_WAIT, round(seconds))))

    def submit(self, prepared: Prepared) -> "asyncio.Future[Scored]":
        """Return the future scores of the rows; a cancelled one is not scored. It raises ScoringError.

        Raises OverloadError: see `require_room`.
        """
        self.require_room()
        number, labels = len(prepared.rows), len(self._classifier.labels)
        empty = np.empty((number, labels), np.float32), np.empty(number, np.int64), np.empty(number, np.int64)
        job = _Job(prepared, Scored(*empty), number, int(prepared.tokens.sum()))
        if not number:
            job.future.set_result(job.scores)
            return job.future
        job.future.add_done_callback(lambda _: self._forget(job))
        with self._changed:
            self._tokens += job.waiting
            for row, length in enumerate(prepared.tokens.tolist()):
                self._rows.setdefault(length, deque()).append((next(self._numbers), job, row))
            self._metrics.queue_tokens.set(self._tokens)
            self._changed.notify(number)
        return job.future

    def close(self) -> None:
        """End the threads when the rows that wait are scored."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _forget(self, job: _Job) -> None:
        """Take the rows of a job that is cancelled, or has failed, out of the count; `_take` skips them."""
        with self._changed:
            self._tokens -= job.waiting
            job.waiting = 0
            self._metrics.queue_tokens.set(self._tokens)

    def _take(self) -> list[tuple[_Job, int]]:
        """Wait for rows; return the next batch: the oldest row, and others of its length or of similar ones.

        Return an empty one at the end.
        """
        batch: list[tuple[_Job, int]] = []
        with self._changed:
            while not batch:
                while not self._rows:
                    if self._closed:
                        return []
                    self._changed.wait()
                oldest = min(self._rows, key=lambda length: self._rows[length][0][0])
                similar = (n for n in self._rows if max(n, oldest) <= self._ratio * min(n, oldest))
                longest = 0
                for length in sorted(similar, key=lambda n: abs(n - oldest)):
                    longest = max(longest, length)
                    waiting = self._rows[length]
                    while waiting and (not batch or (len(batch) + 1) * longest <= self._batch_tokens):
                        _, job, row = waiting.popleft()
                        if not job.future.done():
                            batch.append((job, row))
                            job.waiting -= length
                            self._tokens -= length
                    if waiting:
                        break
                    del self._rows[length]
        return batch

    def _run(self) -> None:
        if sys.platform == "linux":  # elsewhere a thread has no priority of its own
            # the event loop goes first: the more requests it has read, the more rows a batch has
            nicer = _NICER if available_cpus() > 1 else _NICER_ALONE
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + nicer)
        while batch := self._take():
            started = time.perf_counter()
            rows = [job.prepared.rows[row] for job, row in batch]
            tokens = sum(int(job.prepared.tokens[row]) for job, row in batch)
            try:
                scored = self._classifier.score_rows(rows, DEFAULT_BATCH_SIZE, self._max_windows)
            except BaseException as error:  # a panic of Rust is no Exception; the thread must live
                self._call(self._failed, batch, error)
                continue
            seconds = time.perf_counter() - started
            self._seconds_of_a_token = (
                _MEMORY * self._seconds_of_a_token + (1 - _MEMORY) * seconds / tokens
                if self._seconds_of_a_token
                else seconds / tokens
            )
            self._metrics.batch(len(rows), tokens, seconds)
            self._call(self._scored, batch, scored, started)

    def _call(self, function: object, *args: object) -> None:
        """Call a function in the event loop's thread; after its end, nobody waits for the result."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)  # type: ignore[arg-type]

    def _scored(self, batch: list[tuple[_Job, int]], scored: Scored, started: float) -> None:
        for i, (job, row) in enumerate(batch):
            whole = job.scores
            whole.logits[row], whole.windows[row], whole.unread[row] = (
                scored.logits[i],
                scored.windows[i],
                scored.unread[i],
            )
            job.left -= 1
            if not job.left and not job.future.done():
                self._metrics.queue_seconds.observe(started - job.since)
                job.future.set_result(whole)

    def _failed(self, batch: list[tuple[_Job, int]], error: BaseException) -> None:
        for job, _ in batch:
            if not job.future.done():
                failure = ScoringError("the model failed on a batch")
                failure.__cause__ = error
                job.future.set_exception(failure)
