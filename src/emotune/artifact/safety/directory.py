"""Checks of a model directory: its files, its configuration, and whether the two fit; cheap checks first.

A model may come from anybody, so these checks run before any library opens its files. Each bounds what it reads, and
raises a ModelError that names the fault and its place.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from emotune.artifact.safety.files import (
    Tensor,
    items,
    read_header,
    read_json,
    read_vocabulary,
    readable,
    require_finite,
)
from emotune.artifact.safety.tokenizer import require_safe_tokenizer
from emotune.errors import ModelError, Place

CONFIG, WEIGHTS = "config.json", "model.safetensors"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
VOCABULARY = "vocabulary.json"
GRAPH = "model.onnx"
WEIGHTS_INDEX = "model.safetensors.index.json"
_MIN_SPARSE, _SPARSE_RATIO = 64 << 20, 10
_MAX_ENTRIES = 10_000
_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors")
_CLASSIFIER = "ForSequenceClassification"
MAX_LABELS = 10_000
_MAX_POSITIONS = 1 << 20
_MAX_INTEGER = 1 << 31
# keys of a configuration that make transformers do more than describe a model
_REFUSED = {
    "auto_map": "this model needs its own code (auto_map), which emotune never runs",
    "custom_pipelines": "this model needs its own code (custom_pipelines), which emotune never runs",
    "transformers_weights": "it names another file of weights (transformers_weights)",
    "configuration_files": "it names other configurations to read instead (configuration_files)",
    "fast_tokenizer_files": "it names other tokenizers to read (fast_tokenizer_files)",
    "quantization_config": "its weights are quantised (quantization_config), which emotune does not support",
}
_ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")
_LAYERS = ("_layers", "n_layer")
_SIZES = ("_size", "_dim", "_heads", "d_model", "d_inner", "d_ff", "n_embd", "n_inner", "n_head", "dim")
_DIVISORS = ("_heads", "n_head", "hidden_size")
_BY_LABEL = ("id2label", "label2id")  # mappings whose keys are ids or labels
_POSITIONS = ("max_position_embeddings", "n_positions")


def entries(directory: Path, *, below: bool) -> Iterator[Path]:
    """Yield the files and folders of a directory, with `below` recursively; raises ModelError for anything else.

    Links are allowed only in the hub's cache, where they must lead to its blobs.
    """
    found = 0
    folders = [directory]
    with readable(directory):
        while folders:
            folder = folders.pop()
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                found += 1
                if found > _MAX_ENTRIES:
                    message = f"more than {_MAX_ENTRIES:,} files: this is not a model directory"
                    raise ModelError(message, place=Place(directory))
                path = folder / entry.name
                _require_regular(path, directory)
                if below and entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                yield path


def _require_regular(path: Path, directory: Path) -> None:
    if path.is_symlink():
        snapshot = _snapshot_of(directory)
        if snapshot is None:
            raise ModelError("a link is not allowed in a model directory; copy the file there", place=Place(path))
        if not path.resolve().is_relative_to(snapshot.parent.parent / "blobs"):
            raise ModelError("this link leads out of the hub's cache", place=Place(path))
    found = path.stat()
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise ModelError("neither a file nor a folder; it is not allowed in a model directory", place=Place(path))
    # a tar archive of 10 kB can unpack to a sparse file of 8 TB, which takes hours to hash
    blocks = getattr(found, "st_blocks", None)  # of 512 bytes; not on every system
    if blocks is not None and found.st_size > _MIN_SPARSE and blocks * 512 < found.st_size // _SPARSE_RATIO:
        message = f"a sparse file: of its {found.st_size:,} bytes only {blocks * 512:,} are on the disk"
        raise ModelError(message, place=Place(path))


def in_hub_cache(directory: Path) -> bool:
    """Whether a directory is in the hub's cache, which consists of links and must not be changed."""
    return _snapshot_of(directory) is not None


def _snapshot_of(directory: Path) -> Path | None:
    """Return the snapshot in the hub's cache that a directory is, or is right in; None for any other directory."""
    found = directory.resolve()
    for folder in (found, found.parent):
        if folder.parent.name == "snapshots" and (folder.parent.parent / "blobs").is_dir():
            return folder
    return None


def require_safe_model(directory: Path) -> dict[str, Any]:
    """Check the files of an encoder classifier and return its configuration; raises ModelError for an invalid one.

    Only JSON and numbers are read, so the check is safe before any library opens the directory.
    """
    for name in _ADAPTERS:
        if (directory / name).exists():
            message = "this is an adapter for another model, not a complete model; merge the two first"
            raise ModelError(message, place=Place(directory / name))
    config = read_json(directory / CONFIG)
    refuse_code(config, directory / CONFIG)
    if (directory / TOKENIZER_CONFIG).exists():
        refuse_code(read_json(directory / TOKENIZER_CONFIG), directory / TOKENIZER_CONFIG)
    files = {path: read_header(path) for path in weight_files(directory)}
    tensors = {name: tensor for found in files.values() for name, tensor in found.items()}
    require_fitting_sizes(config, tensors, directory / CONFIG)
    if (directory / TOKENIZER).exists():
        require_safe_tokenizer(directory / TOKENIZER)
    for path, found in files.items():
        require_finite(path, found)
    return config


