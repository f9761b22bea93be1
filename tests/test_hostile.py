"""Hostile model directories are refused with a reason, and their code is not run; a flipped byte is detected."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import hostile
import tiny
from emotune.artifact.manifest import DECISION, MANIFEST, reseal, verify
from emotune.artifact.opening import open_model
from emotune.atomic import json_text
from emotune.cli.app import app
from emotune.errors import EmotuneError, ModelError

MAX_SECONDS, MAX_BYTES = 5, 500 << 20
# files that a model of other software does not have
OURS_ALONE = {DECISION, MANIFEST}


@pytest.fixture
def model(multi_label_run: Path, tmp_path: Path) -> Path:
    """A valid model, to be changed."""
    return tiny.copy(multi_label_run / "model", tmp_path / "model")


@pytest.mark.parametrize("name", hostile.KINDS)
def test_it_is_refused_with_a_reason(name: str, model: Path) -> None:
    kind = hostile.KINDS[name]
    spoilt = hostile.spoil(kind, model)
    with pytest.raises(ModelError) as caught:
        open_model(str(spoilt))
    assert kind.refusal in str(caught.value)
    assert len(caught.value.message) < 400
    assert caught.value.exit_code == 65
    assert not (model.parent / hostile.WAS_RUN).exists()


@pytest.mark.parametrize("name", [*hostile.WEIGHTS, *hostile.CONFIGURATION])
def test_it_is_refused_without_a_manifest_as_well(name: str, model: Path) -> None:
    kind = hostile.KINDS[name]
    kind.spoil(model)
    for ours in OURS_ALONE:
        (model / ours).unlink()
    with pytest.raises(ModelError) as caught:
        open_model(str(model))
    assert len(caught.value.message) < 400
    assert not (model.parent / hostile.WAS_RUN).exists()


MEASURED = """
import sys, time
from pathlib import Path
started = time.monotonic()
from emotune.cli.app import main
sys.argv = ["emotune", "predict", "-m", sys.argv[1], "how happy I am"]
try:
    main()
