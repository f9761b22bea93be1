"""`emotune serve`: a server process on the loopback, whose answers are those of `emotune predict`."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import emotune
import hostile
import tiny
from emotune.artifact.manifest import DEFAULT, find_model
from emotune.cli.app import app
from emotune.inference.classifier import EmotionClassifier, Prepared, Scored
from emotune.labels import GOEMOTIONS
from emotune.serving import openapi
from emotune.serving.app import App, AppOptions
from emotune.serving.batching import Batcher, OverloadError, ScoringError
from emotune.serving.metrics import Metrics, ModelMetrics
from emotune.serving.models import ServedModel
from served import PATIENCE, Answer, Clients, Server, head, read_answer, request, serving

NO_BODY = object()
KEY = "a-key-of-the-tests"
EMOJI = "\U0001f600"
LONG = "I am so happy" + " ." * 200 + " and so sad"
TEXTS = [
    "I can't believe I got the job!!",
    "he left without a word",
    "",
    " \u200b\t",
    "who are you?",
    f"so funny {EMOJI}{EMOJI}",
    "thanks, that was kind of you",
    LONG,
    "a",
    "warum nicht heute und morgen auch noch",
    *(
        f"{word} and {other}"
        for word in ("happy", "angry", "scared")
        for other in ("sad", "proud", "tired", "grateful")
    ),
]


@pytest.fixture(scope="module")
def offline() -> EmotionClassifier:
    return emotune.load(DEFAULT, threads=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that all tests of this module share."""
    with serving(tmp_path_factory.mktemp("server"), "default", "again=default") as found:
        yield found
        assert found.stop() == 0


def expected(offline: EmotionClassifier, texts: list[str], top_k: int | None = None, **options: Any) -> list[Any]:
    return [each.to_json(top_k) for each in offline.predict(texts, **options)]


def pairs(found: list[dict[str, Any]]) -> dict[str, float]:
    """Labels and scores of an answer in the form of others, which are sorted."""
    assert [each["score"] for each in found] == sorted((each["score"] for each in found), reverse=True)
    return {each["label"]: each["score"] for each in found}


# --- forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"level": "ekman"}, {"level": "sentiment"}, {"threshold": 0.2}])
def test_the_own_form_has_the_answers_of_predict(
    server: Server, offline: EmotionClassifier, options: dict[str, Any]
) -> None:
    found = server.post("/predict", {"texts": TEXTS, **options}).json
    assert found["predictions"] == expected(offline, TEXTS, **options)
    assert (found["thresholds"] is None) == ("level" in options)
    one = server.post("/predict", {"text": TEXTS[0], "top_k": 2, "model": "again", **options}).json
    assert one["predictions"] == expected(offline, TEXTS[:1], 2, **options)
    assert one["model"] == "again"


def test_each_single_text_of_many_clients_has_the_answer_of_predict(server: Server, offline: EmotionClassifier) -> None:
    texts = [f"{text} {i}" for i in range(6) for text in TEXTS]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda text: server.post("/predict", {"text": text}).json["predictions"][0], texts))
    assert found == expected(offline, texts)


def test_the_form_of_hugging_face(server: Server, offline: EmotionClassifier) -> None:
    for path in ("/", "/models/default", "/models/again"):
        found = server.post(path, {"inputs": TEXTS}).json
        assert [pairs(each) for each in found] == [each.scores for each in offline.predict(TEXTS)]
    best = server.post("/", {"inputs": TEXTS[0], "parameters": {"top_k": 2}}).json
    assert [pairs(each) for each in best] == [offline.predict(TEXTS[0])[0].top(2)]
    logits = offline.logits(TEXTS[0])[0].astype(float)
    values = {"none": logits, "softmax": np.exp(logits) / np.exp(logits).sum(), "sigmoid": 1 / (1 + np.exp(-logits))}
    for function, scores in values.items():
        found = server.post("/", {"inputs": TEXTS[0], "parameters": {"function_to_apply": function}}).json[0]
        assert pairs(found) == pytest.approx(dict(zip(GOEMOTIONS.names, scores, strict=True)), rel=1e-9)


def test_the_client_of_hugging_face_understands_the_answer(server: Server, offline: EmotionClassifier) -> None:
    from huggingface_hub import InferenceClient

    client = InferenceClient(model=f"{server.url}/models/default", token="unused")
    found = client.text_classification(TEXTS[0], top_k=3)
    assert {each.label: each.score for each in found} == offline.predict(TEXTS[0])[0].top(3)


def test_the_form_of_text_embeddings_inference(server: Server, offline: EmotionClassifier) -> None:
    assert pairs(server.post("/predict", {"inputs": TEXTS[0], "truncate": True}).json) == offline(TEXTS[0])[0].scores
    for inputs in (TEXTS[:3], [[text] for text in TEXTS[:3]]):
        found = server.post("/predict", {"inputs": inputs, "raw_scores": False}).json
        assert [pairs(each) for each in found] == [each.scores for each in offline(TEXTS[:3])]
    raw = server.post("/predict", {"inputs": TEXTS[0], "raw_scores": True, "truncation_direction": "right"}).json
    assert list(pairs(raw).values()) == sorted(map(float, offline.logits(TEXTS[0])[0]), reverse=True)


