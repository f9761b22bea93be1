"""The routes of the server, as an ASGI application: limits, the key, answers, errors, metrics and the log."""

import asyncio
import gc
import hmac
import json
import logging
import secrets
import signal
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from pydantic_core import to_json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emotune.errors import EmotuneError
from emotune.labels import Task
from emotune.serving import openapi
from emotune.serving.batching import OverloadError, ScoringError
from emotune.serving.metrics import CONTENT_TYPE, Metrics
from emotune.serving.models import BatchOptions, ServedModel, ServedModels
from emotune.serving.page import page
from emotune.serving.schema import (
    ErrorAnswer,
    HuggingFaceRequest,
    ModelsAnswer,
    PredictRequest,
    ReloadAnswer,
    RequestError,
    StatusAnswer,
    TextEmbeddingsRequest,
    inputs_of,
    parsed,
    parsed_body,
)

LOG = logging.getLogger("emotune.serving")
MOST_EXPLAINED = 16  # texts of a request; each is scored once for each of its words
_LINGER = 2.0  # seconds in which the rest of a body that is refused is read, so that the client gets the answer
_LINGER_BYTES = 1 << 26
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_OPEN = ("/", "/docs", "/openapi.json", "/health", "/ready")  # GET needs no key
_Answer = Callable[[Request], Awaitable[Response]]
_WATCH_AFTER = 0.1  # seconds of a request, after which it is noticed that its client has left; most are answered before
_PROCESS, _NUMBERS = secrets.token_hex(4), count()  # the parts of the id of a request


@dataclass(frozen=True)
class AppOptions:
    """What is served, and within which limits.

    models: a MODEL argument by each name; the first is the default. timeout: seconds of a request. max_body: bytes.
    max_texts: of a request; max_characters: of a text. api_key: None for a server without one. log_requests: a line of
    JSON for each request; log_texts: with the texts and the predicted labels.
    """

    models: dict[str, str]
    batches: BatchOptions = field(default_factory=BatchOptions)
    timeout: float = 30.0
    max_body: int = 1 << 20
    max_texts: int = 1000
    max_characters: int = 100_000
    api_key: str | None = field(default=None, repr=False)
    cors_origins: tuple[str, ...] = ()
    log_requests: bool = False
    log_texts: bool = False


