"""Each verb in the base install and with each extra alone: it works, or names the command that installs the extra."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

import tiny
from emotune import errors
from emotune.cli.app import app

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
# the base install, and each extra alone; minilm installs sentence-transformers, and with it most of train
INSTALLS = [
    "",
    "ngrams",
    "train",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("minilm", "reports", "parquet")),
]
INCLUDED = {"train": ["ngrams"], "minilm": ["ngrams"]}


@cache
def modules_without(extra: str) -> list[str]:
    """The top-level modules of this environment that an install of emotune with that extra would not have."""
    found, queue = set[str](), [*PROJECT["dependencies"], *PROJECT["optional-dependencies"].get(extra, ())]
    while queue:
        requirement = Requirement(queue.pop())
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        with suppress(metadata.PackageNotFoundError):  # a package of another platform
            queue += metadata.requires(name) or []
    owners = metadata.packages_distributions()
    return sorted(m for m, names in owners.items() if m != "emotune" and not found & set(map(canonicalize_name, names)))


# Hides modules, then runs command lines one after another in one process.
RUN = """
import contextlib, io, json, sys, traceback
from importlib.machinery import PathFinder

hidden, calls = json.load(sys.stdin)

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
from emotune.cli.app import main
outcomes = {}
for name, args in calls.items():
    out, err = io.StringIO(), io.StringIO()
    sys.argv[1:] = args
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as exit:
            code = exit.code or 0
        except BaseException:
            code = traceback.format_exc()
    outcomes[name] = [code, out.getvalue(), err.getvalue()]
loaded = sorted(name for name in ("torch", "transformers", "sklearn", "matplotlib") if sys.modules.get(name))
print(json.dumps([outcomes, loaded]), file=sys.__stdout__)
"""


def outcomes(
    hidden: list[str], calls: dict[str, list[object]], folder: Path
) -> tuple[dict[str, tuple[int | str, str, str]], set[str]]:
    """What each command line gave without those modules (exit code, stdout, stderr), and the heavy modules loaded."""
    texts = {name: [str(arg) for arg in args] for name, args in calls.items()}
    given = json.dumps([hidden, texts])
    command = [sys.executable, "-W", "ignore", "-c", RUN]
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    found, loaded = json.loads(done.stdout)
    return {name: tuple(outcome) for name, outcome in found.items()}, set(loaded)


@pytest.fixture(scope="module")
def fitted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of kind tfidf."""
    folder, data = tmp_path_factory.mktemp("fitted"), tiny.multi_label(base)
    for name in ("first", "second"):
        args = ["train", "emotion-tfidf", "--data", data, "--out", folder / name, "--set", f"model.C={len(name)}"]
        assert CliRunner().invoke(app, [str(arg) for arg in args]).exit_code == 0
    return folder / "first", folder / "second"


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path_factory.mktemp("parquet") / "train.parquet"
    parquet.write_table(pyarrow.table({"text": ["happy day", "angry day"] * 20, "label": ["joy", "anger"] * 20}), path)
    return path


