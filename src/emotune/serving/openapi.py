"""The OpenAPI document of the server, and the page that shows it."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from emotune import __version__
from emotune.reports.writer import policy_source
from emotune.serving.schema import (
    ErrorAnswer,
    HuggingFaceRequest,
    LabelScore,
    ModelsAnswer,
    PredictAnswer,
    PredictRequest,
    ReloadAnswer,
    StatusAnswer,
    TextEmbeddingsRequest,
)

_FORMS: tuple[type[BaseModel], ...] = (PredictRequest, HuggingFaceRequest, TextEmbeddingsRequest)
_ANSWERS: tuple[type[BaseModel], ...] = (
    PredictAnswer,
    LabelScore,
    ModelsAnswer,
    ReloadAnswer,
    StatusAnswer,
    ErrorAnswer,
)
_TEXT = "I can't believe I got the job!!"
_LABEL_SCORES = {"type": "array", "items": {"$ref": "#/components/schemas/LabelScore"}}
_LISTS_OF_SCORES = {"type": "array", "items": _LABEL_SCORES}
_REFUSALS = {
    "400": "The body is not JSON.",
    "404": "No such model.",
    "408": "The body did not arrive in time.",
    "413": "Too many texts, too long a text, or too large a body.",
    "415": "The body is compressed.",
    "422": "A key, a value or a text is not valid.",
    "429": "Too many texts are waiting; Retry-After has the seconds.",
    "500": "The model failed.",
    "503": "No answer in time.",
}
_OPEN = (("get", "/"), ("get", "/health"), ("get", "/ready"))  # they need no key
_UNAUTHORIZED = {"401": "The key is missing, or not valid."}


def document(max_texts: int, max_characters: int, *, key: bool) -> dict[str, Any]:
    """Return the document. key: whether the server has an API key."""
    modes = [(form, "validation") for form in _FORMS] + [(answer, "serialization") for answer in _ANSWERS]
    _, schemas = models_json_schema(modes, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    limits = f"At most {max_texts:,} texts of {max_characters:,} characters."
    hugging_face = _route(
        "Predict, in the form of Hugging Face's inference servers.",
        f"The answer has a list of labels and scores for each text, the highest first. {limits}",
        body=({"$ref": "#/components/schemas/HuggingFaceRequest"}, {"inputs": _TEXT, "parameters": {"top_k": 3}}),
        answer=_LISTS_OF_SCORES,
    )
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    either = {
        "anyOf": [
            {"$ref": "#/components/schemas/PredictRequest"},
            {"$ref": "#/components/schemas/TextEmbeddingsRequest"},
        ]
    }
    found = {
        "/predict": {
            "post": _route(
                "Predict the emotions of texts.",
                "With `text` or `texts`: the labels, scores and thresholds, as in `emotune predict --json`. With "
                "`inputs`: the form of text-embeddings-inference; one text gets a list of labels and scores, a list "
                f"of texts a list for each. {limits}",
                body=(either, {"texts": [_TEXT], "top_k": 3}),
                answer={"anyOf": [{"$ref": "#/components/schemas/PredictAnswer"}, _LABEL_SCORES, _LISTS_OF_SCORES]},
            )
        },
        "/": {
            "get": _route("A page to try the models.", answer=None, media_type="text/html"),
            "post": {**hugging_face, "operationId": "classify"},
        },
        "/models/{name}": {"post": {**hugging_face, "operationId": "classify_by_name", "parameters": [name]}},
        "/models": {"get": _route("List the models with their labels and thresholds.", answer="ModelsAnswer")},
        "/models/reload": {
            "post": _route(
                "Reload the models that have changed.",
                "For servers with a key. Requests that have begun are answered by the old models.",
                answer="ReloadAnswer",
                refusals={"403": "The server has no key.", "409": "A model cannot be loaded; the old ones stay."},
            )
        },
        "/health": {"get": _route("Whether the process lives.", answer="StatusAnswer")},
        "/ready": {"get": _route("Whether the models are loaded.", answer="StatusAnswer")},
        "/metrics": {"get": _route("The metrics for Prometheus.", answer=None)},
    }
    content: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "emotune", "version": __version__, "description": "Emotions of texts."},
        "paths": found,
        "components": {"schemas": schemas["$defs"]},
    }
    if key:
        content["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, methods in found.items():
            for method, operation in methods.items():
                if (method, path) not in _OPEN:
                    operation["security"] = [{"key": []}]
                    operation["responses"] |= _error_answers(_UNAUTHORIZED)
    return content


def _route(
    summary: str,
    description: str = "",
    *,
    answer: str | dict[str, Any] | None,
    body: tuple[dict[str, Any], dict[str, Any]] | None = None,
    refusals: dict[str, str] | None = None,
    media_type: str = "text/plain",
) -> dict[str, Any]:
    """Return an operation.

    answer: a schema, the name of one, or None for a text of the media type. body: schema and example.
    """
    schema = {"$ref": f"#/components/schemas/{answer}"} if isinstance(answer, str) else answer
    content = (
        {media_type: {"schema": {"type": "string"}}} if schema is None else {"application/json": {"schema": schema}}
    )
    found: dict[str, Any] = {
        "summary": summary,
        "description": description,
        "responses": {
            "200": {"description": "The answer.", "content": content},
            **_error_answers(refusals or ({} if body is None else _REFUSALS)),
        },
    }
    if body is not None:
        shown = {"application/json": {"schema": body[0], "example": body[1]}}
        found["requestBody"] = {"required": True, "content": shown}
    return found


def _error_answers(reasons: dict[str, str]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
    return {status: {"description": reason, "content": content} for status, reason in reasons.items()}


def page(api: dict[str, Any]) -> tuple[str, str]:
    """Return the HTML page of a document, without scripts or external resources, and its security policy."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["json"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    folder = Path(__file__).parent
    style = (folder / "docs.css").read_text(encoding="utf-8")
    template = environment.from_string((folder / "docs.html").read_text(encoding="utf-8"))
    policy = f"default-src 'none'; style-src {policy_source(style)}; frame-ancestors 'none'"
    return template.render(api=api, style=style), policy
