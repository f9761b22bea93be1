"""The files of a model directory, checked one after the other, the cheap checks first."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from emotune.artifact.safety.json_files import read_object, read_vocabulary
from emotune.artifact.safety.tokenizer import require_sound_tokenizer
from emotune.artifact.safety.weights import Tensor, read_header, require_finite
from emotune.errors import ModelError, Place

CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
VOCABULARY = "vocabulary.json"
WEIGHTS_INDEX = "model.safetensors.index.json"
_SMALL, _MOSTLY = 64 << 20, 10
_MAX_ENTRIES = 10_000
_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors")


def entries(directory: Path, *, below: bool) -> Iterator[Path]:
    """The files and folders of a directory, and with `below` those in its folders; raises ModelError for what is none.

    Links are allowed in the hub's cache alone, which is made of them, and there they lead to its blobs.
    """
    found = 0
    folders = [directory]
    while folders:
        folder = folders.pop()
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            found += 1
            if found > _MAX_ENTRIES:
                raise ModelError(
                    f"more than {_MAX_ENTRIES:,} files: this is no model directory", place=Place(directory)
                )
            path = folder / entry.name
            _require_plain(path, directory)
            if below and entry.is_dir(follow_symlinks=False):
                folders.append(path)
            yield path


def require_plain(directory: Path) -> None:
    """Raise ModelError for what has no place right in a model directory: links, pipes, devices, files full of holes."""
    try:
        for _ in entries(directory, below=False):
            pass
    except OSError as error:
        place = Place(Path(error.filename or directory))
        raise ModelError(f"cannot read it: {error.strerror}", place=place) from error


def _require_plain(path: Path, directory: Path) -> None:
    if path.is_symlink():
        if not in_hub_cache(directory):
            raise ModelError("a link has no place in a model directory; put the file there", place=Place(path))
        if not path.resolve().is_relative_to(directory.resolve().parent.parent / "blobs"):
            raise ModelError("this link leads out of the hub's cache", place=Place(path))
    found = path.stat()
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise ModelError("this is neither a file nor a folder; it has no place in a model directory", place=Place(path))
    blocks = getattr(found, "st_blocks", None)  # of 512 bytes; not known everywhere
    if blocks is not None and found.st_size > _SMALL and blocks * 512 < found.st_size // _MOSTLY:
        message = f"its {found.st_size:,} bytes are mostly holes, which take no room on the disk and for ever to read"
        raise ModelError(message, place=Place(path))


def in_hub_cache(directory: Path) -> bool:
    """Whether a directory is a snapshot in the hub's cache, which is made of links and not ours to change."""
    parent = directory.resolve().parent
    return parent.name == "snapshots" and (parent.parent / "blobs").is_dir()


def require_sound_model(directory: Path) -> dict[str, Any]:
    """The configuration of an encoder classifier whose files are sound; raises ModelError for one that is not.

    Nothing but JSON and numbers is read, so this is safe before any library is given the directory.
    """
    for name in _ADAPTERS:
        if (directory / name).exists():
            message = "this is an adapter to another model, not a whole model; merge the two first"
            raise ModelError(message, place=Place(directory / name))
    config = read_object(directory / CONFIG)
    refuse_code(config, directory / CONFIG)
    if (directory / TOKENIZER_CONFIG).exists():
        refuse_code(read_object(directory / TOKENIZER_CONFIG), directory / TOKENIZER_CONFIG)
    files = {path: read_header(path) for path in weight_files(directory)}
    tensors: dict[str, Tensor] = {}
    for found in files.values():
        tensors |= found
    require_fitting_sizes(config, tensors, directory / CONFIG)
    if (directory / TOKENIZER).exists():
        require_sound_tokenizer(directory / TOKENIZER)
    for path, found in files.items():
        require_finite(path, found)
    return config


def require_sound_parts(directory: Path) -> None:
    """Raise ModelError unless all JSON and all weights of a model directory, and of folders in it, are sound.

    That is what can be said of every kind of model; whether they fit each other is for the kind to say. A folder that
    transformers is given, with a configuration, is checked as a model of its own.
    """
    models = set()
    for path in entries(directory, below=True):
        if path.is_dir() and (path / CONFIG).exists():
            require_sound_model(path)
            models.add(path)
        elif path.parent in models:
            continue
        elif path.suffix == ".safetensors" and path.is_file():
            require_finite(path, read_header(path))
        elif path.name == TOKENIZER:
            require_sound_tokenizer(path)
        elif path.name == VOCABULARY:
            read_vocabulary(path)
        elif path.suffix == ".json":
            content = read_object(path)
            if path.name in (CONFIG, TOKENIZER_CONFIG):
                refuse_code(content, path)


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files that hold a model's weights: one, or those that its index names."""
    index = directory / WEIGHTS_INDEX
    shards = shard_names(index) if index.exists() else []
    names = [WEIGHTS] if (directory / WEIGHTS).exists() else shards
    if not names:
        raise ModelError(
            f"there is no {WEIGHTS}; weights in pickle files are never read",
            place=Place(directory),
            hint="Convert them: load the model in transformers and save_pretrained it, on a machine that trusts it.",
        )
    for name in names:
        if not (directory / name).is_file():
            raise ModelError("there is no such file", place=Place(directory / name))
    return [directory / name for name in names]


def shard_names(index: Path) -> list[str]:
    """The files that an index of sharded weights names; raises ModelError for one that leads elsewhere."""
    mapped = read_object(index).get("weight_map")
    names = sorted(set(map(str, mapped.values()))) if isinstance(mapped, dict) else []
    if not names:
        raise ModelError("it names no files of weights (weight_map)", place=Place(index))
    for name in names:
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            message = f"it names {name[:80]!r}; files of weights end in .safetensors and lie beside their index"
            raise ModelError(message, place=Place(index))
    return names


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