def command_lines(base: Path, fitted: tuple[Path, Path], parquet: Path) -> dict[str, tuple[list[object], str]]:
    """Of each verb: arguments, and the extra that it needs; none where the base install is enough."""
    data, encoder = tiny.multi_label(base), tiny.encoder(base)
    network, first = tiny.trained(base, data), fitted[0]
    short = ["--data", data, "--set", f"model.encoder={encoder}"]
    steps = [*short, "--set", "training.max_steps=2"]
    return {
        "help": (["--help"], ""),
        "recipes": (["recipes"], ""),
        "fetch": (["fetch", "--list"], ""),
        "inspect": (["inspect", data, "--encoder", encoder, "--out", "inspected"], ""),
        "inspect parquet": (["inspect", parquet, "--encoder", encoder], "parquet"),
        "train dummy": (["train", "emotion-dummy", "--data", data, "--out", "dummy"], ""),
        "train dummy folds": (["train", "emotion-dummy", "--data", data, "--folds", 2, "--out", "crossed"], ""),
        "train tfidf": (["train", "emotion-tfidf", "--data", data, "--out", "tfidf"], "ngrams"),
        "train ngrams": (
            ["train", "starter", "--data", data, "--set", "model.kind=ngrams", "--out", "hashed"],
            "ngrams",
        ),
        "train features": (
            ["train", "semeval2025-features", *short, "--set", "model.layers=[-1]", "--out", "embedded"],
            "train",
        ),
        "train encoder": (["train", "starter", *steps, "--out", "encoder"], "train"),
        "train lora": (["train", "starter", *steps, "--set", "model.adapter=lora", "--out", "lora"], "train,peft"),
        "train bilstm": (["train", "goemotions-bilstm-max", *steps, "--out", "bilstm"], "train"),
        "resume": (["train", "--resume", "dummy"], ""),
        "predict": (["predict", "-m", first, "happy"], ""),
        "predict network": (["predict", "-m", network, "happy"], "train"),
        "evaluate": (["evaluate", first, "--out", "evaluated"], ""),
        "evaluate network": (["evaluate", network, "--out", "evaluated-network"], "train"),
        "tune": (["tune", first, "--out", "tuned", "--calibrate"], ""),
        "tune network": (["tune", network, "--out", "tuned-network", "--calibrate"], "train"),
        "ensemble": (["ensemble", first, network, "--out", "mean"], ""),
        "compare": (["compare", *fitted, "--out", "compared"], ""),
        "features": (["features", data, "--encoder", encoder, "--out", "rows.npz"], "train"),
        "features parquet": (["features", data, "--encoder", encoder, "--out", "rows.parquet"], "train,parquet"),
        "export": (["export", network, "--out", "exported"], "export"),
        "serve": (["serve", first, "--port", "0"], "serve"),
        "ladder": (["ladder", data, "--encoder", encoder, "--approaches", "dummy", "--out", "ladder"], "train"),
        "search": (["search", "emotion-tfidf", "--data", data, "--trials", "1", "--out", "searched"], "ngrams,search"),
    }


@pytest.mark.parametrize("extra", INSTALLS, ids=lambda extra: extra or "base")
def test_a_verb_works_or_names_the_command(
    extra: str, base: Path, fitted: tuple[Path, Path], parquet: Path, tmp_path: Path
) -> None:
    calls = command_lines(base, fitted, parquet)
    found, _ = outcomes(modules_without(extra), {name: args for name, (args, _) in calls.items()}, tmp_path)
    for name, (_, needed) in calls.items():
        code, _, said = found[name]
        lacking = [one for one in needed.split(",") if one not in ("", extra, *INCLUDED.get(extra, ()))]
        command = rf"which is not installed\n  pip install '\.\[({'|'.join(lacking)})\]'"
        assert code == 0 or (lacking and code == 1 and re.search(command, said)), (name, code, said)
        assert said.count("error: ") == code, (name, said)
        assert "Traceback" not in said, (name, said)
        if extra != "minilm":
            assert bool(lacking) == bool(code), (name, said)
    pictures = (tmp_path / "evaluated" / "reliability.png").exists()
    assert pictures == (extra == "reports")
    assert ("pip install '.[reports]'" in found["evaluate"][2]) == (not pictures)


def test_n_grams_load_no_torch_where_it_is_installed(base: Path, fitted: tuple[Path, Path], tmp_path: Path) -> None:
    data = tiny.multi_label(base)
    calls = {
        "train": ["train", "emotion-tfidf", "--data", data, "--out", "tfidf"],
        "compare": ["compare", *fitted],
        "predict": ["predict", "-m", "tfidf", "happy"],
    }
    found, loaded = outcomes([], calls, tmp_path)
    assert {code for code, _, _ in found.values()} == {0}, found
    assert loaded == {"sklearn"}


def test_errors_name_no_package_that_is_not_on_the_index() -> None:
    package = Path(errors.__file__).parent
    for path in package.rglob("*.py"):
        assert not re.search(r"pip install (--upgrade )?.?emotune", path.read_text()), path


def test_a_command_imports_only_what_it_uses(base: Path, fitted: tuple[Path, Path], tmp_path: Path) -> None:
    """Each of these libraries takes a tenth of a second or more, which everybody would wait for at every command."""
    report = "import sys; from emotune.cli.app import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"

    def imported(*args: object) -> set[str]:
        command = [sys.executable, "-c", report, *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
        return set(done.stderr.split())

    slow = {"yaml", "rich.console", "jinja2", "huggingface_hub", "numpy.random", "emotune.config.schema"}
    assert not imported("--version") & (slow | {"numpy", "pydantic", "emotune.cli.train"})
    assert not imported("--help") & (slow | {"pydantic", "emotune.workflows.train"})
    assert not imported("predict", "-m", fitted[0], "happy") & slow
