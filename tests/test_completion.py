"""The completion of bash, as a user's shell runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
COMPLETE = """
source "$SCRIPT"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_emotune_completion emotune
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the command, the script of its completion, two runs and a search."""
    folder = tmp_path_factory.mktemp("shell")
    program = folder / "bin" / "emotune"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom emotune.__main__ import main\nmain()\n")
    program.chmod(0o755)
    for name in ("starter", "words", "search-starter"):
        (folder / "runs" / name).mkdir(parents=True)
        (folder / "runs" / name / "config.yaml").touch()
    (folder / "runs" / "search-starter" / "search.json").touch()
    (folder / "script").write_text(in_bash(folder, "emotune --show-completion; exit $?"))
    return folder


def in_bash(folder: Path, script: str, *args: str) -> str:
    """What bash prints for a script, with the command in its path."""
    env = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "SCRIPT": str(folder / "script")}
    command = ["bash", "-c", script, *args]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("ev",), ["evaluate"]),
        (("tune", "--obj"), ["--objective"]),
        (("evaluate", ""), ["default", "runs/starter", "runs/words"]),
        (("predict", "-m", "runs/w"), ["runs/words"]),
        (("compare", "runs/starter", "runs/w"), ["runs/words"]),
        (("train", "--resume", "runs/"), ["runs/starter", "runs/words"]),
        (("search", "sta"), ["starter"]),
        (("search", "--resume", "runs/"), ["runs/search-starter"]),
        (("recipes", "show", "emotion-f"), ["emotion-features"]),
    ],
)
def test_bash_completes(folder: Path, words: tuple[str, ...], offered: list[str]) -> None:
    """`words`: a command line whose last word is unfinished."""
    assert in_bash(folder, COMPLETE, "bash", "emotune", *words).split() == offered


def test_the_script_of_a_named_shell_is_printed(folder: Path) -> None:
    for shell, sign in (("bash", "complete -o default"), ("zsh", "compdef"), ("fish", "complete --command emotune")):
        done = subprocess.run(
            [folder / "bin" / "emotune"],
            env={**os.environ, "_EMOTUNE_COMPLETE": f"source_{shell}"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert sign in done.stdout


def test_completion_loads_no_heavy_library(folder: Path) -> None:
    code = "import sys; from emotune.cli.app import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    line = {"COMP_WORDS": "emotune train em", "COMP_CWORD": "2", "_EMOTUNE_COMPLETE": "complete_bash"}
    (folder / "emotune").write_text(code)
    done = subprocess.run(
        [sys.executable, folder / "emotune"],
        env={**os.environ, **line},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "emotion-tfidf" in done.stdout
    assert not {"torch", "numpy", "sklearn", "transformers", "onnxruntime"} & set(done.stderr.split())
