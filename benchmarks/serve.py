"""`emotune serve` under load, beside the model alone and a server around the pipeline of transformers, in one run.

    python benchmarks/serve.py --data FILE [--model default] [--pipeline DIR] [--clients 32] [--seconds 10] [--rounds 3]

FILE has one text per line, or is a TSV file with the text in its first column (GoEmotions). Each round measures the
texts per second of

- the model alone: `scores` of all texts, batches of 32, in this process with its default threads;
- the server: that many clients send single texts, each the next one when it has its answer;
- the pipeline (with --pipeline, the PyTorch model that an export was made from): the same clients, a Starlette route
  that calls it in a thread, as FastAPI does.

Then the server gets single texts at half of its speed, evenly in time; a latency counts from the time at which the text
was due. The clients are one more process on the same CPUs, and its processor time is reported. The last line is one
JSON object; figures are medians of the rounds.
"""

import argparse
import itertools
import json
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

BATCH, WARM_UP = 32, 1.0
PIPELINE = """
import sys, asyncio, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from transformers import pipeline

classify = pipeline("text-classification", model=sys.argv[1], device="cpu", top_k=None)

async def predict(request):
    body = await request.json()
    return JSONResponse(await asyncio.to_thread(classify, body["text"]))

async def health(request):
    return JSONResponse({})

app = Starlette(routes=[Route("/predict", predict, methods=["POST"]), Route("/health", health)])
uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False)
"""


def read_texts(path: Path, number: int) -> list[str]:
    """Return the first non-blank lines of a file."""
    lines = (line.split("\t")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line][:number]


class Client:
    """A connection that sends one request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.due = 0.0

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.socket.sendall(request)

    def receive(self) -> float | None:
        """Read what has come; return the latency in seconds if the answer is complete."""
        data = self.socket.recv(1 << 16)
        assert data, "the server has closed a connection"
        self.received += data
        head, _, body = self.received.partition(b"\r\n\r\n")
        at = head.find(b"content-length: ") + 16
        if at < 16 or len(body) < int(head[at:].split(b"\r\n", 1)[0]):
            return None
        assert head.startswith(b"HTTP/1.1 200"), head
        self.received = b""
        return time.perf_counter() - self.due


class Clients:
    """Connections in one thread, on plain sockets: the less they compute, the more of the CPUs the server has."""

    def __init__(self, port: int, texts: Sequence[str], number: int) -> None:
        bodies = [json.dumps({"text": text}).encode() for text in texts]
        head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: "
        self.requests = itertools.cycle([f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies])
        self.idle, self.number = deque(Client(port) for _ in range(number)), number
        self.selector = selectors.DefaultSelector()
        for client in self.idle:
            self.selector.register(client.socket, selectors.EVENT_READ, client)

    def receive(self, timeout: float | None) -> list[float]:
        """Wait for answers; return their latencies in seconds."""
        latencies = []
        for key, _ in self.selector.select(timeout):
            latency = key.data.receive()
            if latency is not None:
                latencies.append(latency)
                self.idle.append(key.data)
        return latencies

    def run(self, seconds: float, rate: float | None) -> list[float]:
        """Send texts for that long; return the latencies of the answers. rate: of texts per second, None: unlimited."""
        started, sent, latencies = time.perf_counter(), 0, []
        while (now := time.perf_counter()) < started + seconds:
            due = now if rate is None else started + sent / rate
            if self.idle and due <= now:
                self.idle.popleft().send(next(self.requests), due)
                sent += 1
            else:
                latencies += self.receive(due - now if self.idle else None)
        return latencies


def clients(port: int, texts: Sequence[str], number: int, seconds: float, rate: float | None) -> dict[str, float]:
    """Send texts over that many connections; rate: see `Clients.run`."""
    made = Clients(port, texts, number)
    if rate is None:
        made.run(WARM_UP, rate)
    started, cpu = time.perf_counter(), time.process_time()
    latencies = made.run(seconds, rate)
    passed, cpu = time.perf_counter() - started, time.process_time() - cpu
    while len(made.idle) < number:
        made.receive(None)
    ranked = sorted(latencies)
    return {
        "per_second": len(ranked) / passed,
        "p50_ms": 1000 * ranked[len(ranked) // 2],
        "p99_ms": 1000 * ranked[int(0.99 * len(ranked))],
        "client_cpu_percent": 100 * cpu / passed,
    }


def load(port: int, server: int, **options: Any) -> dict[str, float]:
    """Run clients in a process of their own; add the processor time of the server for each answer."""
    process = psutil.Process(server)
    before = sum(process.cpu_times()[:2])
    command = [sys.executable, __file__, "--as-clients", json.dumps({"port": port, **options})]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    seconds = options["seconds"] + (WARM_UP if options["rate"] is None else 0)
    found["server_cpu_ms"] = 1000 * (sum(process.cpu_times()[:2]) - before) / (found["per_second"] * seconds)
    return found


@contextmanager
def serving(model: str, more: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Run the server; yields its port and process."""
    command = [sys.executable, "-m", "emotune", "serve", model, "--port", "0", "--json", "--quiet", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        try:
            yield started["port"], process.pid
        finally:
            process.terminate()
        assert process.wait() == 0


@contextmanager
def piping(model: Path) -> Iterator[tuple[int, int]]:
    """Run a server around the pipeline of transformers; yields its port and process."""
    import urllib.request
    from contextlib import suppress

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, "-c", PIPELINE, str(model), str(port)]) as process:
        ready = False
        while not ready:
            assert process.poll() is None
            time.sleep(0.2)
            with suppress(OSError):
                ready = urllib.request.urlopen(f"http://127.0.0.1:{port}/health").status == 200
        try:
            yield port, process.pid
        finally:
            process.terminate()


