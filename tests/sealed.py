"""A sealed model directory with dummy files, for tests that do not read them."""

import json
from pathlib import Path
from typing import Any

import pytest

from emotune.artifact.manifest import DECISION, seal, verify
from emotune.atomic import write_file
from emotune.decision import Decision
from emotune.errors import ModelError
from emotune.labels import LabelSet

DESCRIBED: dict[str, Any] = {
    "kind": "encoder",
    "portability": "transformers",
    "encoder": "owner/encoder",
    "max_tokens": 64,
    "versions": {"emotune": "0.1.0"},
    "data": {"train": {"sha256": "ab", "rows": 10}},
}
FILES = {
    "config.json": '{"model_type": "bert"}',
    "model.safetensors": "weights",
    "tokenizer.json": "{}",
    "tokenizer_config.json": "{}",
    "README.md": "# card",
    DECISION: json.dumps(Decision.default(LabelSet(("joy", "fear"))).to_json()),
    "sub/extra.json": "{}",
}


def sealed(directory: Path, files: dict[str, str], **described: Any) -> Path:
    for name, content in files.items():
        write_file(directory / name, content)
    seal(directory, **(DESCRIBED | described))
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    """All files below a directory."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def refusal(model: Path, place: str) -> str:
    """The error of verifying a model directory, which names the file `place`."""
    with pytest.raises(ModelError) as caught:
        verify(model)
    assert caught.value.exit_code == 65
    assert str(caught.value.place) == str(model / place)
    return caught.value.message


def failing_with(error: BaseException) -> Any:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail
