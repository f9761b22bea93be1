"""The house rules that a program can check: who imports whom, and what is never imported or called."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

import emotune

PACKAGE = Path(emotune.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# A module imports only from lower floors and from its own package; modules of the lowest floor may import each other.
FLOORS: list[set[str]] = [
    {"errors", "labels", "decision", "reporter", "atomic", "display", "stdin", "config"},
    {"scoring", "hub"},
    {"data"},
    {"artifact"},
    {"models"},
    {"training", "inference"},
    {"runs"},
    {"reports"},
    {"workflows", "serving"},
    {"cli", "sklearn"},
    {"api"},
    {"__main__"},
]
FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
# No verb imports another verb, except these.
VERBS_OF_VERBS = {
    ("ladder", "train"),
    ("cross_train", "train"),
    ("cross_train", "ensemble"),
    ("search", "train"),
    ("search", "cross_train"),
    ("predict_ray", "predict"),
    ("push", "export"),
}
PICKLERS = {"pickle", "cPickle", "_pickle", "joblib", "marshal", "shelve", "dill", "cloudpickle"}
HEAVY = {"torch", "transformers", "accelerate", "sklearn"}
UNPICKLING_CALLS = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.load", "pandas.read_pickle"}


def part_of(path: str) -> str:
    """The package or single module, right below emotune, that a file belongs to; empty for emotune/__init__.py."""
    first, *rest = Path(path).parts
    return first if rest else first.removesuffix(".py").replace("__init__", "")


def imports(path: str, tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """Line, dotted name, and whether it is not at the top level, of all that a file imports."""
    package = ["emotune", *Path(path).parts[:-1]]
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, id(node) not in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}", id(node) not in top) for alias in node.names)


def import_faults(path: str, tree: ast.Module) -> Iterator[str]:
    part = part_of(path)
    if part and part not in FLOOR_OF:
        yield f"{path}: {part!r} stands on no floor; give it one in FLOORS"
        return
    for line, name, lazy in imports(path, tree):
        root, _, inner = name.partition(".")
        if root in PICKLERS:
            yield f"{path}:{line}: imports {root}, which unpickles"
        if root == "matplotlib" and part != "reports":
            yield f"{path}:{line}: imports matplotlib; only reports/ draws"
        if root in HEAVY and FLOOR_OF.get(part, 0) <= 3:
            yield f"{path}:{line}: imports {root}; nothing on floors F0 to F3 does"
        if root == "emotune":
            yield from own_import_faults(f"{path}:{line}", part, inner.partition(".")[0], lazy)
            yield from verb_faults(path, line, inner)


def own_import_faults(place: str, part: str, other: str, lazy: bool) -> Iterator[str]:
    if other not in FLOOR_OF:  # emotune.__version__ and the like
        if part in FLOOR_OF and other != "__version__":
            yield f"{place}: imports {other!r} from emotune itself; import it from the module that defines it"
        return
    if not part:
        if other not in ("api", "errors", "inference", "workflows") or not lazy:
            allowed = "it may import inference, workflows and the API, and only when asked for them"
            yield f"{place}: emotune/__init__.py imports {other}; {allowed}"
        return
    mine, its = FLOOR_OF[part], FLOOR_OF[other]
    single = mine == 0
    if its > mine:
        yield f"{place}: {part} (F{mine}) imports {other} (F{its}), which stands above it"
    elif its == mine and part != other and not single:
        yield f"{place}: {part} and {other} stand on the same floor (F{mine}) and may not import each other"


def verb_faults(path: str, line: int, inner: str) -> Iterator[str]:
    """No module of workflows/ imports another one; `inner` is the imported name without `emotune.`."""
    verb, other = Path(path).stem, inner.partition(".")[2].partition(".")[0]
    if part_of(path) != "workflows" or not inner.startswith("workflows.") or other == verb:
        return
    if (verb, other) not in VERBS_OF_VERBS:
        yield f"{path}:{line}: the verb {verb} imports the verb {other}; what both need belongs on a lower floor"


def call_faults(path: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if ast.unparse(node.func) in UNPICKLING_CALLS:
            yield f"{path}:{node.lineno}: calls {ast.unparse(node.func)}, which can run what it reads"
        for keyword in node.keywords:
            trusted = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg == "trust_remote_code" and not trusted:
                yield f"{path}:{node.lineno}: trust_remote_code is not False"
            if keyword.arg == "allow_pickle" and not trusted:
                yield f"{path}:{node.lineno}: allow_pickle is not False"


def name_faults(path: str) -> Iterator[str]:
    if Path(path).name in ("utils.py", "helpers.py"):
        yield f"{path}: a module is named after what is in it"


def faults(path: str, text: str) -> list[str]:
    """What a file, named by its path below src/emotune, does against the rules."""
    tree = ast.parse(text)
    return [*import_faults(path, tree), *call_faults(path, tree), *name_faults(path)]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_keeps_the_rules(module: Path) -> None:
    found = faults(module.relative_to(PACKAGE).as_posix(), module.read_text(encoding="utf-8"))
    if found:
        pytest.fail("\n".join(found), pytrace=False)


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        (
            "data/records.py",
            "from emotune.models.encoder import load",
            "data (F2) imports models (F4), which stands above",
        ),
        ("labels.py", "import emotune.scoring", "labels (F0) imports scoring (F1), which stands above"),
        ("scoring/metrics.py", "from ..hub import listed", "scoring and hub stand on the same floor"),
        (
            "training/loop.py",
            "from emotune.inference import classifier",
            "training and inference stand on the same floor",
        ),
        (
            "inference/a.py",
            "def f():\n    import emotune.training.loop",
            "inference/a.py:2: inference and training stand on",
        ),
        (
            "reports/html.py",
            "from emotune.workflows import train",
            "reports (F7) imports workflows (F8), which stands above",
        ),
        ("labels.py", "from emotune import load", "imports 'load' from emotune itself"),
        ("__init__.py", "from emotune.inference import classifier", "only when asked for them"),
        ("__init__.py", "def f():\n    from emotune.training import fit", "it may import inference, workflows"),
        ("novel.py", "", "'novel' stands on no floor"),
        ("scoring/metrics.py", "def f():\n    import torch.nn", "scoring/metrics.py:2: imports torch"),
        ("config/schema.py", "from transformers import AutoModel", "imports transformers"),
        ("workflows/a.py", "import matplotlib.pyplot as plt", "only reports/ draws"),
        ("data/records.py", "import pickle", "imports pickle"),
        ("models/linear.py", "from joblib import load", "imports joblib"),
        ("config/schema.py", "import yaml\nyaml.load('')", "config/schema.py:2: calls yaml.load"),
        ("models/a.py", "torch.load('x', weights_only=True)", "calls torch.load"),
        ("models/a.py", "f(trust_remote_code=True)", "trust_remote_code is not False"),
        ("models/a.py", "f(trust_remote_code=trusted)", "trust_remote_code is not False"),
        ("models/a.py", "np.load('x', allow_pickle=True)", "allow_pickle is not False"),
        ("data/utils.py", "", "named after what is in it"),
        ("workflows/tune.py", "from emotune.workflows.train import train", "the verb tune imports the verb train"),
        ("workflows/tune.py", "def f():\n    from . import train", "workflows/tune.py:2: the verb tune imports"),
    ],
)
def test_each_rule_finds_what_breaks_it(path: str, text: str, fault: str) -> None:
    found = faults(path, text)
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("labels.py", "from emotune.errors import DataError"),
        ("data/records.py", "from .formats import read\nfrom . import tokens\nfrom ..labels import LabelSet"),
        ("artifact/manifest.py", "from emotune.hub import file_digest"),
        ("training/loop.py", "import torch\nfrom emotune.models import encoder"),
        ("workflows/a.py", "from emotune import __version__\nfrom emotune.reports import html"),
        ("reports/figures.py", "def f():\n    import matplotlib"),
        ("__init__.py", "def __getattr__(name):\n    from emotune.inference import classifier"),
        ("models/a.py", "f(trust_remote_code=False)\nsafetensors.torch.load_file('x')\nyaml.safe_load('x')"),
        ("workflows/ladder.py", "from emotune.workflows.train import train"),
    ],
)
def test_what_the_rules_allow_is_not_found(path: str, text: str) -> None:
    assert faults(path, text) == []


@pytest.mark.parametrize("module", ["emotune", "emotune.cli.app"])
def test_importing_costs_no_heavy_library(module: str) -> None:
    heavy = sorted(HEAVY | {"matplotlib", "onnxruntime", "huggingface_hub"})
    code = f"import sys, {module}; print(*sorted(set({heavy}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [], f"import {module} also imports {done.stdout}"


def imported_modules(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """The modules that each module imports, also within functions and for types only; by dotted names.

    texts: the text of each file by its path below src/emotune.
    """
    names = {path: ".".join(["emotune", *Path(path).with_suffix("").parts]).removesuffix(".__init__") for path in texts}
    known = set(names.values())
    graph: dict[str, set[str]] = {name: set() for name in known}
    for path, text in texts.items():
        for _, name, _ in imports(path, ast.parse(text)):
            module = name if name in known else name.rpartition(".")[0]
            if module in known:
                graph[names[path]].add(module)
    return graph


def cycle_in(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """The modules of one import cycle, the first one again at the end; empty when there is none."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph[module]):
            if found := visit(other, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


def test_no_modules_import_each_other_in_a_circle() -> None:
    texts = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in MODULES}
    assert " -> ".join(cycle_in(imported_modules(texts))) == ""


def test_a_cycle_is_found_wherever_the_imports_stand() -> None:
    texts = {
        "__init__.py": "",
        "a.py": "from emotune.b import x",
        "b.py": "def f():\n    from . import c",
        "c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import emotune.a",
        "d.py": "from emotune.a import x\nfrom emotune import __version__",
    }
    assert cycle_in(imported_modules(texts)) == ["emotune.a", "emotune.b", "emotune.c", "emotune.a"]
    assert cycle_in(imported_modules(texts | {"c.py": ""})) == []