def test_explanations_are_those_of_explain(server: Server, offline: EmotionClassifier) -> None:
    texts = [TEXTS[0], "", LONG]
    found = server.post("/predict", {"texts": texts, "explain": True}).json["predictions"]
    assert found == [each.to_json() for each in offline.explain(texts)]
    best = server.post("/predict", {"text": TEXTS[0], "explain": True, "top_k": 2}).json["predictions"][0]
    assert best["scores"] == offline(TEXTS[0])[0].top(2)
    assert all(list(word["contributions"]) == list(best["scores"]) for word in best["words"])


def test_models_that_read_texts_whole_are_served(base: Path, tmp_path: Path) -> None:
    run, texts = tmp_path / "run", ["happy tea", "", "furious rain", "happy tea"]
    made = CliRunner().invoke(app, ["train", "emotion-dummy", "--data", str(tiny.multi_label(base)), "--out", str(run)])
    assert made.exit_code == 0

    async def work(application: App) -> None:
        status, found = await ask(application, {"texts": texts})
        assert (status, found["model"]) == (200, "whole")
        assert found["predictions"] == expected(emotune.load(run), texts)
        assert (await ask(application, {"text": "happy tea", "level": "ekman"}))[0] == 422

    inside(AppOptions({"whole": str(run)}), work)


def test_the_models_are_described(server: Server, offline: EmotionClassifier) -> None:
    first, second = server.get("/models").json["models"]
    assert (first["name"], second["name"]) == ("default", "again")
    assert first["labels"] == list(GOEMOTIONS.names)
    assert first["thresholds"] == dict(zip(GOEMOTIONS.names, offline.decision.thresholds, strict=True))
    assert first["levels"] == ["ekman", "sentiment", "emotion", "semeval2025"]
    assert first["digest"] == offline.manifest.digest


