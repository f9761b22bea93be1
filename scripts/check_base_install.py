"""Build emotune, install the wheel without extras in a new virtual environment, and predict there as in this one.

    python scripts/check_base_install.py [PYTHON]

PYTHON: the interpreter of the new environment, such as python3.14; by default this one. The wheel is made of the sdist,
and the new environment sees no sources. Prints the size of each package. Exits with 1 for a missing file, a heavy
library, a base install above the budget, or another answer.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BUDGET = 180.0  # MB of 10^6 bytes, without byte code, which `pip install --no-compile` leaves out
HEAVY = {"torch", "transformers", "scikit-learn", "scipy", "onnx", "matplotlib"}
# what pip itself needs, and every virtual environment has
INSTALLERS = {"pip", "setuptools"}
HERE = (sys.executable,)
TEXTS = ("I can't believe I got the job!!", "he left without a word", "")


def build(folder: Path) -> Path:
    """Build the sdist, and a wheel of what is in it; return the wheel."""
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.whl"))


def install(folder: Path, wheel: Path, interpreter: str) -> Sequence[str]:
    """Create a virtual environment with the wheel; return the command of its Python, which sees nothing else."""
    subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
    python = next(path for path in (folder / "bin" / "python", folder / "Scripts" / "python.exe") if path.exists())
    quiet = ("--quiet", "--disable-pip-version-check")
    command = [python, "-m", "pip", "install", *quiet, "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(list(map(str, command)), check=True)
    return (str(python), "-I")


def sizes(folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Return the bytes of each installed package, the model of emotune aside, and those of its byte code."""
    files, compiled = Counter[str](), Counter[str]()
    for package in metadata.distributions(path=[str(path) for path in folder.rglob("site-packages")]):
        for file in package.files or ():
            path = Path(str(package.locate_file(file)))
            if path.is_file() and package.name not in INSTALLERS and "default" not in path.parts:
                (compiled if path.suffix == ".pyc" else files)[package.name] += path.stat().st_size
    return files, compiled


def missing(folder: Path, python: Sequence[str]) -> list[str]:
    """Return what the installed package lacks: its version, its own files, or the command."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    code = "import emotune; print(emotune.__version__, emotune.__file__)"
    found, place = subprocess.run(
        [*python, "-c", code], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.split(maxsplit=1)
    package = Path(place.strip()).parent
    faults = [f"the package has the version {found}, pyproject.toml has {version}"] * (found != version)
    if not package.is_relative_to(folder):
        faults.append(f"emotune was imported from {package}")
    files = {path.relative_to(package) for path in package.rglob("*")}
    source = ROOT / "src" / "emotune"
    wanted = {path.relative_to(source) for path in source.rglob("*") if "__pycache__" not in path.parts}
    faults += [f"the package lacks {path}" for path in sorted(wanted - files)]
    command = Path(python[0]).with_name("emotune")
    shown = subprocess.run([command, "--version"], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
    return faults + [f"emotune --version prints {shown!r}"] * (shown.strip() != f"emotune {version}")


def models(folder: Path) -> dict[str, str]:
    """Make a model of each kind that the base install runs; return them by name."""
    run, network, export = folder / "ngrams", folder / "network", folder / "export"
    emotune(HERE, folder, "train", "emotion-tfidf", "--data", "emotune:starter", "--out", str(run))
    small = ("model.layers=1", "model.hidden_size=16", "model.embedding_size=16", "training.max_steps=2")
    options = [part for each in small for part in ("--set", each)]
    emotune(
        HERE, folder, "train", "goemotions-bilstm-max", "--data", "emotune:starter", "--out", str(network), *options
    )
    emotune(HERE, folder, "export", str(network), "--out", str(export))
    return {"n-grams": str(run), "an export": str(export), "the package": "default"}


def emotune(python: Sequence[str], folder: Path, *args: str) -> str:
    """Run a command line of emotune in a folder; return what it prints."""
    command = [*python, "-m", "emotune", *args, "--quiet"]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def answers(python: Sequence[str], folder: Path, model: str) -> list[dict[str, Any]]:
    """Return the predictions of a model, their scores rounded."""
    lines = emotune(python, folder, "predict", "-m", model, "--json", *TEXTS).splitlines()
    found: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [each | {"scores": {name: round(score, 4) for name, score in each["scores"].items()}} for each in found]


def main() -> None:
    """Check the base install."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = install(folder / "venv", build(folder / "dist"), *(sys.argv[1:] or HERE))
        files, compiled = sizes(folder / "venv")
        for package, size in files.most_common():
            print(f"{size / 1e6:8.1f} MB  {package}")
        total = files.total() / 1e6
        print(f"{total:8.1f} MB  in all, and {compiled.total() / 1e6:.1f} MB of byte code")
        faults = missing(folder, python)
        faults += [f"the base install has {package}" for package in sorted(HEAVY & files.keys())]
        if total > BUDGET:
            faults.append(f"the base install takes {total:.1f} MB; the budget is {BUDGET:.0f} MB")
        for kind, model in models(folder).items():
            here, there = answers(HERE, folder, model), answers(python, folder, model)
            if here != there:
                faults.append(f"the model of {kind} answers {there} in the base install, but {here} here")
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
