"""The command line for its users: help, recipes, predictions, pipes and terminals."""

import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner, Result

import emotune
import tiny
from emotune.cli.app import app
from emotune.cli.columns import table_lines
from emotune.cli.compare import show_sentences
from emotune.cli.terminal import Terminal
from emotune.config.loading import load_config, recipe_names
from emotune.reports.tables import Table

OPTIONS = {
    "fetch": ["--out", "--from", "--list", "--quiet", "--json", "EMOTUNE_MIRROR"],
    "": ["--version", "--help", "-h"],
    "inspect": [
        *(
            "--split",
            "--samples",
            "--seed",
            "--encoder",
            "--max-length",
            "--set",
            "--out",
            "--all",
            "--quiet",
            "--json",
        ),
    ],
    "train": ["--data", "--out", "--set", "--device", "--overwrite", "--quiet", "-q", "--json"],
    "tune": [
        *("--method", "--objective", "--shrinkage", "--folds", "--data", "--split", "--device", "--batch-size"),
        *("--beta", "--at-least", "--out", "--calibrate", "--temperatures", "--labels", "--task", "--set"),
        *("--quiet", "--json"),
    ],
    "evaluate": [
        *("--data", "--split", "--level", "--out", "--texts", "--set", "--device", "--batch-size"),
        *("--quiet", "--json"),
    ],
    "predict": [
        *("--model", "-m", "--top-k", "-k", "--threshold", "--level", "--device", "--batch-size", "--quiet", "--json"),
        *("--max-windows", "--encoding"),
        "EMOTUNE_MODEL",
    ],
    "recipes": ["--json", "show"],
    "recipes show": ["--set"],
}
HAPPY, FURIOUS, BLAND = "the cat happy", "furious tea drank", "rain fell"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("EMOTUNE_MODEL", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def call(*args: object, code: int = 0, stdin: str | bytes | None = None, **env: str) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args], input=stdin, env=env)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def predictions(*args: object, stdin: str | None = None) -> list[dict]:
    """The JSON lines of `emotune predict`."""
    return [json.loads(line) for line in call("predict", "--json", *args, stdin=stdin).stdout.splitlines()]


def python(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
    """A Python process of its own."""
    return subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, timeout=120, **options)


# Help, version, recipes


@pytest.mark.parametrize("verb", OPTIONS)
def test_help_lists_every_option(verb: str) -> None:
    shown = call(*verb.split(), "--help").stdout
    for name in OPTIONS[verb]:
        assert name in shown
    assert call(*verb.split(), "-h").stdout == shown


VERBS = (
    "",
    "fetch",
    "inspect",
    "train",
    "tune",
    "ensemble",
    "evaluate",
    "compare",
    "ladder",
    "search",
    "predict",
    "features",
)


@pytest.mark.parametrize("verb", [*VERBS, "recipes", "recipes show"])
def test_help_has_words_for_values_and_no_types_of_python(verb: str) -> None:
    shown = call(*verb.split(), "--help").stdout
    assert not re.search(r"[<>{}](?!=)", shown)
    assert "list[" not in shown


def test_values_have_the_usual_words() -> None:
    shown = call("evaluate", "--help").stdout
    for words in ("--data TEXT", "--out PATH", "--batch-size INT"):
        assert words in shown
    assert "  MODEL  A run directory" in shown


def test_summaries_of_commands_are_never_cut() -> None:
    for columns in ("40", "80"):
        shown = " ".join(call("--help", COLUMNS=columns, TERMINAL_WIDTH=columns).stdout.split())
        assert "Combine models into one: the mean of their logits." in shown
        assert "..." not in shown.replace("[ARGS]...", "")