def test_the_description_of_the_routes_is_true(server: Server) -> None:
    api = server.get("/openapi.json").json
    asked = [(path, "get", server.get(path)) for path in ("/models", "/health", "/ready")]
    for path in ("/predict", "/", "/models/{name}"):
        body = api["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        place = path.format(name="default")
        validate(api, body["schema"], body["example"])
        asked += [(path, "post", server.post(place, body["example"])), (path, "post", server.post(place, {"x": 1}))]
    asked.append(("/predict", "post", server.post("/predict", {"text": "so glad", "explain": True})))
    asked.append(("/predict", "post", server.post("/predict", {"inputs": ["so glad"]})))
    for path, method, answer in asked:
        responses = api["paths"][path][method]["responses"]
        validate(api, responses[str(answer.status)]["content"]["application/json"]["schema"], answer.json)


def validate(api: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    jsonschema.Draft202012Validator({**schema, "components": api["components"]}).validate(value)


def test_the_page_of_the_routes_needs_nothing_else(server: Server) -> None:
    page = server.get("/docs")
    text = page.body.decode()
    assert "POST /predict" in text
    assert not any(part in text for part in ("<script", "src=", "http:", "https:", "@import", "url("))
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")


def test_the_metrics_count_requests_texts_batches_and_labels(server: Server) -> None:
    before, texts = metrics(server), ["thank you so much"] * 3
    found = server.post("/predict", {"model": "again", "texts": texts}).json["predictions"]
    assert found[0]["labels"] == ["gratitude"]
    server.get("/nowhere")
    after = metrics(server)

    def more(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert more('emotune_texts_total{model="again"}') == 3
    assert more('emotune_labels_total{label="gratitude",model="again"}') == 3
    assert more('emotune_requests_total{route="/predict",status="200"}') == 1
    assert more('emotune_requests_total{route="other",status="404"}') == 1
    assert more('emotune_batch_rows_count{model="again"}') == 1
    assert more('emotune_queue_seconds_count{model="again"}') == 1
    assert more('emotune_request_seconds_count{route="/predict"}') == 1
    assert after['emotune_queue_tokens{model="again"}'] == 0


def metrics(server: Server, **headers: str) -> dict[str, float]:
    lines = server.get("/metrics", **headers).body.decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_answers_have_the_headers_of_a_careful_server(server: Server) -> None:
    for answer in (server.get("/health"), server.get("/nowhere"), server.post("/predict", b"{")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert len(answer.headers["x-request-id"]) == 16
        assert not answer.headers.keys() & {"server", "access-control-allow-origin"}


# --- hostile requests ------------------------------------------------------------------------------------------------

DEEP = b"[" * 100_000
CHUNKED = head("POST", "/predict", transfer_encoding="chunked")
NOTHING = b"0\r\n\r\n"  # the last chunk
HOSTILE: dict[str, tuple[bytes, int]] = {
    "no body": (request("/predict", b""), 400),
    "half an object": (request("/predict", b'{"text": "a"'), 400),
    "no JSON": (request("/predict", b"text=happy"), 400),
    "two values": (request("/predict", b'{"text": "a"} {"text": "b"}'), 400),
    "NaN": (request("/predict", b'{"text": "a", "threshold": NaN}'), 400),
    "infinity": (request("/predict", b'{"text": "a", "threshold": Infinity}'), 400),
    "1e999": (request("/predict", b'{"text": "a", "threshold": 1e999}'), 422),
    "a raw NUL": (request("/predict", b'{"text": "a\0b"}'), 400),
    "an escaped NUL": (request("/predict", b'{"text": "a\\u0000b"}'), 422),
    "a lone surrogate": (request("/predict", b'{"text": "\\ud83d"}'), 400),
    "the other half": (request("/predict", b'{"text": "\\ude00 a"}'), 400),
    "a surrogate in UTF-8": (request("/predict", b'{"text": "\xed\xa0\x80"}'), 400),
    "Latin-1": (request("/predict", b'{"text": "caf\xe9"}'), 400),
    "UTF-16": (request("/predict", '{"text": "a"}'.encode("utf-16")), 400),
    "a byte order mark": (request("/predict", b'\xef\xbb\xbf{"text": "a"}'), 400),
    "deep lists": (request("/predict", DEEP), 400),
    "deep objects": (request("/predict", b'{"a":' * 50_000), 400),
    "deep inputs": (request("/", b'{"inputs":' + DEEP + b"]" * 100_000 + b"}"), 400),
    "a list": (request("/predict", [{"text": "a"}]), 422),
    "a string": (request("/predict", "a"), 422),
    "null": (request("/predict", None), 422),
    "no text": (request("/predict", {}), 422),
    "text and texts": (request("/predict", {"text": "a", "texts": ["b"]}), 422),
    "a number as text": (request("/predict", {"text": 5}), 422),
    "null as a text": (request("/predict", {"texts": ["a", None]}), 422),
    "nested texts": (request("/predict", {"texts": [["a"]]}), 422),
    "texts as an object": (request("/predict", {"texts": {"0": "a"}}), 422),
    "an unknown key": (request("/predict", {"text": "a", "treshold": 0.5}), 422),
    "a threshold as text": (request("/predict", {"text": "a", "threshold": "0.5"}), 422),
    "a threshold of 2": (request("/predict", {"text": "a", "threshold": 2}), 422),
    "top_k of 0": (request("/predict", {"text": "a", "top_k": 0}), 422),
    "top_k of 10^400": (request("/predict", b'{"text": "a", "top_k": 1' + b"0" * 400 + b"}"), 422),
    "top_k as a boolean": (request("/predict", {"text": "a", "top_k": True}), 422),
    "an unknown level": (request("/predict", {"text": "a", "level": "ekmann"}), 422),
    "an unknown model": (request("/predict", {"text": "a", "model": "../../etc/passwd"}), 404),
    "explain with a level": (request("/predict", {"text": "a", "explain": True, "level": "ekman"}), 422),
    "too much to explain": (request("/predict", {"texts": ["a"] * 17, "explain": True}), 413),
    "a pair": (request("/predict", {"inputs": [["a", "b"]]}), 422),
    "inputs of both forms": (request("/predict", {"inputs": "a", "parameters": {}}), 422),
    "an unknown function": (request("/", {"inputs": "a", "parameters": {"function_to_apply": "tanh"}}), 422),
    "an unknown parameter": (request("/", {"inputs": "a", "parameters": {"topk": 1}}), 422),
    "a model that is a path": (request("/models/..%2f..%2fdefault", {"inputs": "a"}), 404),
    "100,000 texts": (request("/predict", b'{"texts": [' + b'"a",' * 99_999 + b'"a"]}'), 413),
    "a text of 200,000 characters": (request("/predict", {"text": "a " * 100_000}), 413),
    "2 MB": (request("/predict", {"text": "a" * 2_000_000}), 413),
    "1 GB announced": (head("POST", "/predict", content_length=str(10**9)), 413),
    "10^30 bytes announced": (head("POST", "/predict", content_length=str(10**30)), 400),
    "a negative length": (head("POST", "/predict", content_length="-5"), 400),
    "two lengths": (head("POST", "/predict", content_length="2")[:-2] + b"content-length: 3\r\n\r\n{}", 400),
    "chunks beyond the limit": (CHUNKED + (b"40000\r\n" + b" " * 0x40000 + b"\r\n") * 5, 413),
    "a chunk of no size": (CHUNKED + b"zz\r\n", 400),
    "length and chunks": (head("POST", "/predict", content_length="2", transfer_encoding="chunked"), 400),
    "gzip": (request("/predict", b"\x1f\x8b\x08\x00", content_encoding="gzip"), 415),
    "another method": (head("DELETE", "/predict"), 405),
    "GET with a body": (head("GET", "/predict", content_length="2") + b"{}", 405),
    "another route": (head("GET", "/../../etc/passwd"), 404),
    "a double slash": (head("GET", "//health"), 404),
    "a bad escape": (head("GET", "/%zz%00"), 404),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a header without a name": (b"GET /health HTTP/1.1\r\n: x\r\n\r\n", 400),
    "a NUL in a header": (b"GET /health HTTP/1.1\r\nx: a\0b\r\n\r\n", 400),
    "long headers": (b"GET /health HTTP/1.1\r\nx: " + b"a" * 1_000_000, 431),
    "many headers": (b"GET /health HTTP/1.1\r\n" + b"x: a\r\n" * 100_000, 431),
    "a long path": (b"GET /" + b"a" * 1_000_000, 431),
    "reload without a key": (request("/models/reload", b""), 403),
    "an unknown transfer coding": (head("POST", "/predict", transfer_encoding="xchunked") + NOTHING, 400),
    "chunks, then another coding": (head("POST", "/predict", transfer_encoding="chunked, identity") + NOTHING, 400),
    "a space before the colon": (head("POST", "/predict", transfer_encoding_="chunked").replace(b"-:", b" :"), 400),
    "a folded header": (b"GET /health HTTP/1.1\r\nx: a\r\n b\r\n\r\n", 400),
    "line feeds alone": (b"GET /health HTTP/1.1\nhost: x\n\n", 400),
    "a carriage return in a header": (b"GET /health HTTP/1.1\r\nx: a\rb: c\r\n\r\n", 400),
    "a length with a sign": (head("POST", "/predict", content_length="+2") + b"{}", 400),
    "a length twice": (head("POST", "/predict", content_length="2, 2") + b"{}", 400),
    "1 GB announced and awaited": (head("POST", "/predict", content_length=str(10**9), expect="100-continue"), 413),
    "a chunk of a negative size": (CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk of 2^68 bytes": (CHUNKED + b"f" * 17 + b"\r\n{}", 400),
    "a chunk that is too long": (CHUNKED + b"2\r\n{}{}\r\n0\r\n\r\n", 400),
    "a chunk with a long extension": (CHUNKED + b"2;" + b"a" * 1_000_000, 431),
    "many trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n" + b"x: a\r\n" * 100_000, 431),
    "a long trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nx: " + b"a" * 1_000_000, 431),
    "HTTP/9.9": (b"GET /health HTTP/9.9\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a proxy": (head("CONNECT", "example.org:443"), 400),
    "TRACE": (head("TRACE", "/health"), 405),
    "OPTIONS of all": (head("OPTIONS", "*"), 404),
    "an upgrade with a body": (request("/predict", {"text": "a"}, connection="upgrade", upgrade="websocket"), 400),
    "bytes in a path": (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", 400),
    "a model with a NUL": (request("/models/default%00", {"inputs": "a"}), 404),
    "an integer of 5,000 digits": (request("/predict", b'{"text": "a", "top_k": 1' + b"0" * 5000 + b"}"), 400),
    "deep options": (request("/", b'{"inputs": "a", "options":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001), 400),
    "500,000 numbers as texts": (request("/predict", b'{"texts": [' + b"0," * 500_000 + b"0]}"), 422),
    "500,000 numbers as inputs": (request("/", b'{"inputs": [' + b"0," * 500_000 + b"0]}"), 422),
    "80,000 unknown keys": (request("/predict", {f"a{i}": 0 for i in range(80_000)}), 422),
    "a long name of a model": (request("/predict", {"text": "a", "model": "default" * 100_000}), 422),
    "a long name of a level": (request("/predict", {"text": "a", "level": "ekman" * 100_000}), 422),
}


def test_hostile_requests_get_a_reason_while_others_are_served(server: Server, offline: EmotionClassifier) -> None:
    assert len(HOSTILE) >= 90
    memory = psutil.Process(server.process.pid).memory_info().rss

    async def attack() -> None:
        async with Clients(server, TEXTS, 2) as clients:
            with ThreadPoolExecutor(8) as pool:
                loop = asyncio.get_running_loop()
                sent = [loop.run_in_executor(pool, server.send, raw) for raw, _ in HOSTILE.values()]
                for (name, (_, status)), answer in zip(HOSTILE.items(), await asyncio.gather(*sent), strict=True):
                    assert answer.status == status, (name, answer)
                    if answer.headers.get("content-type") == "application/json":
                        assert answer.json["error"], name
                        assert b"Traceback" not in answer.body, name
                    await clients.answered(1)
        assert_right(clients, offline)

    asyncio.run(attack())
    assert psutil.Process(server.process.pid).memory_info().rss < memory + 200e6
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "ERROR" not in log


def test_odd_requests_are_served_as_any_other(server: Server, offline: EmotionClassifier) -> None:
    body = json.dumps({"text": TEXTS[0]}).encode()
    chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in (body[:1], body[1:2], body[2:]))
    trailers = b"0\r\ncontent-encoding: gzip\r\nauthorization: Bearer x\r\n\r\n"  # are no headers
    found = server.send(CHUNKED + chunks + trailers)
    assert found.json["predictions"] == expected(offline, TEXTS[:1])
    assert server.send(b"GET /health HTTP/1.0\r\n\r\n").status == 200
    ours = server.get("/health", x_request_id="theirs").headers
    assert ours["x-request-id"] != "theirs"


def test_requests_that_come_at_once_are_answered_in_order(server: Server, offline: EmotionClassifier) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        bodies = [json.dumps({"text": text}).encode() for text in TEXTS]
        bodies[1] += b" " * 100_000  # arrives with the beginning of the next request
        connection.sendall(b"".join(request("/predict", body) for body in bodies))
        answers, data = [], b""
        while len(answers) < len(TEXTS):
            data += connection.recv(1 << 16)
            *whole, data = re.split(rb"(?=HTTP/1\.1 200 OK)", data)
            answers += [part for part in whole if part]
            if data.endswith(b"}]}"):
                answers, data = [*answers, data], b""
    found = [json.loads(part.partition(b"\r\n\r\n")[2])["predictions"][0] for part in answers]
    assert found == expected(offline, TEXTS)


def assert_right(clients: Clients, offline: EmotionClassifier, statuses: tuple[int, ...] = (200,)) -> None:
    """Every request has an answer, and every 200 is that of `predict`."""
    assert not clients.load.lost
    assert set(clients.load.statuses()) == set(statuses)
    right = {text: prediction.to_json() for text, prediction in zip(TEXTS, offline.predict(TEXTS), strict=True)}
    for text, answer in clients.load.answers:
        if answer.status == 200:
            assert answer.json["predictions"] == [right[text]]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"texts": ["a", 5]}, "texts[1]: Input should be a valid string"),
        ({"inputs": ["a", 5]}, "inputs[1]: Input should be a valid string"),
        ({"text": "a", "treshold": 1}, "unknown key 'treshold'"),
        ({"texts": ["a", "b\0"]}, "texts[1] contains a NUL character (U+0000)"),
        ({"text": "a", "model": "agian"}, "no model named 'agian' is served"),
    ],
)
def test_the_reason_names_the_place_and_the_remedy(server: Server, body: dict[str, Any], reason: str) -> None:
    found = server.post("/predict", body).json
    assert found["error"] == reason
    hints = {"treshold": "threshold", "agian": "again", "NUL": "Remove it"}
    assert all(hint in found["hint"] for word, hint in hints.items() if word in reason)


@pytest.mark.slow
def test_slow_clients_are_ended(tmp_path: Path) -> None:
    with serving(tmp_path, "--timeout", 5) as server, ThreadPoolExecutor(4) as pool:
        started = time.monotonic()
        slow = [
            pool.submit(dribble, server, head("POST", "/predict", content_length="1000")),
            pool.submit(dribble, server, b"GET /health HTTP/1.1\r\nx: "),
            pool.submit(server.send, head("POST", "/predict", content_length="100") + b'{"text": '),
            pool.submit(server.send, b"GET /hea"),
        ]
        assert server.get("/health").status == 200
        assert [each.result().status for each in slow] == [408, 408, 408, 408]
        assert time.monotonic() - started < 15


def dribble(server: Server, raw: bytes) -> Answer:
    """Send one byte after the other until there is an answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(raw)
        for _ in range(200):
            connection.setblocking(False)
            try:
                connection.recv(1, socket.MSG_PEEK)
                break
            except BlockingIOError:
                connection.setblocking(True)
                connection.sendall(b" ")
                time.sleep(0.1)
        connection.setblocking(True)
        return read_answer(connection)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TEXT_FIELDS = [{"text": "a"}, {"texts": ["a", "b"]}, {"inputs": "a"}, {"inputs": [["a"]]}, {"inputs": ["a", "b"]}, {}]
OPTIONS = ("model", "level", "threshold", "top_k", "explain", "raw_scores", "parameters", "texts")
VALUES = st.sampled_from([None, "ekman", "default", True, 0.5, 3, ["a"], {"top_k": 2}]) | JSON
BODIES = st.builds(
    lambda texts, options: texts | options,
    st.sampled_from(TEXT_FIELDS),
    st.dictionaries(st.sampled_from(OPTIONS), VALUES, max_size=2),
)


def test_any_body_has_an_answer_that_is_described() -> None:
    async def work(application: App) -> None:
        api = openapi.document(1000, 100_000, key=False)
        counts, loop = Counter[int](), asyncio.get_running_loop()

        @settings(max_examples=120, deadline=None, database=None)
        @given(st.sampled_from(["/predict", "/models/{name}", "/"]), BODIES | JSON)
        def check(path: str, body: Any) -> None:
            asked = ask(application, body, path.format(name="default"))
            status, found = asyncio.run_coroutine_threadsafe(asked, loop).result(PATIENCE)
            counts[status] += 1
            assert status < 500
            described = api["paths"][path]["post"]["responses"][str(status)]["content"]["application/json"]["schema"]
            validate(api, described, found)

        await asyncio.to_thread(check)
        assert {200, 422} <= counts.keys()

    inside(AppOptions({"default": DEFAULT}), work)


@pytest.mark.slow
def test_twenty_thousand_cases_of_schemathesis(server: Server, tmp_path: Path) -> None:
    program = pytest.importorskip("schemathesis") and [sys.executable, "-m", "schemathesis.cli"]
    command = [*program, "run", f"{server.url}/openapi.json", "--no-color", "--phases", "examples,coverage,fuzzing"]
    # a text with a NUL, or an unknown level, is valid by the schema, and refused
    command += ["--max-examples", "7000", "--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"([\d,]+) generated", done.stdout)[1].replace(",", "")) >= 20_000
    assert "Traceback" not in server.log.read_text()


# --- load ------------------------------------------------------------------------------------------------------------


def test_too_much_load_is_refused_and_no_answer_is_wrong(tmp_path: Path, offline: EmotionClassifier) -> None:
    overload(tmp_path, offline, seconds=1)


@pytest.mark.slow
def test_five_minutes_of_too_much_load_take_no_memory(tmp_path: Path, offline: EmotionClassifier) -> None:
    first, last = overload(tmp_path, offline, seconds=300)
    assert last <= 1.05 * first


def overload(folder: Path, offline: EmotionClassifier, seconds: float) -> tuple[float, float]:
    """Overload a server with a small queue; return its memory after a tenth of the time, and at the end."""

    async def attack(server: Server) -> tuple[float, float]:
        process = psutil.Process(server.process.pid)
        async with Clients(server, TEXTS, 60) as clients:
            memory = []
            for part in (0.1, 0.9):
                await asyncio.sleep(part * seconds)
                while not {200, 429} <= clients.load.statuses().keys():
                    await clients.answered(1)
                memory.append(process.memory_info().rss)
                for _, answer in clients.load.answers:
                    if answer.status == 429:
                        assert int(answer.headers["retry-after"]) >= 1
                        assert answer.json["error_type"] == "Overloaded"
                if part == 0.1:
                    assert_right(clients, offline, (200, 429))
                    clients.load.answers.clear()
        assert_right(clients, offline, (200, 429))
        assert (await asyncio.to_thread(server.post, "/predict", {"text": "a"})).status == 200
        return memory[0], memory[1]

    with serving(folder, "--queue-tokens", 60, "--threads", 1) as server:
        found = asyncio.run(attack(server))
        clients = asyncio.run(end_under_load(server))
        assert_right(clients, offline, tuple(clients.load.statuses().keys() | {200}))
    return found


@pytest.mark.slow
def test_fifty_servers_that_end_answer_what_they_have_accepted(tmp_path: Path, offline: EmotionClassifier) -> None:
    for i in range(50):
        with serving(tmp_path, DEFAULT) as server:
            assert_right(asyncio.run(end_under_load(server, after=0.007 * i)), offline)


async def end_under_load(server: Server, after: float = 0.0, **headers: str) -> Clients:
    """End a server while clients use it; return the clients."""
    async with Clients(server, TEXTS, 12, **headers) as clients:
        await clients.answered(10)
        await asyncio.sleep(after)
        server.process.send_signal(signal.SIGTERM)
        await clients.ended()
    assert await asyncio.to_thread(server.process.wait, 10) == 0
    assert "stopped; all requests were answered" in server.log.read_text()
    return clients


# --- reloading -------------------------------------------------------------------------------------------------------


def replace_model(model: Path, threshold: float, folder: Path) -> None:
    """Put a model with other thresholds in the place of one, as `emotune tune` does."""

    def changed(directory: Path) -> bytes:
        content = json.loads((directory / "decision.json").read_text())
        return json.dumps(content | {"thresholds": dict.fromkeys(GOEMOTIONS.names, threshold)}).encode()

    made = tiny.copy(find_model(DEFAULT), folder / f"new-{threshold}")
    hostile.spoil(hostile.Kind(hostile.write("decision.json", changed), ""), made)
    if model.exists():
        model.rename(folder / f"old-{threshold}")
    made.rename(model)


def test_a_model_is_reloaded_under_load_without_a_lost_request(tmp_path: Path, offline: EmotionClassifier) -> None:
    model, key = tmp_path / "model-a", {"authorization": f"Bearer {KEY}"}
    replace_model(model, 0.5, tmp_path)

    async def reload(how: str, server: Server, clients: Clients) -> None:
        if how == "request":
            found = await asyncio.to_thread(server.post, "/models/reload", b"", **key)
            assert found.json["reloaded"] == ["model-a"]
            return
        server.process.send_signal(signal.SIGHUP)
        while server.log.read_text().count("reloaded: model-a") < 2:
            await clients.answered(1)

    async def use(server: Server) -> None:
        async with Clients(server, TEXTS, 6, **key) as clients:
            await clients.answered(20)
            for how, threshold in (("request", 0.01), ("signal", 0.9)):
                replace_model(model, threshold, tmp_path)
                await reload(how, server, clients)
                reloaded = time.monotonic()
                await clients.answered(26)
                right = {each.text: each.to_json() for each in offline.predict(TEXTS, threshold=threshold)}
                found = [(text, answer) for text, answer in clients.load.answers if answer.asked > reloaded]
                assert len(found) >= 20
                assert all(answer.json["predictions"] == [right[text]] for text, answer in found)
        assert not clients.load.lost

    with serving(tmp_path, model, key=KEY) as server:
        asyncio.run(use(server))
        clients = asyncio.run(end_under_load(server, 0.007, **key))
        assert not clients.load.lost
        assert clients.load.statuses().keys() == {200}


def test_a_reload_that_fails_keeps_the_old_model(tmp_path: Path) -> None:
    model = tmp_path / "model-a"
    replace_model(model, 0.5, tmp_path)

    async def work(application: App) -> None:
        assert (await ask(application, {}, "/models/reload", key="wrong"))[0] == 401
        assert (await ask(application, {}, "/models/reload", key=KEY))[1]["reloaded"] == []
        (model / "emotune.json").write_text("{")
        status, found = await ask(application, {}, "/models/reload", key=KEY)
        assert (status, found["hint"]) == (409, "The old models are still served.")
        assert str(model) in found["error"]
        assert (await ask(application, {"text": "a"}, key=KEY))[0] == 200
        assert b'emotune_reloads_total{outcome="failure"} 1.0' in application.metrics.text()

    inside(AppOptions({"a": str(model)}, api_key=KEY), work)


# --- keys, origins, logs ---------------------------------------------------------------------------------------------


ORIGIN = "https://example.org"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of two processes with a key, an origin and a log of its requests."""
    folder = tmp_path_factory.mktemp("keyed")
    file = folder / "key"
    file.write_text(f"{KEY}\n")
    options = ("--workers", 2, "--api-key-file", file, "--cors-origin", ORIGIN, "--log-requests")
    with serving(folder, *options) as found:
        yield found
        assert found.stop() == 0


def test_a_key_protects_all_but_the_state_and_the_docs(keyed: Server) -> None:
    for path in ("/health", "/ready", "/docs", "/openapi.json"):
        assert keyed.get(path).status == 200
    assert keyed.post(f"/predict?key={KEY}&authorization=Bearer%20{KEY}", {"text": "secret words"}).status == 401
    for wrong in ({}, {"authorization": f"Bearer {KEY}x"}, {"authorization": KEY}, {"authorization": "Bearer "}):
        for answer in (keyed.post("/predict", {"text": "secret words"}, **wrong), keyed.get("/metrics", **wrong)):
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    right = {"authorization": f"Bearer {KEY}"}
    found = keyed.post("/predict", {"text": "secret words"}, origin=ORIGIN, **right)
    assert (found.status, found.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert metrics(keyed, **right)['emotune_requests_total{route="/predict",status="401"}'] == 5
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization"}
    preflight = keyed.send(head("OPTIONS", "/predict", origin=ORIGIN, **asked))
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (200, ORIGIN)
    refused = keyed.send(head("OPTIONS", "/predict", origin="https://example.com", **asked))
    assert "access-control-allow-origin" not in refused.headers
    log = keyed.log.read_text()
    assert KEY not in log
    assert "secret" not in log
    assert '"route": "/predict", "status": 200' in log


def test_texts_are_logged_only_when_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "emotune.serving")

    async def work(application: App) -> None:
        await ask(application, {"text": "thank you so much"})

    inside(AppOptions({"default": DEFAULT}, log_texts=True), work)
    found = json.loads(caplog.messages[-1])
    assert (found["route"], found["status"]) == ("/predict", 200)
    assert found["read"] == [{"text": "thank you so much", "labels": ["gratitude"]}]


def test_several_processes_share_the_port_the_metrics_and_the_signals(keyed: Server) -> None:
    right, number = {"authorization": f"Bearer {KEY}"}, 'emotune_texts_total{model="default"}'
    deadline, processes, reloaded = time.monotonic() + 2 * PATIENCE, set(), set()
    while len(processes) < 2:  # a process that is still starting would end by SIGHUP, and be started again
        processes.add(keyed.get("/ready").headers["x-request-id"][:8])
        assert time.monotonic() < deadline
    before = metrics(keyed, **right).get(number, 0)
    for _ in range(20):
        assert keyed.post("/predict", {"text": "thank you so much"}, **right).status == 200
    assert {metrics(keyed, **right)[number] for _ in range(8)} == {before + 20}
    keyed.process.send_signal(signal.SIGHUP)
    while len(reloaded) < 2:
        time.sleep(0.05)
        reloaded = set(re.findall(r"(\d+) INFO reloaded: nothing has changed", keyed.log.read_text()))
        assert time.monotonic() < deadline


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["default", "x/default"], "two models are named 'default'"),
        (["a b=default"], "'a b' cannot be the name of a model"),
        (["reload=default"], "cannot be the name of a model"),
        (["--api-key-file", "nowhere"], "cannot read the key"),
        (["--api-key-file", "empty"], "empty: the key is empty"),
        (["--host", "256.0.0.1"], "cannot listen on 256.0.0.1"),
        (["--port", "TAKEN"], "--port 8001"),
        (["no/such/run"], "no/such/run"),
    ],
)
def test_a_server_that_cannot_start_says_why(args: list[str], message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, ["serve", *(port if arg == "TAKEN" else arg for arg in args)])
    assert result.exit_code in (2, 66)
    assert message in result.output
    assert result.output.count("error: ") == 1


