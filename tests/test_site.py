"""The documentation site: its pages, the references made from the code, and the messages that it explains."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import browser
import emotune
from emotune.cli.app import VERBS
from emotune.config.kinds import KINDS
from emotune.config.schema import Config

ROOT = Path(__file__).parent.parent
PACKAGE = Path(emotune.__file__).parent
GENERATED = {"reference/commands.md", "reference/configuration.md", "reference/python.md"}


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "pages"
    script("build_site").stage(folder)
    return folder


def pages(nav: list[Any]) -> Iterator[str]:
    """The pages of a navigation, in its order."""
    for entry in nav:
        for value in entry.values():
            yield from pages(value) if isinstance(value, list) else [value]


def test_the_navigation_has_every_page_once(staged: Path) -> None:
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # tags are text
    listed = list(pages(config["nav"]))
    assert sorted(listed) == sorted(path.relative_to(staged).as_posix() for path in staged.rglob("*.md"))
    assert set(listed) >= GENERATED


def test_links_of_the_site_lead_to_its_pages(staged: Path) -> None:
    for path in staged.rglob("*.md"):
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
            if "://" not in link and not link.startswith("#"):
                assert (path.parent / link.partition("#")[0]).is_file(), (path, link)


def test_the_reference_has_every_command_and_option(staged: Path) -> None:
    text = (staged / "reference" / "commands.md").read_text(encoding="utf-8")
    parts = re.split(r"^## emotune ?", text, flags=re.MULTILINE)[1:]
    found = {part.partition("\n")[0]: part for part in parts}
    assert {*VERBS, "recipes show", ""} == found.keys()
    for options in ("`--calibrate`", "`--at-least FLOAT`"):
        assert options in found["tune"]
    assert "a temperature is fitted too" in found["tune"]


def test_the_reference_has_every_key_with_its_meaning(staged: Path) -> None:
    text = (staged / "reference" / "configuration.md").read_text(encoding="utf-8")
    rows = [row.split(" | ") for row in text.splitlines() if row.startswith("| `")]
    lacking = [row[0] for row in rows if not re.sub(r"[ |]", "", row[1])]
    assert not lacking, "these keys need a description in config/schema.py or config/settings.py"
    keys = {row[0].strip("|` ") for row in rows}
    for name, field in Config.keys().items():
        if name != "model" and hasattr(field.annotation, "keys"):
            assert {f"{name}.{key}" for key in dict(field.annotation.keys())} <= keys
    for kind in KINDS.values():
        if kind.name not in ("ensemble", "onnx"):
            assert {f"model.{key}" for key in dict(kind.settings.keys()) if key != "kind"} <= keys


def test_the_reference_has_every_public_name(staged: Path) -> None:
    text = (staged / "reference" / "python.md").read_text(encoding="utf-8")
    for name in emotune.__all__:
        assert name == "__version__" or f"::: emotune.{name}\n" in text


# The messages of the troubleshooting page

HEADING = re.compile(r"^### `(.+)`$", re.MULTILINE)
LEAST = 9  # letters of a message that do not vary


@cache
def messages() -> list[re.Pattern[str]]:
    """The texts in the source, a pattern each, in which the parts that vary match anything."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            fixed = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            if sum(map(len, fixed)) >= LEAST:
                texts = [re.escape(p.value) if isinstance(p, ast.Constant) else ".+" for p in parts]
                found.append(re.compile("".join(texts)))
    return found


def explained() -> list[str]:
    return HEADING.findall((ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"))


def test_the_page_explains_messages_that_exist() -> None:
    known = messages()
    quoted = explained()
    assert len(quoted) >= 25
    for message in quoted:
        bare = message.removeprefix("no labels: ")  # a prefix of several messages
        assert any(pattern.fullmatch(bare) for pattern in known), f"no source has the message: {message}"


def test_a_message_that_does_not_exist_is_found_out() -> None:
    assert not any(pattern.fullmatch("the model is tired of emotions") for pattern in messages())


# The built site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in a copy of what it is made from."""
    pytest.importorskip("mkdocs", reason="install it with: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("built")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    (folder / "src").symlink_to(ROOT / "src")
    script("build_site").stage(folder / ".site")
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def test_the_site_builds_without_a_broken_link(site: Path) -> None:
    assert (site / "tutorial.html").is_file()
    assert "EmotionClassifier" in (site / "reference" / "python.html").read_text(encoding="utf-8")


def test_pages_are_shown_as_code_hosts_show_them(site: Path) -> None:
    """Lists right after a paragraph, and pipes in the code of tables."""
    assert "<li><code>emotune export MODEL" in (site / "changelog.html").read_text(encoding="utf-8")
    assert "<code>joy|love</code>" in (site / "data.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(browser.find() is None, reason="no browser is installed")
def test_a_browser_finds_words_and_loads_nothing_from_elsewhere(site: Path, tmp_path: Path) -> None:
    handler = partial(Quiet, directory=str(site))
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        browser.Browser(str(browser.find()), tmp_path) as chromium,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}/"
        chromium.show(1280, "light")
        chromium.open(here + "index.html")
        chromium.evaluate(SEARCH)
        found = (str(chromium.evaluate(FOUND)) for _ in range(10_000))  # the index is read first
        assert any("evaluation.html" in each for each in found)
        asked = [event["params"]["request"]["url"] for event in chromium.seen("Network.requestWillBeSent")]
        assert [url for url in asked if not url.startswith((here, "data:", "blob:"))] == []
        assert chromium.seen("Log.entryAdded", "Runtime.exceptionThrown") == []
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


SEARCH = """(() => {
  document.querySelector('[data-md-toggle=search]').checked = true;
  const field = document.querySelector('input.md-search__input');
  field.focus();
  field.value = 'precision';
  field.dispatchEvent(new Event('input', {bubbles: true}));
  field.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true, key: 'n'}));
})()"""
FOUND = "[...document.querySelectorAll('.md-search-result__link')].map(link => link.getAttribute('href')).join()"
