"""Processes that score blocks side by side, each with a model of its own.

They are started as commands, not forked and not by `multiprocessing`: scripts need no `if __name__ == "__main__"`,
Ctrl-C reaches only the process that the user started, and a process whose parent is gone ends.
"""

import json
import os
import queue
import struct
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from emotune import errors
from emotune.artifact.opening import FoundModel, open_model
from emotune.data.tables.stream import Block
from emotune.errors import EmotuneError, Place
from emotune.inference.blocks import BlockWriter, Counts, Plan, WrittenBlock
from emotune.inference.classifier import EmotionClassifier, run_model

_START = "import sys; sys.path[:] = sys.argv[1:]; from emotune.inference.workers import serve; serve()"
_SIZES = struct.Struct(">III")  # bytes of the message, of its first and of its second content
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false"}
_RESUME = "Run the same command again: it continues where it was. Fewer processes need less memory: --workers 1"
_AHEAD = 6  # blocks for each process
Result = tuple[Block, WrittenBlock]


class InProcess:
    """Scores blocks one after the other in this process."""

    def __init__(self, classifier: EmotionClassifier) -> None:
        self._classifier = classifier

    def written(self, writer: BlockWriter, blocks: Iterator[Block]) -> Iterator[Result]:
        """Yield each block, without its content, and its output."""
        for block in blocks:
            yield replace(block, content=b""), writer.written(block, self._classifier)

    def close(self) -> None:
        """Do nothing: there are no processes."""


class Workers:
    """Scores blocks in several processes, in order. Raises EmotuneError for one that ends, as by a lack of memory."""

    def __init__(self, model: FoundModel, number: int) -> None:
        self._workers = [_Worker(model) for _ in range(number)]
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._pool = ThreadPoolExecutor(number)

    def written(self, writer: BlockWriter, blocks: Iterator[Block]) -> Iterator[Result]:
        """Yield each block, without its content, and its output. A few blocks for each process are read ahead."""
        ahead: deque[tuple[Block, Future[WrittenBlock]]] = deque()
        for block in blocks:
            ahead.append((replace(block, content=b""), self._pool.submit(self._score, writer.plan, block)))
            if len(ahead) > _AHEAD * len(self._workers):
                first, future = ahead.popleft()
                yield first, future.result()
        for first, future in ahead:
            yield first, future.result()

    def _score(self, plan: Plan, block: Block) -> WrittenBlock:
        worker = self._free.get()
        try:
            return worker.score(plan, block)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.end()
        self._pool.shutdown(cancel_futures=True)


class _Worker:
    """A process that scores blocks."""

    def __init__(self, model: FoundModel) -> None:
        self._plan: Plan | None = None
        self._process = subprocess.Popen(  # noqa: S603 -- this Python, with code of our own
            [sys.executable, "-c", _START, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | _ENVIRONMENT,
            start_new_session=True,  # Ctrl-C is for the parent
        )
        with suppress(OSError):  # it has ended: the first block says so
            self._send({"model": str(model.directory.absolute())})

    def score(self, plan: Plan, block: Block) -> WrittenBlock:
        with suppress(OSError):  # it has ended; it may have said why before
            if self._plan is not plan:
                self._send({"plan": plan.to_json()})
                self._plan = plan
            self._send({"block": asdict(replace(block, content=b"")) | {"content": None}}, block.content)
        found = _receive(cast(BinaryIO, self._process.stdout))
        if found is None:
            raise self._ended()
        message, output, aside = found
        if "error" in message:
            raise unpacked_error(message["error"])
        return WrittenBlock(output, aside, Counts(**message["counts"]), message["notes"])

    def _send(self, message: dict[str, Any], content: bytes = b"") -> None:
        _send(cast(BinaryIO, self._process.stdin), message, content)

    def _ended(self) -> EmotuneError:
        code = self._process.wait()
        if code == -9:
            return EmotuneError("a worker process was killed, probably because memory is short", hint=_RESUME)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return EmotuneError(f"a worker process ended ({how})", hint=_RESUME)

    def end(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what it has not read
                if pipe is not None:
                    pipe.close()
        self._process.wait()


def _send(pipe: BinaryIO, message: dict[str, Any], *contents: bytes) -> None:
    text = json.dumps(message).encode()
    first, second = (*contents, b"", b"")[:2]
    pipe.write(_SIZES.pack(len(text), len(first), len(second)))
    for part in (text, first, second):
        pipe.write(part)
    pipe.flush()


def _receive(pipe: BinaryIO) -> tuple[dict[str, Any], bytes, bytes] | None:
    """Return a message and its contents; None at the end of the pipe."""
    sizes = pipe.read(_SIZES.size)
    if len(sizes) < _SIZES.size:
        return None
    parts = [pipe.read(size) for size in _SIZES.unpack(sizes)]
    if [len(part) for part in parts] != list(_SIZES.unpack(sizes)):
        return None
    return json.loads(parts[0]), parts[1], parts[2]


def packed_error(error: EmotuneError) -> dict[str, Any]:
    """Return an error as a JSON object, for another process."""
    place = None if error.place is None else str(error.place)
    return {"kind": type(error).__name__, "message": error.message, "place": place, "hint": error.hint}


def unpacked_error(found: dict[str, Any]) -> Exception:
    """Return the error that another process reported."""
    if found["kind"] is None:
        return RuntimeError(found["message"])
    place = None if found["place"] is None else Place(Path(found["place"]))
    error: EmotuneError = getattr(errors, found["kind"])(found["message"], hint=found["hint"])
    return type(error)(found["message"], place=place, hint=found["hint"])


def serve() -> None:
    """Score the blocks that arrive on stdin, until its end; what libraries print on stdout goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    classifier: EmotionClassifier | None = None
    found: FoundModel | None = None
    writer: BlockWriter | None = None
    with suppress(BrokenPipeError):
        while (request := _receive(requests)) is not None:
            message, content, _ = request
            try:
                if "model" in message:
                    found = open_model(message["model"])
                    classifier = run_model(found, device="cpu", warn=lambda note: None, threads=1)  # noqa: ARG005
                elif "plan" in message:
                    assert found is not None, "the model comes first"
                    writer = BlockWriter(Plan.from_json(message["plan"]), found.decision.labels, found.language)
                else:
                    assert writer is not None
                    assert classifier is not None
                    done = writer.written(Block(**message["block"] | {"content": content}), classifier)
                    _send(answers, {"counts": asdict(done.counts), "notes": done.notes}, done.output, done.aside)
            except EmotuneError as error:
                _send(answers, {"error": packed_error(error)})
                return
            except MemoryError:
                os._exit(137)
            except Exception:
                _send(answers, {"error": {"kind": None, "message": traceback.format_exc()}})
                return
