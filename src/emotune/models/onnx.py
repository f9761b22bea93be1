"""Scoring exported models with ONNX Runtime: no PyTorch, no transformers, no onnx package.

A graph has one output, `logits` of shape (rows, labels). It has no padding, so the logits of a text do not depend on
the texts beside it. A packed graph has two inputs: `input_ids` of shape (tokens,), the rows one after another, and
their `lengths` of shape (rows,). Another graph has one: `input_ids` of shape (rows, tokens), rows of one length.
"""

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import onnxruntime

from emotune.artifact.safety.directory import GRAPH
from emotune.artifact.safety.graph import is_packed
from emotune.config.kinds import available_cpus
from emotune.data.tokens import Encoded, batches_by_length, batches_of_one_length
from emotune.errors import ModelError, Place

INPUT, LENGTHS, OUTPUT = "input_ids", "lengths", "logits"
_PACKED_ROWS = 16  # of a packed graph at a time: more do not stay in the caches of a processor
# threads share texts that are scored by themselves, if the first few take so many seconds; threads; bytes of the graph
_FEW, _LONG, _MOST_OF_ONE, _LARGEST = 8, 0.002, 4, 200_000_000
_FATAL_ONLY = 4  # ONNX Runtime prints errors that it also raises


class Scorer:
    """The graph of a model directory in an ONNX Runtime session on the CPU.

    packed: whether the rows of a call of `run` may have several lengths.
    """

    def __init__(self, path: Path, threads: int) -> None:
        """Open the graph, which `emotune.artifact.safety.graph` has checked; raises ModelError for an invalid one.

        threads: the batches that are scored at the same time.
        """
        self._path, self._threads = path, threads
        # the arena keeps memory for rows of every length, so it is for packed graphs, whose batches are small
        self.packed = is_packed(path)
        self._session = self._open(1)  # threads take a batch each: faster than several threads for one batch
        self._shares_out = threads > 1 and path.stat().st_size <= _LARGEST
        self._of_one_text: onnxruntime.InferenceSession | None = None
        self._alone, self._seconds = Lock(), list[float]()

    def _open(self, threads: int) -> onnxruntime.InferenceSession:
        """Open the graph for calls that compute with this many threads; raises ModelError."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _FATAL_ONLY
        # basic: int8 weights are expanded once; more makes a graph that multiplies in int8 slower (1.7 times)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.enable_mem_pattern = False  # the pattern of every shape would be kept
        options.enable_cpu_mem_arena = self.packed
        # on processors without VNNI, the fast kernel for uint8 x int8 saturates
        options.add_session_config_entry("session.x64quantprecision", "1")
        # threads of one call wait for each other for microseconds; those that wait for a text must not use a processor
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
        try:
            return onnxruntime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library raises nothing narrower
            message = f"ONNX Runtime cannot open this graph: {_reason(error)}"
            raise ModelError(message, place=Place(self._path)) from error

    def logits(self, encoded: Encoded, batch_size: int, pad_id: int) -> npt.NDArray[np.float32]:
        """Return logits of shape (rows, labels). Equal rows are computed once; a row without tokens is one `pad_id`.

        Raises ModelError for token ids that the graph does not take.
        """
        distinct: dict[bytes, int] = {}
        tokens = [encoded.ids[start:end] for start, end in zip(encoded.offsets, encoded.offsets[1:], strict=False)]
        which = [distinct.setdefault(row.tobytes(), len(distinct)) for row in tokens]
        rows = [np.frombuffer(row, dtype=np.int32) if row else np.array([pad_id], np.int32) for row in distinct]
        order = self._batches(np.array([len(row) for row in rows], np.int64), batch_size)
        batches = ([rows[i] for i in batch] for batch in order)
        if len(order) > 1 and self._threads > 1:
            with ThreadPoolExecutor(self._threads) as pool:  # scoring releases the lock of the interpreter
                found = list(pool.map(self.run, batches))
        elif len(rows) == 1:
            found = [self._run_alone(rows)]
        else:
            found = list(map(self.run, batches))
        if not found:
            return np.zeros((0, self._session.get_outputs()[0].shape[1]), dtype=np.float32)
        places = np.empty(len(rows), dtype=np.int64)
        places[np.concatenate(order)] = np.arange(len(rows))
        return np.asarray(np.concatenate(found)[places[which]], dtype=np.float32)

    def _batches(self, lengths: npt.NDArray[np.int64], batch_size: int) -> list[npt.NDArray[np.int64]]:
        if not self.packed:
            return list(batches_of_one_length(lengths, batch_size))
        if self._threads > 1:  # few rows are shared out too: two batches for each thread, as the longest come first
            batch_size = min(batch_size, -(-len(lengths) // (2 * self._threads)))
        return list(batches_by_length(lengths, min(batch_size, _PACKED_ROWS)))

    def run(self, rows: Sequence[npt.NDArray[np.integer]]) -> npt.NDArray[np.float32]:
        """Return the logits of rows of token ids, none empty, which must have one length unless the graph is `packed`.

        Shape (rows, labels). Raises ModelError. Several threads may call it at a time.
        """
        return self._run(self._session, rows)

    def _run_alone(self, rows: Sequence[npt.NDArray[np.integer]]) -> npt.NDArray[np.float32]:
        """Return the logits of a text by itself, which several threads compute together where that takes long enough.

        The logits are the same. Threads that wait for each other gain nothing in a millisecond. Calls at the same time
        take a thread each. Raises ModelError.
        """
        if not self._shares_out or not self._alone.acquire(blocking=False):
            return self.run(rows)
        try:
            if self._of_one_text is not None:
                return self._run(self._of_one_text, rows)
            started = time.perf_counter()
            logits = self.run(rows)
            self._seconds.append(time.perf_counter() - started)
            if len(self._seconds) == _FEW:
                self._shares_out = statistics.median(self._seconds) > _LONG
                if self._shares_out:  # it needs the memory of the weights once more, and time to open
                    self._of_one_text = self._open(min(self._threads, _MOST_OF_ONE))
            return logits
        finally:
            self._alone.release()

    def _run(
        self, session: onnxruntime.InferenceSession, rows: Sequence[npt.NDArray[np.integer]]
    ) -> npt.NDArray[np.float32]:
        try:
            logits: npt.NDArray[np.float32] = session.run([OUTPUT], feed(rows, packed=self.packed))[0]
        except Exception as error:  # the library raises nothing narrower
            tokens = max(map(len, rows))
            message = f"the graph fails on a text of {tokens:,} tokens: {_reason(error)}"
            raise ModelError(message, place=Place(self._path)) from error
        return logits


def feed(rows: Sequence[npt.NDArray[np.integer]], *, packed: bool) -> dict[str, npt.NDArray[np.int64]]:
    """Return the inputs of a graph for rows of token ids."""
    if not packed:
        return {INPUT: np.stack(rows).astype(np.int64)}
    return {INPUT: np.concatenate(rows).astype(np.int64), LENGTHS: np.array([len(row) for row in rows], np.int64)}


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def load(directory: Path, threads: int | None) -> Scorer:
    """Open a model directory; raises ModelError. threads: None for the CPUs that this process may use."""
    return Scorer(directory / GRAPH, available_cpus() if threads is None else threads)