# Errors


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["evaluate"], "Missing argument 'MODEL'"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["predict", "--no-such-option"], "No such option"),
        (["tune", "m", "--folds", "many"], "Invalid value for '--folds'"),
        (["recipes", "shwo"], "Did you mean 'show'?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_usage_errors_look_like_all_errors(args: list[str], message: str) -> None:
    result = call(*args, code=2)
    first, *others = result.stderr.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert [line.startswith("  See: ") and line.endswith("--help") for line in others] == [True]
    assert result.stdout == ""


def test_errors_are_json_where_results_are(base: Path) -> None:
    """One object on stderr; stdout stays for results."""
    for args, code in ((["evaluate", "nowhere", "--json"], 66), (["evaluate", "--json"], 2)):
        result = call(*args, code=code)
        assert result.stdout == ""
        error = json.loads(result.stderr)["error"]
        assert set(error) == {"message", "place", "hint", "exit_code"}
        assert error["exit_code"] == code
        assert error["message"]
    broken = base / "broken.csv"
    broken.write_text("text,label\na,joy\nb\n")
    error = json.loads(call("inspect", broken, "--json", code=65).stderr.splitlines()[-1])["error"]
    assert error["place"].startswith(f"{broken}:3")


def test_the_version() -> None:
    assert call("--version").stdout == f"emotune {emotune.__version__}\n"


def test_the_recipes() -> None:
    about = json.loads(call("recipes", "--json").stdout)
    assert list(about) == recipe_names()
    lines = call("recipes").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == recipe_names()
    assert not [line for line in lines if line != line.rstrip()]


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_shown_as_resolved(name: str) -> None:
    shown = call("recipes", "show", name, "--set", "training.epochs=7").stdout
    Path("shown.yaml").write_text(shown)
    assert load_config("shown.yaml") == load_config(name, ["training.epochs=7"])


def test_the_command_line_imports_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "accelerate", "matplotlib", "sklearn", "huggingface_hub"}
    program = f"import sys, emotune.cli.app; print(sorted({heavy} & set(sys.modules)))"
    assert python("-c", program).stdout == "[]\n"


@pytest.mark.parametrize(
    "args",
    [["train", "starter"], ["evaluate", "RUN"], ["predict", "-m", "RUN", "hello"], ["tune", "RUN", "--data", "DATA"]],
    ids=lambda args: args[0],
)
def test_without_torch_a_verb_says_what_to_install(args: list[str], run: Path, base: Path) -> None:
    known = {"RUN": str(run), "DATA": str(tiny.multi_label(base))}
    args = [known.get(arg, arg) for arg in args]
    program = (
        f"import sys; sys.modules['torch'] = None; sys.argv[1:] = {args}; from emotune.cli.app import main; main()"
    )
    done = python("-c", program)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "torch, which is not installed\n  pip install '.[train]' (in a clone of emotune)" in done.stderr
    assert "Traceback" not in done.stderr


# Predictions


def test_texts_as_arguments(run: Path) -> None:
    found = predictions("-m", run, HAPPY, FURIOUS, BLAND)
    assert [one["text"] for one in found] == [HAPPY, FURIOUS, BLAND]
    assert [one["labels"] for one in found] == [["joy"], ["anger"], []]
    for one in found:
        assert set(one) == {"text", "labels", "scores", "windows", "unread", "foreign", "blank"}
        assert list(one["scores"]) == ["anger", "fear", "joy"]
        assert all(0 <= score <= 1 for score in one["scores"].values())


def test_texts_as_lines_of_stdin(run: Path) -> None:
    wanted = predictions("-m", run, HAPPY, "", FURIOUS)
    for args in ([], ["-"]):
        for stdin in (f"{HAPPY}\n\n{FURIOUS}\n", f"{HAPPY}\r\n\r\n{FURIOUS}"):
            for found, one in zip(predictions("-m", run, *args, stdin=stdin), wanted, strict=True):
                assert found | {"scores": None} == one | {"scores": None}
                assert found["scores"] == pytest.approx(one["scores"], abs=1e-6)


def test_the_words_for_people(run: Path) -> None:
    both = next(row for row in tiny.multi_label_rows(20) if row.endswith(",0,1,1")).split(",")[0]
    lines = call("predict", "-m", run, HAPPY, BLAND, both).stdout.splitlines()
    scores = predictions("-m", run, HAPPY)[0]["scores"]
    assert lines[0] == f"joy {scores['joy']:.2f}\t{HAPPY}"
    assert lines[1].startswith("(no label passes its threshold; highest: ")
    assert lines[1].endswith(f")\t{BLAND}")
    assert {part.split()[0] for part in lines[2].split("\t")[0].split(", ")} == {"joy", "fear"}