# --- batching --------------------------------------------------------------------------------------------------------


class Model:
    """A model whose logit is the first token of a row; 13 makes it fail."""

    length_ratio = 1.0
    labels = ("x",)

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.wait = 0.0

    def score_rows(self, rows: list[np.ndarray], batch_size: int, max_windows: int | None) -> Scored:
        self.batches.append([int(row[0]) for row in rows])
        time.sleep(self.wait)
        if 13 in self.batches[-1]:
            raise ValueError("secret")
        return Scored(np.array([[row[0]] for row in rows], np.float32), np.ones(len(rows)), np.zeros(len(rows)))


def prepared(*rows: tuple[int, int]) -> Prepared:
    """Rows, each with its first token and its length."""
    ids = [np.array([first] + [0] * (length - 1), np.int32) for first, length in rows]
    return Prepared(ids, np.array([len(row) for row in ids]), lambda scored: scored)


def batching(model: Model, work: Any, **options: int) -> None:
    async def run() -> None:
        given = {"threads": 1, "batch_tokens": 12, "queue_tokens": 100, "max_windows": 64} | options
        batcher = Batcher(model, ModelMetrics(Metrics(), "model", ["x"]), **given)
        try:
            await work(batcher)
        finally:
            batcher.close()

    asyncio.run(run())


