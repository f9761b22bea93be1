"""Build the documentation site into site/: docs/, the changelog, and references made from the code itself.

    python scripts/build_site.py

Pages are staged in .site/, where links out of docs/ become plain text, because the site has no other files. Exits
with 1 for a broken link.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

import emotune
from emotune import errors
from emotune.cli.app import app
from emotune.config.kinds import KINDS, FittedKind, TrainedKind
from emotune.config.schema import Config

ROOT = Path(__file__).parents[1]
STAGE = ROOT / ".site"
# public names of modules that `import emotune` leaves out
MORE_NAMES = ("sklearn.EmotionClassifier",)
# pages outside of docs/, by their names on the site
MORE_PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
ITEM, CODE = re.compile(r"(?:[-*]|\d+\.) "), re.compile(r"`[^`]+`")
MARKUP = re.compile(r"([\\`*_|\[\]])")


def stage(folder: Path) -> None:
    """Write the Markdown of all pages, and their pictures, into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    for name in MORE_PAGES:
        shutil.copy(ROOT / name, folder / MORE_PAGES[name])
    here = {f"docs/{path.name}": path.name for path in (ROOT / "docs").iterdir()} | MORE_PAGES
    for source in (*(ROOT / "docs").glob("*.md"), *map(ROOT.joinpath, MORE_PAGES)):
        page = folder / here[source.relative_to(ROOT).as_posix()]
        text = for_python_markdown(relinked(source.read_text(encoding="utf-8"), source.parent, here))
        page.write_text(text, encoding="utf-8")
    for name, text in references().items():
        path = folder / "reference" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def relinked(text: str, folder: Path, pages: dict[str, str]) -> str:
    """Return a page of that folder with its links leading to the pages of the site; other local links become text.

    pages: their names on the site by their paths below the root.
    """

    def replaced(link: re.Match[str]) -> str:
        words, (path, _, anchor) = link[1], link[2].partition("#")
        if "://" in path or not path:
            return link[0]
        name = pages.get(os.path.relpath(folder / path, ROOT))
        return words if name is None else f"[{words}]({name}{'#' * bool(anchor)}{anchor})"

    return LINK.sub(replaced, text)


def for_python_markdown(text: str) -> str:
    """Return a page as Python-Markdown needs it, where that differs from what code hosts read.

    A list that follows a paragraph needs a blank line before it, and a pipe in code within a table no backslash.
    """
    lines, fenced, before = list[str](), False, ""
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        if not fenced and ITEM.match(line) and before and not ITEM.match(before) and not before.startswith(" "):
            lines.append("")
        if not fenced and line.startswith("|"):
            line = CODE.sub(lambda code: code[0].replace("\\|", "|"), line)
        lines.append(line)
        before = line
    return "\n".join(lines) + "\n"


def references() -> dict[str, str]:
    """Return the generated pages by file name."""
    return {"commands.md": commands(), "configuration.md": configuration(), "python.md": python()}


# Commands


