"""Bad input ends in one message (what, where, what to do) and an exit code, and nothing is written."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import tiny
from emotune.cli.app import app

USAGE, BAD_DATA, MISSING, CANNOT_WRITE = 2, 65, 66, 73
FLAGS = "text,anger,fear,joy\n"
SOUND = {
    "train.csv": FLAGS + "the cat sat happy,0,0,1\nwe hate tea,1,0,0\nscared by rain,0,1,0\n",
    "valid.csv": FLAGS + "a glad door,0,0,1\n",
}
NAMES = {"train.csv": "text,label\nthe cat sat happy,joy\nwe hate tea,anger\n", "valid.csv": "text,label\na door,joy\n"}
IDS = {"labels.txt": "anger\nfear\njoy\n", "train.tsv": "happy\t2\ta\nhate\t0\tb\n", "valid.tsv": "glad\t2\tc\n"}


@dataclass(frozen=True)
class Case:
    """A command line, the files it reads, and the expected error; {NAME} is replaced by a fixture."""

    name: str
    command: str
    code: int
    says: str
    data: dict[str, str | bytes] = field(default_factory=lambda: dict(SOUND))
    files: dict[str, str | bytes] = field(default_factory=dict)
    stdin: bytes = b""


TRAIN = "train starter --data data --out run --set model.encoder={encoder}"


def data_case(name: str, says: str, files: dict[str, str | bytes], code: int = BAD_DATA) -> Case:
    return Case(name, TRAIN, code, says, data=files)


DATA = [
    Case("no such data", TRAIN.replace("data data", "data nowhere"), MISSING, "no such file or folder: nowhere"),
    data_case("no training file", r"no training file in .*data\n  A data folder has train.tsv", {"test.csv": "x"}, 66),
    data_case("an empty file", "train.csv: the file is empty", SOUND | {"train.csv": ""}),
    data_case("a header alone", "train.csv:1: there are no rows below the header", SOUND | {"train.csv": FLAGS}),
    data_case(
        "a row with too few columns",
        "train.csv:3: the row has 2 columns, the header has 4",
        SOUND | {"train.csv": FLAGS + "happy,0,0,1\nhate,1\n"},
    ),
    data_case(
        "an unknown label",
        "valid.csv:3: unknown label 'yoy'\n  Did you mean 'joy'\\?",
        NAMES | {"valid.csv": "text,label\na door,joy\na road,yoy\n"},
    ),
    data_case(
        "an id outside the list",
        "train.tsv:2: label id '3' is not one of 0 to 2",
        IDS | {"train.tsv": "happy\t2\ta\nhate\t0,3\tb\n"},
    ),
    data_case(
        "no text column",
        r"train.csv:1: the header has no column 'text' .* only what, anger, fear, joy\n"
        "  .*--set data.text_column=NAME",
        SOUND | {"train.csv": SOUND["train.csv"].replace("text", "what")},
    ),
    data_case(
        "neither 0 nor 1",
        r"train.csv:3 \(column 'joy'\): '2' is neither 0 nor 1",
        SOUND | {"train.csv": FLAGS + "happy,0,0,1\nhate,1,0,2\nrain,0,1,0\n"},
    ),
    data_case(
        "not UTF-8",
        "train.csv:2: byte 0xe9 is not UTF-8",
        SOUND | {"train.csv": (FLAGS + "café,0,0,1\n").encode("latin1")},
    ),
    data_case(
        "NUL bytes", "train.csv:2: there is a NUL byte in this line", SOUND | {"train.csv": FLAGS + "a\0b,0,0,1\n"}
    ),
    data_case(
        "a picture",
        "train.csv: this is a PNG image, not a text file",
        SOUND | {"train.csv": b"\x89PNG\r\n\x1a\n\0\xff"},
    ),
    data_case(
        "no text in any row",
        "train.csv:2: all 1 training texts are empty",
        SOUND | {"train.csv": FLAGS + '" ",0,0,1\n'},
    ),
]


def yaml_case(name: str, says: str, content: str) -> Case:
    return Case(name, "train own.yaml --data data --out run", USAGE, says, files={"own.yaml": content})


CONFIG = [
    yaml_case(
        "a misspelt key",
        r"own.yaml:3: unknown key 'optimizer.lrr'. Did you mean 'lr'\?",
        "name: x\noptimizer:\n  lrr: 1\n",
    ),
    yaml_case(
        "a value of another type",
        r"own.yaml:2: training.epochs .*integer.*\(found 'many'\)",
        "training:\n  epochs: many\n",
    ),
    yaml_case(
        "the label no", "own.yaml:2: .*YAML reads a bare yes, no, on or off as False", "data:\n  labels: [joy, no]\n"
    ),
    yaml_case("no YAML", "own.yaml:3: not valid YAML: expected", "data:\n  path: [\n"),
    Case("no such YAML file", "train own.yaml", MISSING, "no such configuration file: own.yaml"),
    Case("a misspelt recipe", "train statrer", USAGE, r"no recipe 'statrer'\n  Did you mean 'starter'\?"),
    Case("a recipe that is none", "recipes show statrer", USAGE, r"Did you mean 'starter'\?"),
    Case(
        "an unknown key",
        f"{TRAIN} --set training.epoch=3",
        USAGE,
        "--set unknown key 'training.epoch'. Did you mean 'epochs'",
    ),
    Case("a bad value", f"{TRAIN} --set training.epochs=many", USAGE, "--set training.epochs .*integer"),
    Case("no key", f"{TRAIN} --set epochs", USAGE, "--set takes section.key=value, not 'epochs'"),
    Case("no data", "train goemotions --set data.path=null", MISSING, "no data given\n  .*--data PATH"),
    Case(
        "not fetched",
        "train goemotions",
        MISSING,
        "goemotions is not there .*\n  .*: emotune fetch goemotions .*--data",
    ),
    Case(
        "no such set", "train starter --data emotune:goemotion", USAGE, "'goemotion' is known\n  Did you mean 'goemot"
    ),
]

MODEL = [
    Case("no such model", "predict -m nowhere x", MISSING, "no model 'nowhere'\n  MODEL is `default`, a run directory"),
    Case("a file as a model", "predict -m data/train.csv x", BAD_DATA, "a model is a directory, not a file"),
    Case("a folder that is no model", "predict -m data x", BAD_DATA, r"data: neither emotune.json nor config.json"),
    Case("no text", "predict -m {run}", MISSING, "no text given\n  Try: emotune predict"),
    Case(
        "stdin is not UTF-8",
        "predict -m {run}",
        USAGE,
        "stdin:1: byte 0xe9 is not UTF-8\n  .*--encoding cp1252",
        stdin=b"caf\xe9\n",
    ),
    Case("no such encoding", "predict -m {run} --encoding cp125", USAGE, "unknown encoding 'cp125'\n  .*cp1252"),
    Case("a threshold over 1", "predict -m {run} --threshold 2 x", USAGE, "'--threshold'"),
    Case("a threshold that is no number", "predict -m {run} --threshold nan x", USAGE, "threshold"),
    Case("a level for unknown labels", "predict -m {run} --level ekman x", USAGE, "these labels have no level 'ekman'"),
    Case("an unknown level", "evaluate {run} --level ekmann", USAGE, "these labels have no level 'ekmann'"),
    Case("an unknown split", "evaluate {run} --split tset", MISSING, r"no split 'tset'\n  Did you mean 'test'\?"),
    Case(
        "a split that data lacks",
        "evaluate {run} --data data --split test",
        MISSING,
        r"no split 'test' in .*data\n  Allowed: train, valid",
    ),
    Case(
        "data without the labels",
        "evaluate {run} --data o.csv",
        BAD_DATA,
        "o.csv:1: .* no column for 2 of the labels: anger, fear",
        files={"o.csv": "text,joy\nhappy,1\n"},
    ),
    Case(
        "reports below a file", "evaluate {run} --out data/train.csv/x", CANNOT_WRITE, "data/train.csv.*: cannot write"
    ),
    Case("tuning one label a text", "tune {multi_class}", USAGE, "it has no thresholds to tune"),
    Case("tuning on a split of nothing", "tune {run} --split test", USAGE, "--split names a split of --data"),
    Case("tuning with no number", "tune {run} --shrinkage nan", USAGE, "--shrinkage"),
    Case("tuning with one fold", "tune {run} --folds 1", USAGE, "'--folds'"),
    Case("an unknown method", "tune {run} --method best", USAGE, "'--method'"),
]

PLACES = [
    Case(
        "no such encoder",
        "train starter --data data --out run --set model.encoder=./nowhere",
        MISSING,
        "no encoder './nowhere': there is no such directory",
    ),
    Case(
        "an encoder that is none",
        "train starter --data data --out run --set model.encoder=data",
        MISSING,
        "data has no config.json",
    ),
    Case("no such GPU", f"{TRAIN} --device cuda:99", USAGE, "no device 'cuda:99'.*\n  Use --device cpu"),
    Case(
        "an unknown device", "predict -m {run} --device gpu x", USAGE, "unknown device 'gpu'\n  Known: auto, cpu, cuda"
    ),
    Case(
        "a run below a file",
        TRAIN.replace("run", "data/train.csv/run", 1),
        CANNOT_WRITE,
        "data/train.csv.*: cannot write",
    ),
    Case(
        "a run that is there",
        TRAIN.replace("--out run", "--out {run}"),
        CANNOT_WRITE,
        r"holds a trained model\n  .*--overwrite",
    ),
    Case(
        "a folder of somebody's",
        f"{TRAIN} --overwrite",
        CANNOT_WRITE,
        "run: the output directory exists and is not a run",
        files={"run/notes.txt": "mine"},
    ),
    Case(
        "a file of somebody's",
        f"{TRAIN} --overwrite",
        CANNOT_WRITE,
        "run: the output directory exists and is not a run",
        files={"run": "mine"},
    ),
    Case(
        "somebody's config.yaml",
        "train run/config.yaml --data data --out run --overwrite",
        CANNOT_WRITE,
        "is not a run",
        files={"run/config.yaml": "name: mine"},
    ),
    Case(
        "somebody's folder called model",
        f"{TRAIN} --overwrite",
        CANNOT_WRITE,
        "is not a run",
        files={"run/model/mine.txt": "mine"},
    ),
]


@pytest.fixture(scope="session")
def known(base: Path) -> dict[str, Path]:
    """The fixtures that a command line can name."""
    return {
        "encoder": tiny.encoder(base),
        "run": tiny.trained(base, tiny.multi_label(base)),
        "multi_class": tiny.trained(base, tiny.multi_class(base)),
    }


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EMOTUNE_MODEL", raising=False)


def refused(command: str, code: int, says: str, stdin: bytes = b"") -> Result:
    """Return the outcome of a command; it must end in one message and leave every file unchanged."""
    before = tiny.contents(Path.cwd())
    result = CliRunner().invoke(app, command.split(), input=stdin)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert re.search(says, result.stderr), result.stderr
    assert len(re.findall("(?im)^error: ", result.stderr)) == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert tiny.contents(Path.cwd()) == before
    return result


@pytest.mark.parametrize("case", [*DATA, *CONFIG, *MODEL, *PLACES], ids=lambda case: case.name)
def test_bad_input(case: Case, known: dict[str, Path]) -> None:
    for name, content in ({f"data/{name}": content for name, content in case.data.items()} | case.files).items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    folders = [path for path in Path.cwd().rglob("*") if path.is_dir()]
    refused(case.command.format(**known), case.code, case.says, case.stdin)
    assert [path for path in Path.cwd().rglob("*") if path.is_dir()] == folders


# Models that are not as they were sealed


def flip_a_byte(model: Path) -> None:
    whole = bytearray((model / "model.safetensors").read_bytes())
    whole[-1] ^= 1
    (model / "model.safetensors").write_bytes(whole)


def change_a_threshold(model: Path) -> None:
    content = json.loads((model / "decision.json").read_text())
    content["thresholds"]["joy"] = 0.01
    (model / "decision.json").write_text(json.dumps(content))


def swap_the_labels(model: Path) -> None:
    """A directory whose manifest is written again after its configuration was edited."""
    from emotune.artifact.manifest import reseal, verify

    manifest = verify(model)
    content = (model / "config.json").read_text().replace('"joy"', '"woe"')
    reseal(model, manifest, {"config.json": content})


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (
        lambda model: (model / "emotune.json").unlink(),
        r"model: no manifest \(emotune.json\)|no manifest",
    ),
    "half a manifest": (lambda model: os.truncate(model / "emotune.json", 100), "emotune.json: not valid JSON"),
    "a flipped byte": (flip_a_byte, "model.safetensors: the file differs from its sha256"),
    "a changed threshold": (change_a_threshold, "decision.json: the file differs from its sha256"),
    "a pickle": (
        lambda model: (model / "pytorch_model.bin").write_bytes(b"x"),
        "pytorch_model.bin: a pickle is not allowed",
    ),
    "a deleted file": (lambda model: (model / "tokenizer.json").unlink(), "the manifest lists 'tokenizer.json'"),
    "other labels": (swap_the_labels, "do not name the same labels"),
}


@pytest.mark.parametrize("verb", ["predict -m copied x", "evaluate copied", "tune copied --data data"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_model_is_not_used(damage: str, verb: str, known: dict[str, Path], base: Path) -> None:
    tiny.copy(known["run"], Path("copied"))
    tiny.copy(tiny.multi_label(base), Path("data"))
    do, says = DAMAGE[damage]
    do(Path("copied/model"))
    refused(verb, BAD_DATA, says)


# The hub


@pytest.mark.parametrize("verb", ["predict -m owner/model x", "evaluate owner/model", "tune owner/model"])
def test_a_hub_that_is_out_of_reach(verb: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "emotune", *verb.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert (done.returncode, done.stdout) == (MISSING, "")
    assert done.stderr.startswith("error: owner/model is not in the local cache, and the hub failed (")
    assert "Traceback" not in done.stderr


def test_an_encoder_that_the_hub_cannot_give(known: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(Path("cache").resolve()))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    close_session()
    write_sound_data()
    refused("train starter --data data --out run --set model.encoder=owner/encoder", MISSING, "model.encoder=DIR")


def write_sound_data() -> None:
    Path("data").mkdir()
    for name, content in SOUND.items():
        Path("data", name).write_text(content)


# Places that cannot be written


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """A limit of the size of files, as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [200, 30_000], ids=["at once", "amid the weights"])
def test_a_disk_that_fills_up_while_training(size: int, base: Path) -> None:
    options = tiny.options(base, tiny.multi_label(base), epochs=1)
    with no_file_larger_than(size):
        result = CliRunner().invoke(app, ["train", "starter", *options, "--out", "run"])
    assert result.exit_code == CANNOT_WRITE, (result.output, result.exception)
    assert re.search("(?m)^error: run.*: cannot write: .*[Ff]ile too large", result.stderr)
    assert result.stdout == ""
    written = {path.name for path in Path("run").rglob("*")}
    assert written <= {"config.yaml", "data.json", "log.jsonl", "train_texts.safetensors", "checkpoints"}
    call_again = CliRunner().invoke(app, ["train", "starter", *options, "--out", "run"])
    assert call_again.exit_code == 0, call_again.output


def test_a_disk_that_fills_up_while_tuning(known: dict[str, Path]) -> None:
    tiny.copy(known["run"], Path("copied"))
    with no_file_larger_than(200):
        refused("tune copied --method global", CANNOT_WRITE, "cannot write: File too large")


def test_a_disk_that_fills_up_while_evaluating(known: dict[str, Path]) -> None:
    tiny.copy(known["run"], Path("copied"))
    with no_file_larger_than(200):
        refused("evaluate copied", CANNOT_WRITE, "cannot write: File too large")
