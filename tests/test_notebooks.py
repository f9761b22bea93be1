"""The notebooks run headless, by papermill with parameters, and use nothing but the public Python interface."""

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import emotune
import tiny

papermill = pytest.importorskip("papermill")

from jupyter_client.manager import KernelManager  # noqa: E402 (after the guard)

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SMALL = {"data": "emotune:starter", "rows": 60, "epochs": 1}


def cells(path: Path, kind: str = "code") -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


class OneKernel(KernelManager):  # type: ignore[misc]
    """A kernel for several notebooks. papermill leaves the connections open to a kernel that it did not start."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.clients: list[Any] = []

    def client(self, **options: Any) -> Any:
        self.clients.append(super().client(**options))
        return self.clients[-1]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneKernel]:
    """One kernel, because most of the time of a small notebook is the import of libraries."""
    folder = tmp_path_factory.mktemp("notebooks")
    path = [str(Path(emotune.__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    places = {"IPYTHONDIR": str(folder / "ipython"), "EMOTUNE_CACHE": str(folder / "cache")}
    manager = OneKernel(kernel_name="python3")
    manager.start_kernel(cwd=str(folder), env=os.environ | places | {"PYTHONPATH": os.pathsep.join(path)})
    yield manager
    for client in manager.clients:
        client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(name: str, parameters: dict[str, Any], folder: Path, kernel: OneKernel) -> list[dict[str, Any]]:
    """Run a notebook, and return its outputs."""
    out = folder / "out.ipynb"
    papermill.execute_notebook(FOLDER / name, out, parameters, progress_bar=False, km=kernel)
    return [output for cell in cells(out) for output in cell["outputs"]]


def require_shown(outputs: list[dict[str, Any]], *, pictures: int) -> None:
    """Tables and pictures are there, and nothing was printed as an error or a warning."""
    assert not [output for output in outputs if output.get("name") == "stderr"]
    data = [output["data"] for output in outputs if "data" in output]
    assert sum("image/png" in each for each in data) == pictures
    assert sum("<table" in "".join(each.get("text/html", "")) for each in data) >= 4


pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries that start a kernel


def test_a_csv_of_ones_own(kernel: OneKernel, tmp_path: Path) -> None:
    out = tmp_path / "run"
    require_shown(run("own-csv.ipynb", {"rows": 200, "out": str(out)}, tmp_path, kernel), pictures=2)
    assert (out / "predicted.csv").is_file()


@pytest.mark.parametrize(("name", "pictures"), [("emotion.ipynb", 2), ("goemotions.ipynb", 1)])
def test_a_replaced_workflow(name: str, pictures: int, kernel: OneKernel, base: Path, tmp_path: Path) -> None:
    parameters = SMALL | {"encoder": str(tiny.encoder(base, layers=4)), "out": str(tmp_path / "run")}
    require_shown(run(name, parameters, tmp_path, kernel), pictures=pictures)


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
