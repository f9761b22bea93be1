"""`config.json` from anybody: no code, nothing fetched or read from elsewhere, and sizes that its weights bear out."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from emotune.artifact.safety.weights import Tensor
from emotune.errors import ModelError, Place

_CLASSIFIER = "ForSequenceClassification"
MAX_LABELS = 10_000
_MAX_POSITIONS = 1 << 20
_MAX_INTEGER = 1 << 31
# what else a configuration can make transformers do than describe a model
_REFUSED = {
    "auto_map": "this model wants code of its own to be run (auto_map), which emotune never does",
    "custom_pipelines": "this model wants code of its own to be run (custom_pipelines), which emotune never does",
    "transformers_weights": "it names a file of weights of its own (transformers_weights)",
    "configuration_files": "it names other configurations to be read in its place (configuration_files)",
    "fast_tokenizer_files": "it names other tokenizers to be read (fast_tokenizer_files)",
    "quantization_config": "its weights are quantised (quantization_config), which emotune does not run",
}
_ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")
_LAYERS = ("_layers", "n_layer")
_SIZES = ("_size", "_dim", "_heads", "d_model", "d_inner", "d_ff", "n_embd", "n_inner", "n_head", "dim")
_DIVISORS = ("_heads", "n_head", "hidden_size")
_BY_LABEL = ("id2label", "label2id")
_POSITIONS = ("max_position_embeddings", "n_positions")


def refuse_code(content: Any, path: Path) -> None:
    """Raise ModelError for a configuration that asks, at whatever depth, for code, other files or kernels."""
    for key, value in _items(content):
        if key in _REFUSED and value:
            raise ModelError(_REFUSED[key], place=Place(path))
        names = value.values() if isinstance(value, dict) else [value]
        if key in _ATTENTION and any("/" in str(name) for name in names):
            message = f"it names code on the hub to be run ({key}: {str(value)[:60]!r}), which emotune never does"
            raise ModelError(message, place=Place(path))


def require_classifier(content: Mapping[str, Any], path: Path) -> None:
    """Raise ModelError for the configuration of a model that says it is something else than a classifier of texts."""
    architectures = content.get("architectures")
    if isinstance(architectures, list) and not any(str(name).endswith(_CLASSIFIER) for name in architectures):
        raise ModelError(
            f"this is a {', '.join(map(str, architectures))[:80]}, not a classifier of texts (…{_CLASSIFIER})",
            place=Place(path),
            hint="Train one from it: emotune train RECIPE --set model.encoder=DIR_OR_ID",
        )


def _items(content: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield key, value
            if key not in _BY_LABEL:  # whose keys are anybody's words
                yield from _items(value)
    elif isinstance(content, list):
        for value in content:
            yield from _items(value)


def require_fitting_sizes(content: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise ModelError for sizes that the weights do not bear out, before memory is taken for them.

    No size is larger than the largest dimension of a tensor, and there are no more layers than tensors.
    """
    largest = max((dimension for tensor in tensors.values() for dimension in tensor.shape), default=0)
    for key, value in _items(dict(content)):
        most = _most(key, len(tensors), largest)
        if isinstance(value, bool | list | dict | None):
            continue
        if most is None:
            if isinstance(value, int) and abs(value) >= _MAX_INTEGER:
                raise ModelError(f"{key[:60]} is {str(value)[:40]}, which is absurd", place=Place(path))
        elif not isinstance(value, int) or not _fewest(key) <= value <= most:
            message = f"{key[:60]} is {str(value)[:40]}; with these weights it is a whole number up to {most:,}"
            raise ModelError(message, place=Place(path))


def _fewest(key: str) -> int:
    """The least that a size may be: some may be 0, as DeBERTa's type_vocab_size is."""
    return 1 if key.endswith(_DIVISORS) else 0


def _most(key: str, num_tensors: int, largest: int) -> int | None:
    """The most that a size may be; None for what is no size."""
    if key in _POSITIONS:
        return _MAX_POSITIONS
    if key.endswith(_LAYERS):
        return num_tensors
    return largest if key.endswith(_SIZES) else None


def label_names(content: Mapping[str, Any], path: Path) -> tuple[str, ...] | None:
    """The labels that `id2label` names, in the order of their ids; None without one.

    Raises ModelError for one that is not sound.
    """
    found = content.get("id2label")
    if found is None:
        return None
    if not isinstance(found, dict) or not 0 < len(found) <= MAX_LABELS:
        number = f"{len(found):,}" if isinstance(found, dict) else "no"
        raise ModelError(f"id2label names {number} labels; allowed are 1 to {MAX_LABELS:,}", place=Place(path))
    names = [found.get(str(i)) for i in range(len(found))]
    if not all(isinstance(name, str) for name in names):
        message = f"id2label does not give a name to each id from 0 to {len(found) - 1}"
        raise ModelError(message, place=Place(path))
    return tuple(map(str, names))