def test_the_highest_scores(run: Path) -> None:
    (whole,), (two,) = predictions("-m", run, HAPPY), predictions("-m", run, "--top-k", 2, HAPPY)
    highest = sorted(whole["scores"], key=whole["scores"].get, reverse=True)[:2]
    assert list(two["scores"]) == highest
    assert two["labels"] == whole["labels"]
    line = call("predict", "-m", run, "-k", 2, BLAND).stdout
    assert len(line.split("\t")[0].split(", ")) == 2


def test_one_threshold_for_all_labels(run: Path) -> None:
    (everything,), (nothing,) = (predictions("-m", run, "--threshold", t, BLAND) for t in (0, 1))
    assert set(everything["labels"]) == {"anger", "fear", "joy"}
    assert nothing["labels"] == []
    assert nothing["scores"] == everything["scores"]


def test_a_coarser_level(base: Path) -> None:
    run = tiny.trained(base, tiny.goemotions(base))
    (fine,), (coarse,) = (predictions("-m", run, *level, "gratitude") for level in ([], ["--level", "sentiment"]))
    assert list(coarse["scores"]) == ["positive", "negative", "ambiguous", "neutral"]
    assert coarse["scores"]["neutral"] == fine["scores"]["neutral"]
    assert max(coarse["scores"].values()) == max(fine["scores"].values())


def test_a_threshold_plays_no_part_in_a_multi_class_model(base: Path) -> None:
    run = tiny.trained(base, tiny.multi_class(base))
    result = call("predict", "-m", run, "--threshold", "0.9", "--json", HAPPY)
    assert "warning: --threshold is ignored" in result.stderr
    (found,) = map(json.loads, result.stdout.splitlines())
    assert found["labels"] == ["joy"]
    assert sum(found["scores"].values()) == pytest.approx(1)


def test_a_text_longer_than_the_model_is_read_in_windows(run: Path) -> None:
    result = call("predict", "-m", run, "--json", f"{BLAND} " * 30 + "happy")
    assert "warning: 1 text is longer than the model's input: read in overlapping windows" in result.stderr
    assert json.loads(result.stdout)["windows"] > 1


def test_the_newest_run_is_taken_when_no_model_is_named(run: Path, tmp_path: Path) -> None:
    for age, name in enumerate(["newest", "older"]):
        manifest = tiny.copy(run, tmp_path / "runs" / name) / "model" / "emotune.json"
        os.utime(manifest, (10**9 - age, 10**9 - age))
    (tmp_path / "runs" / "unfinished").mkdir()
    result = call("predict", "--json", HAPPY)
    assert result.stderr == f"model: {Path('runs/newest')} (the newest in runs/; choose with -m)\n"
    assert json.loads(result.stdout)["labels"] == ["joy"]
    assert call("predict", "--quiet", HAPPY).stderr == ""


def test_the_model_may_be_named_in_the_environment(run: Path) -> None:
    result = call("predict", "--json", HAPPY, EMOTUNE_MODEL=str(run / "model"))
    assert (json.loads(result.stdout)["labels"], result.stderr) == (["joy"], "")
    call("predict", "-m", "nowhere", HAPPY, code=66, EMOTUNE_MODEL=str(run))


# Pipes and terminals


@pytest.mark.parametrize(
    "args",
    [["--help"], ["--version"], ["recipes"], ["recipes", "--json"], ["recipes", "show", "starter"]],
    ids=" ".join,
)
def test_a_reader_that_has_gone_is_no_failure_of_ours(args: list[str]) -> None:
    assert said_into_a_closed_pipe(args) == ""