finally:
    (peak,) = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    print(time.monotonic() - started, int(peak) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("name", hostile.KINDS)
def test_it_costs_little_time_and_memory_to_refuse(name: str, model: Path) -> None:
    spoilt = hostile.spoil(hostile.KINDS[name], model)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(spoilt)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 65, done.stderr
    assert done.stderr.startswith("error: ")
    assert hostile.KINDS[name].refusal in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    seconds, size = map(float, done.stdout.split())
    print(f"{name}: {seconds:.1f} s, {size / 2**20:.0f} MB")
    assert seconds < MAX_SECONDS
    assert size < MAX_BYTES
    assert not (model.parent / hostile.WAS_RUN).exists()


# Flipped bytes


def flipped(model: Path, seed: int) -> tuple[Path, bytes]:
    """Change one byte of one file, possibly the manifest; return the file and its former content."""
    rng = random.Random(seed)
    path = rng.choice(sorted(path for path in model.rglob("*") if path.is_file()))
    content = path.read_bytes()
    place = rng.randrange(len(content))
    path.write_bytes(content[:place] + bytes([content[place] ^ rng.randrange(1, 256)]) + content[place + 1 :])
    return path, content


def every_flipped_byte_is_found(model: Path, seeds: range) -> None:
    open_model(str(model))
    for seed in seeds:
        path, content = flipped(model, seed)
        with pytest.raises(ModelError):
            open_model(str(model))
        path.write_bytes(content)
    open_model(str(model))


def test_a_flipped_byte_in_any_file_is_found(model: Path) -> None:
    every_flipped_byte_is_found(model, range(60))


@pytest.mark.slow
def test_five_hundred_flipped_bytes_are_found(model: Path) -> None:
    every_flipped_byte_is_found(model, range(60, 560))


def test_a_flipped_blank_of_the_manifest_is_found(model: Path) -> None:
    text = (model / MANIFEST).read_text()
    (model / MANIFEST).write_text(text.replace("\n  ", "\n\t ", 1))
    json.loads((model / MANIFEST).read_text())
    with pytest.raises(ModelError, match="its own sha256"):
        open_model(str(model))


def test_a_manifest_from_before_it_had_a_digest_is_read(model: Path) -> None:
    content = json.loads((model / MANIFEST).read_text())
    del content["digest"]
    (model / MANIFEST).write_text(json.dumps(content))
    assert open_model(str(model)).manifest is not None


# Messages, and faults that only the running classifier detects


def test_nothing_that_a_terminal_obeys_is_shown(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = model.rename(model.parent / "\x1b[2Jmodel\x9b")
    (place / "config.json").write_text('{"model_type": "\x9b2J')
    result = CliRunner().invoke(app, ["predict", "-m", str(place), "hello"])
    assert result.exit_code == 65
    assert not {"\x1b", "\x9b"} & set(result.output)
    assert "\\x1b[2Jmodel\\x9b" in result.stderr


def test_texts_are_shown_and_not_obeyed(multi_label_run: Path) -> None:
    text = "so happy \x1b[2J\x9b31m\u202e today\nand tomorrow"
    shown = CliRunner().invoke(app, ["predict", "-m", str(multi_label_run), text])
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown.stdout)
    assert len(shown.stdout.splitlines()) == 1
    as_json = CliRunner().invoke(app, ["predict", "-m", str(multi_label_run), "--json", text])
    assert not {"\x1b", "\x9b", "\u202e"} & set(as_json.stdout)
    assert json.loads(as_json.stdout)["text"] == text


def changed(directory: Path, name: str, /, **changes: object) -> Path:
    content = json.loads((directory / name).read_text()) | changes
    reseal(directory, verify(directory), {name: json_text(content)})
    return directory


def test_a_tokenizer_of_another_model_is_refused_when_it_shows(model: Path) -> None:
    from emotune.inference.classifier import load

    content = json.loads((model / "tokenizer.json").read_text())
    content["model"]["vocab"]["happy"] = 99_999
    classifier = load(changed(model, "tokenizer.json", model=content["model"]), device="cpu")
    with pytest.raises(ModelError, match="tokenizer and model do not fit"):
        classifier("so happy")


PANICS = {
    "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
    "pre_tokenizer": {"type": "FixedLength", "length": 0},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "none", "type_id": 0}}],
        "pair": [],
        "special_tokens": {},
    },
    "model": {"type": "WordLevel", "vocab": {"zebra": 0}, "unk_token": "[UNK]"},
}


@pytest.mark.parametrize("part", PANICS)
def test_a_tokenizer_that_fails_is_no_traceback(part: str, model: Path) -> None:
    changed(model, "tokenizer.json", **{part: PANICS[part]})
    result = CliRunner().invoke(app, ["predict", "-m", str(model), "hello"])
    assert result.exit_code == 65, result.exception
    assert "tokenizer" in result.stderr


def test_a_tokenizer_that_leaves_no_room_is_refused(model: Path) -> None:
    from emotune.inference.classifier import load

    special = {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}}
    single = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}] * 30 + [{"Sequence": {"id": "A", "type_id": 0}}]
    post = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}
    with pytest.raises(ModelError, match="adds 30 tokens to each text; the model takes 48"):
        load(changed(model, "tokenizer.json", post_processor=post), device="cpu")


def test_a_refused_pattern_exceeds_the_retry_limit() -> None:
    from tokenizers import Regex, pre_tokenizers

    splitter = pre_tokenizers.Split(Regex(hostile.CATASTROPHE), "isolated")
    with pytest.raises(BaseException, match="retry-limit-in-match"):
        splitter.pre_tokenize_str("a" * 40 + "b")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_an_unreadable_file_is_a_model_error(model: Path, name: str) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (model / name).chmod(0)
    with pytest.raises(EmotuneError):
        open_model(str(model))
