"""Run notebooks with their own parameters and write them back with their outputs, without traces of this machine.

python scripts/run_notebooks.py emotion goemotions    (extra `notebook`; first: emotune fetch emotion, …)
"""

import json
import sys
import tempfile
from pathlib import Path

import papermill

FOLDER = Path(__file__).parent.parent / "notebooks"


def main(names: list[str]) -> None:
    """Run the notebooks of these names; all without any."""
    for path in [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / path.name
            papermill.execute_notebook(path, out, cwd=folder, progress_bar=False)
            content = json.loads(out.read_text(encoding="utf-8"))
        for cell in content["cells"]:
            cell["metadata"] = {key: value for key, value in cell["metadata"].items() if key == "tags" and value}
            if any(output.get("name") == "stderr" for output in cell.get("outputs", ())):
                sys.exit(f"{path.name}: a cell writes to stderr: {''.join(cell['source'])[:200]}")
        content["metadata"] = {key: content["metadata"][key] for key in ("kernelspec", "language_info")}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        if found := [place for place in (str(Path.home()), str(FOLDER.parent), tempfile.gettempdir()) if place in text]:
            sys.exit(f"{path.name}: its outputs name {', '.join(found)}")
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {len(text.encode()):,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