def require_safe_parts(directory: Path) -> None:
    """Raise ModelError unless all JSON files and weights of a model directory, recursively, are valid.

    These checks suit every kind of model; the kind checks whether files fit each other. A folder with a configuration,
    which transformers will open, is checked as a model of its own.
    """
    models = set()
    for path in entries(directory, below=True):
        if path.is_dir() and (path / CONFIG).exists():
            require_safe_model(path)
            models.add(path)
        elif path.parent in models:
            continue
        elif path.suffix == ".safetensors" and path.is_file():
            require_finite(path, read_header(path))
        elif path.name == TOKENIZER:
            require_safe_tokenizer(path)
        elif path.name == VOCABULARY:
            read_vocabulary(path)
        elif path.suffix == ".json":
            content = read_json(path)
            if path.name in (CONFIG, TOKENIZER_CONFIG):
                refuse_code(content, path)


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files of a model's weights: one, or those in its index; raises ModelError for none."""
    index = directory / WEIGHTS_INDEX
    shards = shard_names(index) if index.exists() else []
    names = [WEIGHTS] if (directory / WEIGHTS).exists() else shards
    if not names:
        message = f"there is no {WEIGHTS}; weights in pickle files are never read"
        hint = "Convert them: load the model in transformers and save_pretrained it, on a machine that trusts it."
        raise ModelError(message, place=Place(directory), hint=hint)
    for name in names:
        if not (directory / name).is_file():
            raise ModelError("there is no such file", place=Place(directory / name))
    return [directory / name for name in names]


def shard_names(index: Path) -> list[str]:
    """Return the files in an index of sharded weights; raises ModelError for a path out of the directory."""
    mapped = read_json(index).get("weight_map")
    names = sorted(set(map(str, mapped.values()))) if isinstance(mapped, dict) else []
    if not names:
        raise ModelError("it lists no files of weights (weight_map)", place=Place(index))
    for name in names:
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            message = f"it lists {name[:80]!r}; weights are .safetensors files beside their index"
            raise ModelError(message, place=Place(index))
    return names


def refuse_code(content: Any, path: Path) -> None:
    """Raise ModelError for a configuration that asks, at any depth, for code, other files or kernels."""
    for key, value in items(content, skip=_BY_LABEL):
        if key in _REFUSED and value:
            raise ModelError(_REFUSED[key], place=Place(path))
        names = value.values() if isinstance(value, dict) else [value]
        if key in _ATTENTION and any("/" in str(name) for name in names):
            message = f"it names code on the hub to be run ({key}: {str(value)[:60]!r}), which emotune never runs"
            raise ModelError(message, place=Place(path))


def require_classifier(content: Mapping[str, Any], path: Path) -> None:
    """Raise ModelError for the configuration of a model that is not a text classifier."""
    architectures = content.get("architectures")
    if isinstance(architectures, list) and not any(str(name).endswith(_CLASSIFIER) for name in architectures):
        message = f"this is a {', '.join(map(str, architectures))[:80]}, not a text classifier (…{_CLASSIFIER})"
        hint = "Train one from it: emotune train RECIPE --set model.encoder=DIR_OR_ID"
        raise ModelError(message, place=Place(path), hint=hint)


def require_fitting_sizes(content: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise ModelError for sizes that do not fit the weights, before memory is allocated for them.

    No size may exceed the largest dimension of a tensor, and the number of layers may not exceed that of tensors.
    """
    largest = max((dimension for tensor in tensors.values() for dimension in tensor.shape), default=0)
    for key, value in items(dict(content), skip=_BY_LABEL):
        most = None  # for a key that is not a size
        if key in _POSITIONS:
            most = _MAX_POSITIONS
        elif key.endswith(_LAYERS):
            most = len(tensors)
        elif key.endswith(_SIZES):
            most = largest
        fewest = 1 if key.endswith(_DIVISORS) else 0  # such as DeBERTa's type_vocab_size
        if isinstance(value, bool | list | dict | None):
            continue
        if most is None:
            if isinstance(value, int) and abs(value) >= _MAX_INTEGER:
                raise ModelError(f"{key[:60]} is {str(value)[:40]}, which is too large", place=Place(path))
        elif not isinstance(value, int) or not fewest <= value <= most:
            message = f"{key[:60]} is {str(value)[:40]}; for these weights it is an integer up to {most:,}"
            raise ModelError(message, place=Place(path))


def label_names(content: Mapping[str, Any], path: Path) -> tuple[str, ...] | None:
    """Return the names in `id2label` in the order of ids; None without it. Raises ModelError for an invalid one."""
    found = content.get("id2label")
    if found is None:
        return None
    if not isinstance(found, dict) or not 0 < len(found) <= MAX_LABELS:
        number = f"{len(found):,}" if isinstance(found, dict) else "no"
        raise ModelError(f"id2label names {number} labels; allowed are 1 to {MAX_LABELS:,}", place=Place(path))
    names = [found.get(str(i)) for i in range(len(found))]
    if not all(isinstance(name, str) for name in names):
        raise ModelError(f"id2label does not name each id from 0 to {len(found) - 1}", place=Place(path))
    return tuple(map(str, names))