def test_a_batch_has_rows_of_one_length_the_oldest_first_and_few_tokens() -> None:
    model = Model()
    model.wait = 0.05

    async def work(batcher: Batcher) -> None:
        first = batcher.submit(prepared((1, 3)))
        await asyncio.sleep(0.02)
        rest = [batcher.submit(prepared((2, 4), (3, 5))), batcher.submit(prepared((4, 5), (5, 4), (6, 4), (7, 4)))]
        found = [scored.logits[:, 0].tolist() for scored in await asyncio.gather(first, *rest)]
        assert found == [[1], [2, 3], [4, 5, 6, 7]]

    batching(model, work)
    assert model.batches == [[1], [2, 5, 6], [3, 4], [7]]


@pytest.mark.parametrize(("ratio", "expected"), [(1.4, [[1], [2, 4], [3]]), (float("inf"), [[1], [2, 4, 3]])])
def test_similar_lengths_share_a_batch_where_they_may(ratio: float, expected: list[list[int]]) -> None:
    model = Model()
    model.length_ratio, model.wait = ratio, 0.05

    async def work(batcher: Batcher) -> None:
        first = batcher.submit(prepared((1, 3)))
        await asyncio.sleep(0.02)
        rest = [batcher.submit(prepared((2, 5))), batcher.submit(prepared((3, 9), (4, 6)))]
        await asyncio.gather(first, *rest)

    batching(model, work, batch_tokens=100)
    assert model.batches == expected


