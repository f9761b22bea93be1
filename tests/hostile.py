"""Harmful or damaged model directories: 70 kinds, each with a part of the expected error.

Each kind changes a valid model directory. Most are sealed again, so that their digests are right. `WAS_RUN` is the file
that appears if code of the model is run.
"""

import json
import os
import pickle
import socket
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotune.artifact.manifest import DECISION, MANIFEST, seal

WAS_RUN = "was_run"
CATASTROPHE = "(a+)+$"


@dataclass(frozen=True)
class Kind:
    """A change of a model directory, a part of the expected error, and whether the directory is sealed again."""

    spoil: Callable[[Path], object]
    refusal: str
    sealed: bool = True


def spoil(kind: Kind, model: Path) -> Path:
    """Change a model in place; return the MODEL argument."""
    manifest = json.loads((model / MANIFEST).read_text())
    named = kind.spoil(model)
    if kind.sealed:
        (model / MANIFEST).unlink()
        described = {key: manifest[key] for key in manifest.keys() - {"format_version", "files", "digest"}}
        seal(model, **described)
    return named if isinstance(named, Path) else model


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def bomb(model: Path) -> bytes:
    """A pickle that leaves a mark when it is read."""
    return pickle.dumps(_Bomb(model.parent / WAS_RUN))


def write(name: str, content: bytes | Callable[[Path], bytes]) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(content if isinstance(content, bytes) else content(model))

    return change


def configure(name: str, **changes: Any) -> Callable[[Path], None]:
    """Override keys of a JSON file; a callable computes the new value from the old."""

    def change(model: Path) -> None:
        content = json.loads((model / name).read_text())
        made = {key: value(content.get(key)) if callable(value) else value for key, value in changes.items()}
        (model / name).write_text(json.dumps(content | made))

    return change


def code(model: Path) -> bytes:
    return f"import os; os.mkdir({str(model.parent / WAS_RUN)!r})".encode()


