"""The notebooks run headless, by papermill with parameters, and use nothing but the public Python interface."""

import ast
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

import emotune

papermill = pytest.importorskip("papermill")

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SMALL = {"data": "emotune:starter", "rows": 80, "epochs": 1}


def cells(path: Path, kind: str = "code") -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def run(name: str, parameters: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Run a notebook in a folder, and return its outputs."""
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("EMOTUNE_CACHE", str(folder / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(emotune.__file__).parent.parent), *_python_path()]))
    out = folder / "out.ipynb"
    papermill.execute_notebook(FOLDER / name, out, parameters, cwd=folder, progress_bar=False)
    return [output for cell in cells(out) for output in cell["outputs"]]


def _python_path() -> list[str]:
    return list(filter(None, [os.environ.get("PYTHONPATH")]))


def require_shown(outputs: list[dict[str, Any]], *, pictures: int) -> None:
    """Tables and pictures are there, and nothing was printed as an error or a warning."""
    assert not [output for output in outputs if output.get("name") == "stderr"]
    data = [output["data"] for output in outputs if "data" in output]
    assert sum("image/png" in each for each in data) == pictures
    assert sum("<table" in "".join(each.get("text/html", "")) for each in data) >= 4


pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries that start a kernel


def test_a_csv_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_shown(run("own-csv.ipynb", {"rows": 300}, tmp_path, monkeypatch), pictures=2)
    assert (tmp_path / "runs/own-csv-notebook/predicted.csv").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pictures"), [("emotion.ipynb", 2), ("goemotions.ipynb", 1)])
def test_a_replaced_workflow(name: str, pictures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_shown(run(name, SMALL, tmp_path, monkeypatch), pictures=pictures)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_uses_the_public_interface_and_has_parameters(path: Path) -> None:
    code = ["".join(cell["source"]) for cell in cells(path)]
    names = {
        node.attr
        for each in code
        for node in ast.walk(ast.parse(each))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "emotune"
    }
    assert names <= set(emotune.__all__)
    assert not [each for each in code if re.search(r"(import|from) emotune\.", each)]
    (parameters,) = (cell for cell in cells(path) if "parameters" in cell["metadata"].get("tags", []))
    given = {target.id for line in ast.parse("".join(parameters["source"])).body for target in line.targets}
    assert {"data", "rows", "epochs", "recipe", "out"} <= given


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_names_no_place_of_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < 300_000
    content = json.loads(text)
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert "papermill" not in content["metadata"]
    assert not re.search(r"/(home|root|tmp|Users|work)/", text)