def bulk(model: str, texts: Sequence[str], seconds: float) -> dict[str, float]:
    """Score the texts with the model alone."""
    import emotune

    classifier = emotune.load(model, device="cpu")
    classifier.scores(texts[:BATCH], batch_size=BATCH)
    started, cpu, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - started < seconds:
        classifier.scores(texts, batch_size=BATCH)
        done += len(texts)
    passed, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"per_second": done / passed, "cpu_ms": 1000 * cpu / done}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--pipeline", type=Path, metavar="DIR")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="more options of emotune serve")
    parser.add_argument("--as-clients", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_clients:
        print(json.dumps(clients(**options.as_clients)))
        return
    texts = read_texts(options.data, options.texts)
    shared = {"texts": texts[:500], "number": options.clients, "seconds": options.seconds}
    rounds: list[dict[str, dict[str, float]]] = []
    for i in range(options.rounds):
        found = {"bulk": bulk(options.model, texts, options.seconds)}
        with serving(options.model, options.serve) as (port, process):
            found["server"] = load(port, process, rate=None, **shared)
            found["half"] = load(port, process, rate=found["server"]["per_second"] / 2, **shared)
        if options.pipeline is not None:
            with piping(options.pipeline) as (port, process):
                found["pipeline"] = load(port, process, rate=None, **shared)
        rounds.append(found)
        print(f"round {i + 1}: {json.dumps(found)}", flush=True)

    def median(values: Sequence[float]) -> float:
        return round(statistics.median(values), 3)

    summary: dict[str, Any] = {
        f"{side}_{name}": median([found[side][name] for found in rounds])
        for side in rounds[0]
        for name in rounds[0][side]
    }
    summary["share_of_bulk"] = median([f["server"]["per_second"] / f["bulk"]["per_second"] for f in rounds])
    if options.pipeline is not None:
        ratios = [f["server"]["per_second"] / f["pipeline"]["per_second"] for f in rounds]
        summary["times_the_pipeline"] = median(ratios)
    summary["peak_mib_of_this_process"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