def test_a_failed_batch_fails_alone() -> None:
    model = Model()

    async def work(batcher: Batcher) -> None:
        with pytest.raises(ScoringError) as failure:
            await batcher.submit(prepared((1, 3), (13, 4), (2, 5)))
        assert isinstance(failure.value.__cause__, ValueError)
        assert (await batcher.submit(prepared((3, 4)))).logits.tolist() == [[3]]
        assert batcher._tokens == 0

    batching(model, work)


def test_what_nobody_waits_for_is_not_scored_and_frees_the_queue() -> None:
    model = Model()
    model.wait = 0.05

    async def work(batcher: Batcher) -> None:
        first = batcher.submit(prepared((1, 3)))
        await asyncio.sleep(0.02)
        left = batcher.submit(prepared((2, 60), (3, 60)))
        with pytest.raises(OverloadError) as refusal:
            batcher.submit(prepared((4, 1)))
        assert refusal.value.retry_after >= 1
        left.cancel()
        await asyncio.sleep(0)
        stays = batcher.submit(prepared((5, 60)))
        await asyncio.gather(first, stays)

    batching(model, work)
    assert model.batches == [[1], [5]]


def test_no_rows_have_no_scores() -> None:
    async def work(batcher: Batcher) -> None:
        assert (await batcher.submit(prepared())).logits.shape == (0, 1)

    batching(Model(), work)