class MarkdownHelp:
    """Takes the help of a command in place of Click's formatter, and writes it as Markdown."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.heading = ""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:  # noqa: ARG002 -- "Usage: "
        self.parts.append(f"```text\n{prog} {args}\n```")

    def write_paragraph(self) -> None:
        """Separate paragraphs, which are separate anyway."""

    def write_text(self, text: str) -> None:
        self.parts.append(prose(text))

    def write_dl(self, rows: Iterable[tuple[str, str]], *_: int) -> None:
        self.parts.append(table((self.heading, ""), ((code(name), prose(text)) for name, text in rows)))

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        self.heading = name
        yield

    @contextmanager
    def indentation(self) -> Iterator[None]:
        yield


def commands() -> str:
    """Return the page of all commands, made from their help."""
    parts = ["# Commands", "The help of every command, as `emotune COMMAND --help` prints it."]
    parts += described(typer.main.get_command(app), typer.Context, None, "emotune")
    return "\n\n".join(parts) + "\n"


def described(command: Any, make: Any, parent: Any, name: str) -> list[str]:
    """Return the paragraphs of a command and its subcommands."""
    context, found = make(command, parent=parent, info_name=name), MarkdownHelp()
    command.format_help(context, found)
    parts = [f"## {context.command_path}", *found.parts]
    if hasattr(command, "list_commands"):
        for each in command.list_commands(context):
            parts += described(command.get_command(context, each), make, context, each)
    return parts


# Configuration


def configuration() -> str:
    """Return the page of every key of the configuration."""
    parts = [
        "# Configuration",
        "Every key of a recipe, which `--set SECTION.KEY=VALUE` changes too. `emotune recipes show NAME` prints the "
        "values of a recipe. An unknown key, a wrong value, and a setting without effect are errors.",
        keys_of(Config, "", [name for name, field in Config.keys().items() if field.annotation is str]),
        "A file of your own may begin with `extends: NAME`: keys that it leaves out have the values of that recipe.",
    ]
    for name, field in Config.keys().items():
        if name == "model":
            parts += ["## model", models()]
            for kind in KINDS.values():
                if isinstance(kind, FittedKind | TrainedKind):
                    about = f"{kind.about[:1].upper()}{kind.about[1:]}."
                    parts += [f"### model.kind: {kind.name}", about, keys_of(kind.settings, "model.")]
        elif hasattr(field.annotation, "model_json_schema"):
            parts += [f"## {name}", str(field.annotation.__doc__), keys_of(field.annotation, f"{name}.")]
    return "\n\n".join(parts) + "\n"


def models() -> str:
    """Return the sentence about `model.kind`."""
    default = Config().model.kind
    return f"`model.kind` is the kind of model, `{default}` by default. It decides which other keys there are."


def keys_of(section: Any, prefix: str, only: Sequence[str] = ()) -> str:
    """Return the table of the keys of a section, or of some of them, without the name of a kind."""
    rows = [
        (code(prefix + key), prose(about.get("description", "")), type_of(about), code(value_of(about["default"])))
        for key, about in section.model_json_schema()["properties"].items()
        if "const" not in about and (not only or key in only)
    ]
    return table(("key", "meaning", "type", "default"), rows)


def type_of(schema: dict[str, Any]) -> str:
    """Return the type of a key in words, with its choices or its bounds."""
    if "anyOf" in schema:
        return " or ".join(map(type_of, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(code(value_of(each)) for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list ({type_of(schema['items'])})"
    if schema.get("type") == "null":
        return code("null")
    words = {"string": "text", "boolean": "true or false"}.get(schema["type"], schema["type"])
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[bound]:g}" for bound, sign in bounds.items() if bound in schema]
    return prose(" ".join([words, ", ".join(limits)]).strip())


def value_of(value: Any) -> str:
    """Return a value as YAML writes it."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


# The Python interface


def python() -> str:
    """Return the page of the Python interface: directives that mkdocstrings replaces by the docstrings."""
    parts = [
        "# Python interface",
        "`import emotune` takes no time: heavy libraries are imported when something needs them.",
    ]
    parts += [f"::: emotune.{name}" for name in (*emotune.__all__, *MORE_NAMES) if not name.startswith("_")]
    parts += ["## Errors", f"```text\n{errors.__doc__}```", "::: emotune.errors.Place"]
    return "\n\n".join(parts) + "\n"


# Markdown


def prose(text: str) -> str:
    """Return text as Markdown shows it letter by letter, but for code between backticks."""
    parts = re.split(f"({CODE.pattern})", text.strip())
    return "".join(each if i % 2 else MARKUP.sub(r"\\\1", each).replace("<", "&lt;") for i, each in enumerate(parts))


def code(text: str) -> str:
    """Return text as code within a table."""
    return f"`{text}`"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are Markdown on one line."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |" for line in lines)


def main() -> None:
    """Build the site."""
    stage(STAGE)
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet"]
    # without the advertisement of Zensical, its successor, which reads mkdocs.yml too
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        sys.exit(1)
    print("The site is in site/. To read it with its search: python3 -m http.server --bind 127.0.0.1 --directory site")


if __name__ == "__main__":
    main()
