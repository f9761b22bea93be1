"""What surrounds the package agrees with it: the extras, the citation, the image, the version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_extra_is_explained() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z]+)`", "".join(line for line in page.splitlines() if line.startswith("| `"))))
    assert named == PROJECT["optional-dependencies"].keys() - {"dev", "docs"}


def test_the_citation_agrees_with_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # required by the format
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["license"]
    assert citation["keywords"] == PROJECT["keywords"]


def test_the_version_is_in_one_place() -> None:
    files = [*(ROOT / "src").rglob("*.py"), ROOT / "CITATION.cff", ROOT / "Dockerfile"]
    assert PROJECT["version"]
    assert [path for path in files if f'"{PROJECT["version"]}"' in path.read_text(encoding="utf-8")] == []


def test_the_image_copies_files_that_its_context_has() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"}
    copied = [
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()
    ]
    assert set(copied) == kept
    assert all((ROOT / name).exists() for name in copied)
    assert dockerfile.rindex("USER emotune") > dockerfile.rindex("RUN ")