def test_a_failure_of_the_model_is_an_error_with_an_id_and_no_text(monkeypatch, caplog) -> None:
    text = " ".join(["secret", "words"])
    caplog.set_level("ERROR", "emotune.serving")

    def fail(self: object, rows: object, *args: object) -> Scored:
        raise ValueError(text)

    async def work(application: App) -> None:
        monkeypatch.setattr(EmotionClassifier, "score_rows", fail)
        status, found = await ask(application, {"text": text})
        assert (status, found["error_type"]) == (500, "Backend")
        assert found["request_id"] in caplog.text
        assert "ValueError" in caplog.text
        assert text not in caplog.text + json.dumps(found)

    inside(AppOptions({"default": DEFAULT}), work)


def test_a_client_that_leaves_is_noticed_and_a_late_answer_is_refused(monkeypatch) -> None:
    begun: list[object] = []
    ended: list[object] = []

    async def never(self: object, texts: object, rule: object) -> list[object]:
        begun.append(texts)
        try:
            await asyncio.sleep(5)
        finally:
            ended.append(texts)
        return []

    async def work(application: App) -> None:
        monkeypatch.setattr(ServedModel, "predict", never)
        assert await ask(application, {"text": "a"}, leaves=True) == (0, None)
        assert begun == ended == [["a"]]
        status, found = await ask(application, {"text": "b"})
        assert (status, found["error"]) == (503, "no answer within 0.2 s")
        status, found = await ask(application, NO_BODY)
        assert (status, found["error"]) == (408, "the body did not arrive within 0.2 s")

    inside(AppOptions({"default": DEFAULT}, timeout=0.2), work)


def inside(options: AppOptions, work: Callable[[App], Awaitable[None]]) -> None:
    """Run work with an application in this process."""

    async def run() -> None:
        application = App(options)
        application.models.start()
        await work(application)

    asyncio.run(run())


async def ask(
    application: App, content: Any, path: str = "/predict", *, key: str = "", leaves: bool = False
) -> tuple[int, Any]:
    """Send an application a request; return the status and the JSON of its answer.

    content: NO_BODY for a body that never comes. leaves: whether the client leaves after a moment.
    """
    messages = [] if content is NO_BODY else [{"type": "http.request", "body": json.dumps(content).encode()}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.sleep(0.05 if leaves else 60)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {key}".encode())]
    await application(
        {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}, receive, send
    )
    if not sent:
        return 0, None
    return sent[0]["status"], json.loads(b"".join(message["body"] for message in sent[1:]))