def both(*changes: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        for each in changes:
            each(model)

    return change


# Weights


def tensors(header: Any, data: bytes = b"\0" * 16, length: int | None = None) -> bytes:
    """A safetensors file with any header and any header length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: Any, start: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def weights(header: Any, refusal: str, **options: Any) -> Kind:
    return Kind(write("model.safetensors", tensors(header, **options)), refusal)


def one_weight(bits: bytes) -> Callable[[Path], None]:
    """The last weight of the model, F32, replaced."""

    def change(model: Path) -> None:
        path = model / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-4] + bits)

    return change


def sparse(name: str, size: int) -> Callable[[Path], None]:
    """A sparse file."""

    def change(model: Path) -> None:
        (model / name).touch()
        os.truncate(model / name, size)

    return change


def index(content: bytes) -> Callable[[Path], None]:
    return write("model.safetensors.index.json", content)


def blanks(megabytes: int) -> Callable[[Path], bytes]:
    return lambda _: b'{"a": "' + b" " * (megabytes << 20) + b'"}'


def many_tensors(_: Path) -> bytes:
    return tensors(b"{" + b",".join(b'"%d":{"shape":[0]}' % i for i in range(500_000)) + b"}")


def nested(depth: int = 99_999) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


WEIGHTS = {
    "a pickle as safetensors": Kind(write("model.safetensors", bomb), "it looks like a pickle"),
    "a zip as safetensors": Kind(write("model.safetensors", b"PK\x03\x04" + b"\0" * 99), "it is a zip archive"),
    "a web page as safetensors": Kind(write("model.safetensors", b"<!DOCTYPE html>" * 9), "a web page"),
    "a Git LFS pointer": Kind(
        write("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"
    ),
    "no weights in the file": Kind(write("model.safetensors", b""), "longer than the file"),
    "a header of 2**63 bytes": weights({}, "longer than the file", length=2**63),
    "a header of 17 MB": Kind(
        write("model.safetensors", lambda _: tensors(b" " * (17 << 20))), "allowed are 16,777,216"
    ),
    "a header that is no JSON": weights(b"{]", "not a valid safetensors file"),
    "a header that is a list": weights([], "not a JSON object"),
    "no tensors": weights({"__metadata__": {}}, "0 tensors"),
    "tensors that overlap": weights({"a": entry([4], 0, 16), "b": entry([2], 8, 16)}, "overlaps another"),
    "a gap between tensors": weights({"a": entry([1], 0, 4), "b": entry([2], 8, 16)}, "leaves a gap"),
    "bytes behind the tensors": weights({"a": entry([2], 0, 8)}, "end at byte"),
    "tensors past the end": weights({"a": entry([8], 0, 32)}, "end at byte"),
    "a shape that lies": weights({"a": entry([1000], 0, 16)}, "does not fit its bytes"),
    "a type that lies": weights({"a": entry([4], 0, 16, "F64")}, "does not fit its bytes"),
    "a type that there is not": weights({"a": entry([4], 0, 16, "PICKLE")}, "has type 'PICKLE'"),
    "a shape beyond all numbers": weights({"a": entry([2**40, 2**40], 0, 16)}, "does not fit its bytes"),
    "a shape below zero": weights({"a": entry([-4], 0, 16)}, "has no dtype, shape and data_offsets"),
    "offsets that are words": weights({"a": entry([4], "0", "16")}, "has no dtype, shape and data_offsets"),
    "a tensor twice": weights(b'{"a": {}, "a": {}}', "the key 'a' occurs twice"),
    "a header that nests": weights(nested(), "not a valid safetensors file"),
    "a million tensors": Kind(write("model.safetensors", many_tensors), "far too large"),
    "weights that are no numbers": Kind(one_weight(b"\0\0\xc0\x7f"), "infinite or NaN"),
    "weights that are infinite": Kind(one_weight(b"\0\0\x80\xff"), "infinite or NaN"),
    "weights of 8 TB": Kind(sparse("model.safetensors", 8 << 40), "a sparse file", sealed=False),
    "an index that leads out": Kind(
        write("model.safetensors.index.json", b'{"weight_map": {"a": "../../secret.safetensors"}}'),
        "beside their index",
    ),
    "an index that leads to the root": Kind(
        write("model.safetensors.index.json", b'{"weight_map": {"a": "/etc/secret.safetensors"}}'), "beside their index"
    ),
    "an index of pickles": Kind(
        write("model.safetensors.index.json", b'{"weight_map": {"a": "weights.bin"}}'), ".safetensors files"
    ),
}


# Configuration and labels


def config(refusal: str, **changes: Any) -> Kind:
    return Kind(configure("config.json", **changes), refusal)


def labelled(*names: str) -> Callable[[Path], None]:
    """Rename the model's labels in config.json and decision.json."""
    return both(
        configure("config.json", id2label={str(i): name for i, name in enumerate(names)}, label2id=None),
        configure(DECISION, thresholds=dict.fromkeys(names, 0.5), tuning={}),
    )


def numbered(number: int) -> Callable[[Path], None]:
    """Write that number of labels to config.json."""

    def content(_: Path) -> bytes:
        return ('{"id2label": {' + ", ".join(f'"{i}": "label {i}"' for i in range(number)) + "}}").encode()

    return write("config.json", content)


def labels(refusal: str, *names: str) -> Kind:
    return Kind(labelled(*names), refusal)


OWN_CODE = {"AutoModelForSequenceClassification": "own.Model", "AutoConfig": "own.Config", "AutoTokenizer": "own.T"}
CONFIGURATION = {
    "code for the model": Kind(both(write("own.py", code), configure("config.json", auto_map=OWN_CODE)), "auto_map"),
    "code for a part of the model": config("auto_map", text_config={"auto_map": OWN_CODE}),
    "code for the tokenizer": Kind(configure("tokenizer_config.json", auto_map=OWN_CODE), "auto_map"),
    "code for a pipeline": config("custom_pipelines", custom_pipelines={"emotions": {"impl": "own.Pipeline"}}),
    "kernels of somebody's": config("names code on the hub", attn_implementation="evil/kernels"),
    "weights of another name": config("transformers_weights", transformers_weights="../../other.safetensors"),
    "another configuration": config("configuration_files", configuration_files=["config.4.0.0.json"]),
    "another tokenizer": Kind(
        configure("tokenizer_config.json", fast_tokenizer_files=["tokenizer.4.0.0.json"]), "fast_tokenizer_files"
    ),
    "quantised weights": config("quantization_config", quantization_config={"quant_method": "own"}),
    "an adapter": Kind(write("adapter_config.json", b'{"base_model_name_or_path": "/"}'), "an adapter"),
    "a width of a billion": config("hidden_size is 1000000000", hidden_size=10**9),
    "a million layers": config("num_hidden_layers is 1000000", num_hidden_layers=10**6),
    "a width below zero": config("hidden_size is -32", hidden_size=-32),
    "a width that is a word": config("hidden_size is wide", hidden_size="wide"),
    "a vocabulary of a billion": config("vocab_size is 1000000000", vocab_size=10**9),
    "positions without end": config("max_position_embeddings is 1000000000", max_position_embeddings=10**9),
    "no attention heads": config("num_attention_heads is 0", num_attention_heads=0),
    "a number of 4,000 digits": Kind(
        write("config.json", b'{"hidden_size": ' + b"9" * 4_000 + b"}"), "hidden_size is 9999999999"
    ),
    "a number that is none": Kind(write("config.json", b'{"layer_norm_eps": NaN}'), "NaN is not a JSON number"),
    "a number that is infinite": Kind(write("config.json", b'{"layer_norm_eps": 1e999}'), "a number is too large"),
    "a configuration that nests": Kind(
        write("config.json", b'{"a":' * 99_999 + b"1" + b"}" * 99_999), "not valid JSON"
    ),
    "a configuration of 9 MB": Kind(write("config.json", blanks(9)), "far too large"),
    "a million values": Kind(write("config.json", lambda _: b"[" + b"[]," * 1_000_000 + b"1]"), "far too large"),
    "a key twice": Kind(write("config.json", b'{"hidden_size": 32, "hidden_size": 8}'), "occurs twice"),
    "a million labels": Kind(numbered(1_000_000), "far too large"),
    "twenty thousand labels": Kind(numbered(20_000), "allowed are 1 to 10,000"),
    "a label twice": Kind(
        configure("config.json", id2label={"0": "joy", "1": "joy", "2": "a", "3": "b"}), "do not name the same labels"
    ),
    "a label without a name": labels("is empty", "", "fear", "joy", "sadness"),
    "a label on two lines": labels("control characters", "anger\nerror: all is lost", "fear", "joy", "sadness"),
    "a label that repaints the terminal": labels("control characters", "\x1b[2Janger", "fear", "joy", "sadness"),
    "a label that speaks to the terminal in one byte": labels("control characters", "\x9b2J", "fear", "joy", "sadness"),
    "a label that turns the line": labels("control characters", "anger\u202eyoj", "fear", "joy", "sadness"),
    "a label with HTML": labels("looks like HTML", "<script>alert(1)</script>", "fear", "joy", "sadness"),
    "a label of a million letters": labels("has 1,000,000 characters", "a" * 1_000_000, "fear", "joy", "sadness"),
}


# Decision, tokenizer


def decision(refusal: str, **changes: Any) -> Kind:
    return Kind(configure(DECISION, **changes), refusal)


def tokenizer(refusal: str, **changes: Any) -> Kind:
    return Kind(configure("tokenizer.json", **changes), refusal)


def growing(_: Any) -> dict[str, Any]:
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    return {"type": "Sequence", "normalizers": [step] * 40}


def splitting(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def added(number: int) -> list[dict[str, Any]]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return [{"id": i, "content": f"token {i}", **flags} for i in range(number)]


REST = {
    "a threshold that is no number": Kind(
        lambda model: (model / DECISION).write_text((model / DECISION).read_text().replace("0.", "NaN, 0.", 1)),
        "not valid JSON",
    ),
    "a threshold above 1": decision("between 0 and 1", thresholds=lambda found: found | {"anger": 7}),
    "thresholds of other labels": decision("do not name the same", thresholds={"a": 0.5, "b": 0.5}),
    "too few thresholds": decision("do not name the same", thresholds=lambda found: {"anger": found["anger"]}),
    "a tuning without figures": decision("has no figures", tuning={"data_sha256": "x", "out_of_fold": "\x1b[2J"}),
    "a decision that is a list": Kind(write(DECISION, b"[]"), "not a JSON object"),
    "no tokenizer": Kind(write("tokenizer.json", b"{}"), "it has no model"),
    "a vocabulary of a million": tokenizer(
        "allowed are 1 to 1,000,000",
        model=lambda found: found | {"vocab": dict.fromkeys(map(str, range(1_000_001)), 0)},
    ),
    "a tokenizer of 41 MB": Kind(write("tokenizer.json", blanks(41)), "far too large"),
    "tokens added by the million": tokenizer("far too large", added_tokens=lambda _: added(450_000)),
    "tokens added by the thousand": tokenizer("30,000 added tokens", added_tokens=lambda _: added(30_000)),
    "a pattern that never ends": tokenizer("repeats what itself repeats", pre_tokenizer=splitting(CATASTROPHE)),
    "a pattern that refers back": tokenizer("refers back", pre_tokenizer=splitting(r"(a*)\1")),
    "a text that explodes": tokenizer("times as long", normalizer=growing),
    "words without end": tokenizer("max_input_chars_per_word", model=lambda f: f | {"max_input_chars_per_word": 10**9}),
    "merges left to chance": tokenizer("drops merges at random", model=lambda found: found | {"dropout": 0.5}),
    "more tokens than positions": Kind(
        configure(MANIFEST, max_tokens=4096, digest=None), "max_tokens is 4,096", sealed=False
    ),
    "padding without an embedding": config("pad_token_id is 99999", pad_token_id=99_999),
    "padding that is a word": config("pad_token_id is [PAD]", pad_token_id="[PAD]"),
    "texts of 10**12 tokens": Kind(configure(MANIFEST, max_tokens=10**12, digest=None), "max_tokens is", sealed=False),
}


# The directory and its manifest


def listed(name: str) -> Callable[[Path], None]:
    def with_another(files: dict[str, Any]) -> dict[str, Any]:
        return files | {name: {"sha256": "0" * 64, "bytes": 1}}

    return configure(MANIFEST, files=with_another, digest=None)


def linked(name: str, target: str) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        (model / name).unlink(missing_ok=True)
        (model / name).symlink_to(target)

    return change


def special(name: str, make: Callable[[str], object]) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        (model / name).unlink(missing_ok=True)
        make(str(model / name))

    return change


def bound_socket(path: str) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(Path(path).parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(Path(path).name)
    finally:
        os.fchdir(here)
        os.close(here)


def in_a_false_cache(model: Path) -> Path:
    """A snapshot like those in the hub's cache, with a link that leads out of it."""
    snapshot = model.parent / "snapshots" / "main"
    (model.parent / "blobs").mkdir()
    snapshot.parent.mkdir()
    (model / "config.json").rename(model.parent / "secret")
    (model / "config.json").symlink_to(model.parent / "secret")
    return model.rename(snapshot)


def packed(model: Path, suffix: str) -> Path:
    path = model.with_suffix(suffix)
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(model / "config.json", "config.json")
    else:
        with tarfile.open(path, "w") as archive:
            archive.add(model / "config.json", "config.json")
    return path


def crowd(model: Path) -> None:
    for i in range(11_000):
        os.mknod(model / f"{i}.txt")


def unsealed(refusal: str, change: Callable[[Path], object]) -> Kind:
    return Kind(change, refusal, sealed=False)


DIRECTORY = {
    "a pickle beside": unsealed("a pickle is not allowed", write("pytorch_model.bin", bomb)),
    "a pickle in the manifest": Kind(write("optimizer.pt", bomb), "a pickle is not allowed"),
    "a file that is not listed": unsealed("is not in the manifest", write("own.py", code)),
    "a file that is missing": unsealed("not in the directory", lambda model: (model / "tokenizer.json").unlink()),
    "a name that leads out": unsealed("not in the directory", listed("../../etc/passwd")),
    "a name from the root": unsealed("not in the directory", listed("/etc/passwd")),
    "a name of a folder above": unsealed("not in the directory", listed("sub/../../config.json")),
    "names that differ by case": unsealed("the same file on some", listed("CONFIG.json")),
    "a manifest of the future": unsealed("format version 99", configure(MANIFEST, format_version=99)),
    "a manifest that was changed": unsealed("its own sha256", configure(MANIFEST, encoder="owner/other")),
    "a manifest that nests": unsealed("not valid JSON", write(MANIFEST, nested())),
    "a manifest of 9 MB": unsealed("far too large", write(MANIFEST, blanks(9))),
    "no manifest": unsealed("this model is incomplete", lambda model: (model / MANIFEST).unlink()),
    "a link out of the directory": unsealed("a link is not allowed", linked("config.json", "/etc/passwd")),
    "a link to a device": unsealed("a link is not allowed", linked("model.safetensors", "/dev/zero")),
    "a link to itself": unsealed("a link is not allowed", linked("loop", "loop")),
    "a false cache of the hub": unsealed("leads out of the hub's cache", in_a_false_cache),
    "a pipe as weights": unsealed("neither a file nor a folder", special("model.safetensors", os.mkfifo)),
    "a pipe as manifest": unsealed("neither a file nor a folder", special(MANIFEST, os.mkfifo)),
    "a socket": unsealed("neither a file nor a folder", special("socket", bound_socket)),
    "a folder as weights": unsealed("not in the directory", special("model.safetensors", os.mkdir)),
    "ten thousand files": unsealed("this is not a model directory", crowd),
    "a zip as model": unsealed("not a file", lambda model: packed(model, ".zip")),
    "a tar as model": unsealed("not a file", lambda model: packed(model, ".tar")),
}

KINDS: dict[str, Kind] = {**WEIGHTS, **CONFIGURATION, **REST, **DIRECTORY}
