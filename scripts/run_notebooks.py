"""Run notebooks with their own parameters and write them back with their outputs, without traces of this machine.

python scripts/run_notebooks.py emotion goemotions    (extra `notebook`; first: emotune fetch emotion, …)
"""

import base64
import io
import json
import sys
import tempfile
from pathlib import Path

import papermill
from PIL import Image

FOLDER = Path(__file__).parent.parent / "notebooks"


def smaller(png: str) -> str:
    """Return a picture in base64 with few colours, which takes a third of the bytes."""
    packed = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(64).save(packed, "PNG", optimize=True)
    return base64.b64encode(packed.getvalue()).decode()


def main(names: list[str]) -> None:
    """Run the notebooks of these names; all without any."""
    for path in [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / path.name
            papermill.execute_notebook(path, out, cwd=folder, progress_bar=False)
            content = json.loads(out.read_text(encoding="utf-8"))
        for cell in content["cells"]:
            for data in (output["data"] for output in cell.get("outputs", ()) if "image/png" in output.get("data", {})):
                data["image/png"] = smaller(data["image/png"])
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