def said_into_a_closed_pipe(args: list[str]) -> str:
    """The text on stderr when the reader of stdout has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "emotune", *args]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120, env=buffered)
    finally:
        os.close(writer)
    return done.stderr


def test_a_terminal_without_unicode_gets_escapes() -> None:
    args = ["recipes", "show", "starter", "--set", "about=café"]
    done = python("-m", "emotune", *args, env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert (done.returncode, done.stderr) == (0, "")
    assert r"about: caf\xe9" in done.stdout


def test_colours_only_where_they_are_wanted(base: Path) -> None:
    run = tiny.trained(base, tiny.multi_class(base))
    args = ["predict", "-m", run, "--threshold", "0.9", HAPPY]
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    assert "\x1b[33mwarning:" in call(*args, **terminal).stderr
    assert "\x1b" not in call(*args, **terminal, NO_COLOR="1").stderr
    assert "\x1b" not in call(*args).stderr


@pytest.mark.parametrize("seed", range(60))
def test_a_table_on_a_terminal_keeps_every_word_whole(seed: int) -> None:
    random = Random(seed)

    def words() -> list[str]:
        letters = "abcdefghij怒り喜び😡é-–0123."
        return ["".join(random.choices(letters, k=random.randint(1, 12))) for _ in range(random.randint(0, 6))]

    rows = [tuple(" ".join(words()) for _ in range(6)) for _ in range(random.randint(1, 6))]
    wide = [line for part in table_lines(rows, [False] * 6, None) for row in part for line in row]
    assert len(wide) == len(rows), "a pipe gets one line for each row"
    found = [line for part in table_lines(rows, [False] * 6, 60) for row in part for line in row]
    assert all(cell_len(line) <= 60 for line in found)
    whole = Counter(word for line in found for word in line.split())
    assert not Counter(word for row in rows for cell in row for word in cell.split()) - whole


def test_a_table_too_wide_for_the_terminal_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    header = ("label", *(f"column {i}" for i in range(9)))
    table = Table(header, tuple((name, *["0.71–0.77"] * 9) for name in ("curiosity", "disappointment")))

    def shown(columns: str) -> list[str]:
        out = io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setenv("COLUMNS", columns)
        Terminal().table(table, "The title of this table is longer than forty columns are")
        return re.sub("\x1b[^m]*m", "", out.getvalue()).splitlines()

    assert len(shown("40")) == 1 + 3, "not a terminal: a title and three lines, as wide as they need"
    monkeypatch.setenv("FORCE_COLOR", "1")
    narrow = shown("40")
    assert all(len(line) <= 40 for line in narrow)
    assert sum(line.startswith("curiosity") for line in narrow) > 1
    assert all(any(name.split()[1] in line.split() for line in narrow) for name in header[1:])
    assert len(shown("200")) == 1 + 3


def test_messages_break_at_blanks_on_a_terminal_and_not_at_all_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "curiosity " * 12
    Terminal().warn(message)
    assert capsys.readouterr().err == f"warning: {message}\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "44")
    Terminal().info(message)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1
    assert {word for line in lines for word in line.split()} == {"curiosity"}


def test_paragraphs_keep_their_indents(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    Terminal().paragraph("valid.csv:16  curiosity and joy", first="    ", others="      ")
    assert capsys.readouterr().out == "    valid.csv:16\n      curiosity and joy\n"
    Terminal().paragraph("x" * 30, first="- ")
    assert capsys.readouterr().out == "-\n" + "x" * 24 + "\n" + "x" * 6 + "\n"


def test_sentences_keep_the_names_of_runs(capsys: pytest.CaptureFixture[str]) -> None:
    show_sentences(["r1 is best", "each model decides", "r10 is new"], Terminal(), ["r1"])
    assert capsys.readouterr().out.splitlines() == ["r1 is best.", "Each model decides.", "R10 is new."]


def test_pictures_are_named_where_there_are_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().written(tmp_path, "report.md")
    (tmp_path / "x.svg").touch()
    Terminal().written(tmp_path, "report.md")
    assert [line.endswith("report.md") for line in capsys.readouterr().err.splitlines()] == [True, False]


def test_a_progress_bar_only_on_a_terminal(base: Path) -> None:
    args = ["train", "starter", *tiny.options(base, tiny.multi_label(base), epochs=1)]
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    shown = call(*args, **terminal, COLUMNS="120").stderr
    assert "━" in shown
    assert " 0 examples/s" not in shown
    assert "━" not in call(*args, "--overwrite", **terminal, COLUMNS="60").stderr, "no room for a bar"
    assert "━" not in call(*args, "--quiet", **terminal).stderr
    assert "━" not in call(*args).stderr
