"""README.md and docs/*.md say only what works: every block marked `<!-- test -->` is run.

Python blocks are executed where a trained run stands at runs/starter; of the others, each `emotune …` line must be one
that the command line takes.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import tiny
from emotune.cli.app import app

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^<!-- test -->\n+```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list:
    """The marked blocks of a language, each with the place where it stands."""
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start(2)) + 1
            if match[1] == language:
                found.append(pytest.param(match[2], line, path, id=f"{path.name}:{line}"))
    return found or [pytest.param("", 0, ROOT, marks=pytest.mark.skip(reason=f"no ```{language} block is marked"))]


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
    """The arguments of each call of emotune in a piece of shell, without its pipes, redirections and comments."""
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
            if call[:1] == ["emotune"]:
                calls.append(call[1:])
            words = words[end + 1 :]
    return calls


def parse(args: list[str]) -> None:
    """Read arguments as emotune does, without doing anything; fails with what is wrong about them."""
    try:
        idle(get_command(app)).main(args, standalone_mode=False)
    except Exception as error:
        pytest.fail(f"emotune {shlex.join(args)}: {error}")


def idle(command: Any) -> Any:
    """The command such that it and all below it read their arguments and do nothing."""
    command.callback = None
    for below in getattr(command, "commands", {}).values():
        idle(below)
    return command


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        ("emotune train starter # a comment", [["train", "starter"]]),
        ("EMOTUNE_MODEL=x emotune predict 'so; good' | head -1", [["predict", "so; good"]]),
        ("cat a | emotune predict > b && emotune recipes", [["predict"], ["recipes"]]),
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
