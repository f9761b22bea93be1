"""README.md and docs/*.md: every block marked `<!-- test -->` works, and every link leads somewhere.

Python blocks are run in a folder with a trained run in runs/starter. In other blocks, the command line must accept each
`emotune …` line. Those of docs/tutorial.md are run.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

import tiny
from emotune.cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^<!-- test -->\n+```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"""\]\(([^)\s]+)\)|src="([^"]+)\"""")


def blocks(language: str) -> list:
    """Return the marked blocks of a language with their places."""
    found = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start(2)) + 1
            if match[1] == language:
                found.append(pytest.param(match[2], line, path, id=f"{path.name}:{line}"))
    return found


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in (a or b for a, b in LINK.findall(page.read_text(encoding="utf-8"))):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_blocks_of_each_page_are_found() -> None:
    pages = {parameters.values[2].name for parameters in blocks("bash")}
    assert pages >= {"README.md", "data.md", "training.md", "evaluation.md", "comparison.md"}
    assert {parameters.values[2].name for parameters in blocks("python")} >= {"README.md", "evaluation.md"}


@pytest.mark.parametrize(("code", "line", "path"), blocks("python"))
def test_a_python_block_runs(
    code: str, line: int, path: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch
) -> None:
    base = tmp_path_factory.getbasetemp()
    tiny.copy(tiny.trained(base, tiny.goemotions(base)), tmp_path / "runs" / "starter")
    monkeypatch.chdir(tmp_path)
    program = compile("\n" * (line - 1) + code, str(path), "exec")
    exec(program, {"__name__": "__main__"})


@pytest.mark.parametrize(("code", "line", "path"), blocks("bash"))
def test_a_bash_block_calls_emotune_as_it_can_be_called(code: str, line: int, path: Path) -> None:
    calls = list(emotune_calls(code))
    assert calls, "a marked block calls emotune, or it tests nothing"
    for args in calls:
        parse(args)


def emotune_calls(code: str) -> list[list[str]]:
    """Return the arguments of each call of emotune in shell code, without pipes, redirections and comments."""
    calls = []
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words = [*lexer, ";"]
        while words:
            end = next(i for i, word in enumerate(words) if set(word) <= set("|&;<>"))
            call = words[:end]
            while call and re.fullmatch(r"\w+=.*", call[0]):
                call = call[1:]
            if call[:1] in (["torchrun"], ["accelerate"]):
                call = call[call.index("emotune") :]
            if call[:1] == ["emotune"]:
                calls.append(call[1:])
            words = words[end + 1 :]
    return calls


def parse(args: list[str]) -> None:
    """Parse arguments as emotune does, without running anything; fails with the error."""
    try:
        idle(get_command(app)).main(args, standalone_mode=False)
    except Exception as error:
        pytest.fail(f"emotune {shlex.join(args)}: {error}")


def idle(command: Any) -> Any:
    """Return the command such that it and its subcommands parse their arguments and do nothing."""
    command.callback = None
    if hasattr(command, "list_commands"):  # a group, whose commands may be imported only when they are asked for
        context = typer.Context(command)
        for name in command.list_commands(context):
            idle(command.get_command(context, name))
    return command


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        ("emotune train starter # a comment", [["train", "starter"]]),
        ("EMOTUNE_MODEL=x emotune predict 'so; good' | head -1", [["predict", "so; good"]]),
        ("cat a | emotune predict > b && emotune recipes", [["predict"], ["recipes"]]),
        ("torchrun --nproc-per-node 2 --module emotune train starter", [["train", "starter"]]),
        ("emotune train starter \\\n  --out x\npip install emotune", [["train", "starter", "--out", "x"]]),
    ],
)
def test_calls_are_found_in_a_piece_of_shell(line: str, calls: list[list[str]]) -> None:
    assert emotune_calls(line) == calls


@pytest.mark.parametrize("line", ["train starter --set a.b=1", "recipes", "recipes show starter", "--version", "-h"])
def test_what_emotune_takes_is_taken(line: str) -> None:
    parse(line.split())


@pytest.mark.parametrize(
    "line", ["train", "train a b", "predict --treshold 1 x", "recipes shew x", "tune x --method y"]
)
def test_what_emotune_does_not_take_is_found_out(line: str) -> None:
    with pytest.raises(pytest.fail.Exception):
        parse(line.split())


# The tutorial, step by step

TUTORIAL = ROOT / "docs" / "tutorial.md"
STEP = re.compile(r"^<!-- (?:file: (\S+)|run) -->\n```(?:python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def follow(folder: Path, run: Callable[[str], None]) -> list[str]:
    """Write the files of the page into the folder, and run its commands there, in their order; return these."""
    commands = []
    for name, content in STEP.findall(TUTORIAL.read_text(encoding="utf-8")):
        if name:
            (folder / name).write_text(content, encoding="utf-8")
            continue
        for line in content.splitlines():
            run(line)
            commands.append(line)
    return commands


def test_the_tutorial_can_be_followed(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All commands, but with a tiny encoder and few steps; the export has tests of its own."""
    monkeypatch.chdir(tmp_path)
    quick = ["--set", f"model.encoder={tiny.encoder(base)}", "--set", "training.max_steps=8"]

    def run(line: str) -> None:
        program, *args = shlex.split(line)
        if program == "python":
            exec(compile(Path(args[0]).read_text(encoding="utf-8"), args[0], "exec"), {"__name__": "__main__"})
        elif program == "emotune" and args[0] != "export" and "feedback-model" not in args:
            result = CliRunner().invoke(app, [*args, *(quick if args[:2] == ["train", "starter"] else [])])
            assert result.exit_code == 0, (line, result.output, result.exception)

    commands = follow(tmp_path, run)
    assert {command.split()[1] for command in commands if command.startswith("emotune")} == {
        *("predict", "explain", "inspect", "train", "evaluate", "compare", "export")
    }
    assert (tmp_path / "runs" / "feedback" / "eval" / "test" / "report.html").is_file()
    assert len((tmp_path / "predicted.csv").read_text().splitlines()) == len(
        (tmp_path / "feedback.csv").read_text().splitlines()
    )


@pytest.mark.slow
def test_the_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def run(line: str) -> None:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
        answers.append(done.stdout)

    answers: list[str] = []
    follow(tmp_path, run)
    assert "question" in answers[-1]
