"""The offline page: one HTML file that has a model, ONNX Runtime for browsers, and the page of the server.

The page's policy forbids every connection, so no text can leave the browser. `engine.js` is the model's side of it.
"""

import base64
import gzip
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emotune import __version__
from emotune.artifact.opening import ENSEMBLE, ONNX, FoundModel
from emotune.artifact.safety.directory import GRAPH, TOKENIZER
from emotune.atomic import require_writable, write_file
from emotune.config.kinds import find_kind
from emotune.data import emoji, language
from emotune.errors import OutputError, Place, UsageError
from emotune.labels import levels, mapping_to
from emotune.serving import runtime, wordpiece
from emotune.serving.page import policy_sources
from emotune.serving.schema import ModelInfo, model_name

_FOLDER = Path(__file__).parent
_GENERATOR = f'<meta name="generator" content="emotune page {__version__}">'
_MADE_BY_US = re.compile(rb'<meta name="generator" content="emotune page [^"]*">')
_HEAD = 1 << 14  # bytes in which an earlier page has its generator
_LARGEST = 300 << 20  # bytes of a graph: a larger one would be a longer text than browsers can hold
_MAX_WINDOWS = 64  # of a long text, as by default elsewhere
_ENGINE = re.compile(r'<script id="engine">.*?</script>', re.DOTALL)


@dataclass(frozen=True)
class PageOutcome:
    """A page: its place, its bytes, the name and the digest of its model, and its runtime."""

    page: Path
    bytes: int
    model: str
    digest: str | None
    runtime: str = f"{runtime.PACKAGE} {runtime.VERSION}"

    def to_json(self) -> dict[str, Any]:
        """Return what `emotune page --json` prints."""
        return asdict(self) | {"page": str(self.page)}


def needs_export(found: FoundModel) -> bool:
    """Whether a model must be exported for a page.

    Raises UsageError for a kind that no page can have, ModelError for such a tokenizer.
    """
    hint = f"Serve it: emotune serve {found.name}"
    if found.kind == ENSEMBLE:
        raise UsageError(f"a page has one network; this is an ensemble of {len(found.members)} models", hint=hint)
    if found.kind != ONNX and "torch" not in find_kind(found.kind).needs:
        raise UsageError(f"a page has a network, not a model of kind {found.kind}", hint=hint)
    if (found.directory / TOKENIZER).is_file():
        wordpiece.require_supported(found.directory / TOKENIZER)
    return found.kind != ONNX


def require_place(out: Path, *, overwrite: bool) -> None:
    """Raise OutputError for a place that cannot be written, or has anything but an earlier page to overwrite."""
    hint = "Choose another place: --out FILE"
    require_writable(out.parent, hint)
    if out.is_symlink() or (out.exists() and not out.is_file()):
        raise OutputError("already exists", place=Place(out), hint=hint)
    if out.exists():
        with out.open("rb") as file:
            ours = _MADE_BY_US.search(file.read(_HEAD))
        if ours is None:
            raise OutputError("this file is not an earlier page", place=Place(out), hint=hint)
        if not overwrite:
            raise OutputError("already exists", place=Place(out), hint="Replace this page with --overwrite.")


def write_page(found: FoundModel, model: str, out: Path, files: runtime.Runtime) -> PageOutcome:
    """Write the page of an exported model, found by the argument `model`; return its outcome.

    Raises ModelError for a tokenizer that no page can have, UsageError for a model that is too large, OutputError.
    """
    graph = found.directory / GRAPH
    if graph.stat().st_size > _LARGEST:
        message = f"a page can have a network of {_LARGEST >> 20} MiB; this one has {graph.stat().st_size >> 20} MiB"
        raise UsageError(message, hint=f"Serve it: emotune serve {model}")
    name = model_name(model) or "model"
    parts = {"runtime": files.script, "wasm": files.wasm, "graph": graph.read_bytes()}
    settings = _settings(found, name) | {"bytes": sum(map(len, parts.values()))}
    parts["settings"] = json.dumps(settings, ensure_ascii=False, separators=(",", ":")).encode()
    content = _html(parts).encode()
    write_file(out, content)
    return PageOutcome(out, len(content), name, None if found.manifest is None else found.manifest.digest)


def _settings(found: FoundModel, name: str) -> dict[str, Any]:
    """Return what `engine.js` has to know of a model."""
    manifest, decision = found.manifest, found.decision
    assert manifest is not None, "it is an export"
    assert manifest.max_tokens is not None, "the manifest was checked"
    info = ModelInfo.of(name, decision, manifest, found.language)
    return {
        "info": info.model_dump(),
        "max_windows": _MAX_WINDOWS,
        "decision": {
            "labels": decision.labels.names,
            "task": str(decision.labels.task),
            "thresholds": decision.thresholds,
            "fallback": str(decision.fallback),
            "neutral_excludes": decision.neutral_excludes,
        },
        "levels": {level: mapping_to(level, decision.labels).members for level in levels(decision.labels)},
        "tokenizer": wordpiece.tables(found.directory / TOKENIZER, manifest.max_tokens),
        "language": _english() if found.language == "en" else None,
        "emoticons": emoji.emoticons(),
    }


def _english() -> dict[str, Any]:
    """Return what tells whether a text is English: words, and runs of Latin letters beyond ASCII."""
    english, shared, foreign = map(sorted, language.known_words())
    letters = map(chr, range(0x80, 0x20000))  # beyond are Chinese characters, and none that are letters of others
    latin = wordpiece.runs((c, "") for c in letters if c.isalpha() and language.is_latin(c))
    return {"english": english, "shared": shared, "foreign": foreign, "latin": latin}


def _html(parts: dict[str, bytes]) -> str:
    """Return the page of the server with the engine of this model, and a policy that forbids connections."""
    engine = f'<script id="engine">\n{_text("offline.js")}</script>'
    page = _ENGINE.sub(lambda _: engine, _text("page.html"), count=1)
    scripts, styles = policy_sources(page)
    policy = (
        f"default-src 'none'; script-src {scripts} blob: 'wasm-unsafe-eval'; worker-src blob:; style-src {styles}; "
        "img-src data:; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types emotune"
    )
    head = f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">\n{_GENERATOR}'
    blocks = [_block(f"packed-{name}", _packed(part)) for name, part in parts.items()]
    blocks.append(_block("engine-source", _text("engine.js")))
    page = page.replace('<meta charset="utf-8">', head, 1).replace("<html", f"<!--\n{runtime.NOTICE}\n-->\n<html", 1)
    return page.replace(engine, "\n".join([*blocks, engine]), 1)


def _block(name: str, content: str) -> str:
    """Return an element of data, which no browser runs or shows."""
    return f'<script type="text/plain" id="{name}">{content}</script>'


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()