class JsonResponse(Response):
    """A JSON value."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content)


class App:
    """The application. It loads the models when it is constructed (errors as for `emotune.load`)."""

    def __init__(self, options: AppOptions, reload_others: Callable[[], None] = lambda: None) -> None:
        """reload_others: tells the other processes that serve the same models to reload."""
        self.options, self.metrics, self._reload_others = options, Metrics(), reload_others
        self.models = ServedModels(options.models, options.batches, self.metrics)
        self._tasks: set[asyncio.Task[None]] = set()
        self._api = openapi.document(options.max_texts, options.max_characters, key=options.api_key is not None)
        self._docs = openapi.page(self._api)
        self._page = page()
        answers: list[tuple[str, _Answer, list[str]]] = [
            ("/predict", self._predict, ["POST"]),
            ("/", self._root, ["GET", "POST"]),
            ("/models", self._list_models, ["GET"]),
            ("/models/reload", self._reload, ["POST"]),
            ("/models/{name}", self._hugging_face, ["POST"]),
            ("/health", self._healthy, ["GET"]),
            ("/ready", self._healthy, ["GET"]),
            ("/metrics", self._show_metrics, ["GET"]),
            ("/docs", self._show_docs, ["GET"]),
            ("/openapi.json", self._show_api, ["GET"]),
        ]
        routes = [Route(path, _Endpoint(answer), methods=methods) for path, answer, methods in answers]
        self._paths = {route.path for route in routes}
        self._router = Router(routes, redirect_slashes=False, lifespan=self._lifespan)
        self._outer: ASGIApp = self._answered
        if options.cors_origins:
            self._outer = CORSMiddleware(
                self._answered,
                allow_origins=options.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type"],
                expose_headers=["retry-after", "x-request-id"],
            )

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        self.models.start()
        gc.freeze()  # what is loaded stays: collecting garbage need not visit it
        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload_soon)
        yield

    def _reload_soon(self) -> None:
        async def reload() -> None:
            with suppress(EmotuneError):  # logged
                await self.reload()

        task = asyncio.create_task(reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reload(self) -> list[str]:
        """Reload the models that have changed, and log the outcome; raises EmotuneError."""
        try:
            names = await self.models.reload()
        except EmotuneError as error:
            LOG.error("the models cannot be reloaded; the old ones stay: %s", error)
            raise
        LOG.info("reloaded: %s", ", ".join(names) or "nothing has changed")
        return names

    # --- every request --------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. No exception leaves this method."""
        await (self._outer if scope["type"] == "http" else self._router)(scope, receive, send)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(send)
        scope["app"], scope["exchange"] = self, exchange  # Starlette raises its own errors in an app
        try:
            self._require_key(scope)
            await self._router(scope, receive, exchange.send)
        except ClientDisconnect:
            exchange.status = 499  # as nginx counts them
        except Exception as error:
            refusal = self._refusal(error, exchange.id)
            if not exchange.status:
                await self._refuse(refusal, exchange, receive)
        path = scope["path"] if scope["path"] in self._paths else scope.get("path_template", "other")
        seconds = time.perf_counter() - exchange.started
        self.metrics.requests.labels(path, exchange.status).inc()
        self.metrics.seconds.labels(path).observe(seconds)
        if self.options.log_requests or self.options.log_texts:
            line = {"id": exchange.id, "method": scope["method"], "route": path, "status": exchange.status}
            LOG.info(json.dumps(line | {"ms": round(1000 * seconds, 1)} | exchange.told))

    def _require_key(self, scope: Scope) -> None:
        """Raise RequestError for a request without the key, if the server has one and the route needs it."""
        if self.options.api_key is None or (scope["method"] in ("GET", "HEAD") and scope["path"] in _OPEN):
            return
        given = Headers(scope=scope).get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.options.api_key}".encode()):
            raise RequestError(
                401,
                "the key is not valid" if given else "a key is required",
                kind="Unauthorized",
                hint="Send the header: Authorization: Bearer KEY",
                headers={"www-authenticate": "Bearer"},
                close=True,  # its body has not been read
            )

    def _refusal(self, error: Exception, request_id: str) -> RequestError:
        """Return the answer to an exception; a bug, or a failure of the model, is logged."""
        if isinstance(error, RequestError):
            return error
        if isinstance(error, OverloadError):
            headers = {"retry-after": str(error.retry_after)}
            hint = f"Send it again after {error.retry_after} s."
            return RequestError(429, "too many texts are waiting", kind="Overloaded", hint=hint, headers=headers)
        if isinstance(error, HTTPException):
            allowed = (error.headers or {}).get("Allow", "")
            message = f"this route takes {allowed}" if allowed else "no such route"
            return RequestError(error.status_code, message, hint="See /docs", headers=dict(error.headers or {}))
        cause = error.__cause__ if isinstance(error, ScoringError) else error
        assert cause is not None
        # the message of an exception may contain a text
        told = f": {cause}" if self.options.log_texts or isinstance(cause, EmotuneError) else ""
        trace = "".join(traceback.format_tb(cause.__traceback__))
        LOG.error("request %s failed: %s%s\n%s", request_id, type(cause).__name__, told, trace)
        what = "the model failed on the batch of this text" if isinstance(error, ScoringError) else "internal error"
        hint = f"The log of the server has the reason, under {request_id}."
        return RequestError(500, what, kind="Backend", hint=hint)

    async def _refuse(self, error: RequestError, exchange: "_Exchange", receive: Receive) -> None:
        answer = ErrorAnswer(
            error=error.message,
            error_type=error.kind,  # type: ignore[arg-type]
            hint=error.hint,
            request_id=exchange.id,
        )
        headers = error.headers | ({"connection": "close"} if error.close else {})
        response = JsonResponse(answer, error.status, headers)
        await exchange.send({"type": "http.response.start", "status": error.status, "headers": response.raw_headers})
        await exchange.send({"type": "http.response.body", "body": response.body, "more_body": error.close})
        if error.close:
            await _discard(receive)
            await exchange.send({"type": "http.response.body", "body": b""})

    async def _body(self, request: Request) -> dict[str, Any]:
        """Return the JSON object of the body; raises RequestError, ClientDisconnect."""
        limit = self.options.max_body
        too_large = RequestError(413, f"the body has more than {limit:,} bytes", hint="Send fewer texts.", close=True)
        if request.headers.get("content-encoding", "identity") != "identity":
            raise RequestError(415, "the body is compressed", hint="Send it as it is.", close=True)
        if int(request.headers.get("content-length", "0")) > limit:
            raise too_large
        body = bytearray()
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > limit:
                raise too_large
            if not message.get("more_body", False):
                return parsed_body(bytes(body))

    async def _within_time(self, request: Request, answer: Callable[[dict[str, Any]], Awaitable[Response]]) -> Response:
        """Return the answer to the body of a request; stop when the time is up, or when the client leaves."""
        body = None
        try:
            async with asyncio.timeout(self.options.timeout):
                body = await self._body(request)
                return await _while_connected(request, answer(body))
        except TimeoutError:
            if body is None:
                message = f"the body did not arrive within {self.options.timeout:g} s"
                raise RequestError(408, message, close=True) from None
            message, hint = f"no answer within {self.options.timeout:g} s", "Send fewer texts, or send them later."
            raise RequestError(503, message, kind="Overloaded", hint=hint, headers={"retry-after": "1"}) from None

    def _require_texts(self, texts: Sequence[str], key: str) -> None:
        """Raise RequestError for too many texts, a text that is too long, and one with a NUL character."""
        limits = self.options
        if len(texts) > limits.max_texts:
            hint = f"Send at most {limits.max_texts:,} at a time."
            raise RequestError(413, f"{key} has {len(texts):,} texts", hint=hint)
        for i, text in enumerate(texts):
            where = f"{key}[{i}]"
            if len(text) > limits.max_characters:
                message = f"{where} has {len(text):,} characters; allowed are {limits.max_characters:,}"
                raise RequestError(413, message)
            if "\0" in text:
                raise RequestError(422, f"{where} contains a NUL character (U+0000)", hint="Remove it.")

    # --- routes ---------------------------------------------------------------------------------------------------

    async def _predict(self, request: Request) -> Response:
        return await self._within_time(request, lambda body: self._predicted(request, body))

    async def _predicted(self, request: Request, body: dict[str, Any]) -> Response:
        if "inputs" in body:
            return await self._text_embeddings(request, body)
        form = parsed(PredictRequest, body)
        texts = form.all_texts
        self._require_texts(texts, "texts" if form.text is None else "text")
        with self.models.find(form.model).used() as model:
            rule = model.rule(form.level, form.threshold)
            if form.explain:
                found = await self._explained(model, texts, form.top_k)
            else:
                found = [each.to_json(form.top_k) for each in await model.predict(texts, rule)]
            self._tell(request, model, texts, [each["labels"] for each in found])
            known = rule.mapping is None and rule.labels.task is Task.MULTI_LABEL
            thresholds = dict(zip(rule.labels.names, rule.decision.thresholds, strict=True)) if known else None
            answer = {"model": model.name, "level": form.level, "thresholds": thresholds, "predictions": found}
            return JsonResponse(answer)

    async def _text_embeddings(self, request: Request, body: dict[str, Any]) -> Response:
        if "parameters" in body:
            hint = "The form of Hugging Face is answered by POST /models/NAME, and by POST /."
            raise RequestError(422, "unknown key 'parameters' beside 'inputs'", hint=hint)
        form = parsed(TextEmbeddingsRequest, body)
        function = "none" if form.raw_scores else None
        found = await self._label_scores(request, None, inputs_of(form.inputs), function, None)
        return JsonResponse(found[0] if isinstance(form.inputs, str) else found)

    async def _explained(self, model: ServedModel, texts: Sequence[str], top_k: int | None) -> list[dict[str, Any]]:
        if len(texts) > MOST_EXPLAINED:
            hint = f"Explain at most {MOST_EXPLAINED} at a time."
            raise RequestError(413, f"texts has {len(texts):,} texts, which are to be explained", hint=hint)
        found = []
        for explanation in await model.explain(texts):
            ranked = sorted(explanation.scores, key=lambda name: -explanation.scores[name])[:top_k]
            kept = [name for name in explanation.scores if name in ranked] if top_k is None else ranked
            content = explanation.to_json(kept)
            found.append(content | {"scores": {name: explanation.scores[name] for name in kept}})
        return found

    async def _hugging_face(self, request: Request) -> Response:
        request.scope["path_template"] = "/models/{name}"
        return await self._within_time(request, lambda body: self._classified(request, body))

    async def _classified(self, request: Request, body: dict[str, Any]) -> Response:
        form = parsed(HuggingFaceRequest, body)
        function = form.parameters.function_to_apply if form.parameters else None
        top_k = form.parameters.top_k if form.parameters else None
        name = request.path_params.get("name")
        return JsonResponse(await self._label_scores(request, name, inputs_of(form.inputs), function, top_k))

    async def _label_scores(
        self, request: Request, name: str | None, texts: Sequence[str], function: str | None, top_k: int | None
    ) -> list[list[dict[str, Any]]]:
        """Return the labels and scores of each text: see `ServedModel.classify`."""
        self._require_texts(texts, "inputs")
        with self.models.find(name).used() as model:
            found = await model.classify(texts, function, top_k)
            self._tell(request, model, texts, [each.labels for each in found])
            return [each.scores for each in found]

    def _tell(
        self, request: Request, model: ServedModel, texts: Sequence[str], labels: Sequence[Sequence[str]]
    ) -> None:
        """Add the texts to the log line of a request, or their number."""
        told: dict[str, Any] = {"model": model.name, "texts": len(texts)}
        if self.options.log_texts:
            told["read"] = [{"text": text, "labels": list(each)} for text, each in zip(texts, labels, strict=True)]
        request.scope["exchange"].told = told

    async def _reload(self, _: Request) -> Response:
        if self.options.api_key is None:
            hint = "Start it with --api-key-file, or send the process the signal SIGHUP."
            raise RequestError(403, "a server without a key does not reload on request", kind="Unauthorized", hint=hint)
        try:
            names = await self.reload()
        except EmotuneError as error:
            hint = "The old models are still served."
            raise RequestError(409, str(error), kind="Backend", hint=hint) from None
        self._reload_others()
        return JsonResponse(ReloadAnswer(reloaded=names, models=[model.info() for model in self.models]))

    async def _list_models(self, _: Request) -> Response:
        return JsonResponse(ModelsAnswer(models=[model.info() for model in self.models]))

    async def _healthy(self, _: Request) -> Response:
        return JsonResponse(StatusAnswer(status="ok"))

    async def _show_metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def _root(self, request: Request) -> Response:
        return await self._hugging_face(request) if request.method == "POST" else _html(*self._page)

    async def _show_docs(self, _: Request) -> Response:
        return _html(*self._docs)

    async def _show_api(self, _: Request) -> Response:
        return JsonResponse(self._api)


class _Endpoint:
    """A route, without the exception handlers that Starlette puts around a function: `App` answers all exceptions."""

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive, send))
        await response(scope, receive, send)


class _Exchange:
    """A request and its answer. told: more keys of its line in the log."""

    def __init__(self, send: Send) -> None:
        self.id, self.started, self.status = f"{_PROCESS}{next(_NUMBERS) % (1 << 32):08x}", time.perf_counter(), 0
        self.told: dict[str, Any] = {}
        self._send = send

    async def send(self, message: Message) -> None:
        """Send a message of an answer, with the headers of all answers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {name for name, _ in message["headers"]}
            more = [header for header in _SECURITY if header[0] not in own]
            message["headers"] = [*message["headers"], *more, (b"x-request-id", self.id.encode())]
        await self._send(message)


def _html(content: str, policy: str) -> Response:
    return HTMLResponse(content, headers={"content-security-policy": policy})


async def _while_connected(request: Request, work: Awaitable[Response]) -> Response:
    """Return the result of work; cancel it, and raise ClientDisconnect, when the client leaves."""
    task, left = asyncio.current_task(), None
    assert task is not None

    def watch() -> None:
        nonlocal left
        left = asyncio.ensure_future(request.receive())  # the body is complete: it returns when the client has left
        left.add_done_callback(lambda done: None if done.cancelled() else task.cancel())

    timer = asyncio.get_running_loop().call_later(_WATCH_AFTER, watch)
    try:
        return await work
    except asyncio.CancelledError:
        if left is not None and left.done() and not left.cancelled():
            task.uncancel()
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        if left is not None:
            left.cancel()


async def _discard(receive: Receive) -> None:
    """Read the rest of a body, for a moment: a client that is still sending does not see an answer before it."""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER):
            while size < _LINGER_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
