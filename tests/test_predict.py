"""`emotune predict` on standard input: as lines arrive, in any encoding, of any length, to any reader."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import tiny
from emotune.cli import lines
from emotune.cli.app import app
from emotune.errors import EmotuneWarning, HubError, UsageError
from emotune.inference.classifier import DEFAULT_MAX_WINDOWS, load

HAPPY, FURIOUS, BLAND = "the cat happy", "furious tea drank", "rain fell"
BUFFERED = os.environ | {"PYTHONUNBUFFERED": ""}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("EMOTUNE_MODEL", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def call(*args: object, code: int = 0, stdin: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(app, ["predict", *map(str, args)], input=stdin)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def answers(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@contextmanager
def running(*args: object) -> Iterator[subprocess.Popen[str]]:
    """A process of `emotune predict` with pipes; it gets Ctrl-C even where these tests run in the background."""
    command = [sys.executable, "-m", "emotune", "predict", *map(str, args)]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, text=True, env=BUFFERED, **pipes) as process:
        signal.signal(signal.SIGINT, before)
        try:
            yield process
        finally:
            process.kill()


# Lines as they arrive


def test_each_line_is_answered_before_the_next_arrives(run: Path) -> None:
    with running("-m", run, "--json") as process:
        assert process.stdin
        assert process.stdout
        for text, label in ((HAPPY, "joy"), (FURIOUS, "anger"), (HAPPY, "joy")):
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["labels"] == [label]
        process.stdin.write("no end of line")
        process.stdin.close()
        assert json.loads(process.stdout.readline())["text"] == "no end of line"
        assert process.wait() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix")
def test_a_terminal_is_asked_for_lines_and_answered_line_by_line(run: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "emotune", "predict", "-m", str(run), "--json"]
    pipes: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, stdin=theirs, text=True, env=BUFFERED, **pipes) as process:
        assert process.stdout
        assert process.stderr
        assert process.stderr.readline() == "reading one text a line; end with Ctrl-D\n"
        for text in (HAPPY, FURIOUS):
            os.write(ours, f"{text}\n".encode())
            assert json.loads(process.stdout.readline())["text"] == text
        os.write(ours, b"\x04")
        assert (process.wait(), process.stdout.read(), process.stderr.read()) == (0, "", "")
    os.close(ours)
    os.close(theirs)


def test_an_interruption_keeps_what_was_printed(run: Path) -> None:
    with running("-m", run, "--json") as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(f"{HAPPY}\n{FURIOUS}\nnot yet a li")
        process.stdin.flush()
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        lines = [first, *process.stdout.read().splitlines()]
        assert process.wait() == 130
        assert [json.loads(line)["text"] for line in lines] == [HAPPY, FURIOUS]
        assert json.loads(process.stderr.read())["error"]["message"] == "interrupted"


def test_a_reader_that_has_gone_ends_it_quietly(run: Path) -> None:
    with running("-m", run) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(f"{HAPPY}\n")
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.write(f"{FURIOUS}\n" * 5000)
            process.stdin.close()
        assert (process.stderr.read(), process.wait()) == ("", 0)


def test_many_lines_stay_in_order(run: Path) -> None:
    texts = [f"{(HAPPY, FURIOUS, BLAND)[i % 3]} {'mat ' * (i % 7)}{i}" for i in range(3000)]
    found = answers(call("-m", run, "--json", stdin="\n".join(texts)))
    assert [one["text"] for one in found] == texts
    assert {one["labels"][0] for one in found[::3]} == {"joy"}


@pytest.mark.parametrize(("seconds", "largest"), [(0.1, 131_072), (2.0, 2048)])
def test_blocks_of_lines_grow_while_each_is_answered_soon(
    seconds: float, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(step=seconds)  # it is looked at before and after each block
    monkeypatch.setattr(lines.time, "monotonic", lambda: next(clock))
    content = f"{HAPPY}\n".encode() * 20_000
    monkeypatch.setattr(lines, "open_stdin", lambda: io.BufferedReader(io.BytesIO(content)))
    blocks = list(lines.read_blocks(None, pytest.fail))
    assert [line for block in blocks for line in block.lines] == [HAPPY] * 20_000
    ends = [block.position for block in blocks]
    assert ends[0] == 2048, "the first answers come soon"
    assert max(end - start for start, end in itertools.pairwise(ends)) == largest


def test_the_progress_of_a_long_input_is_on_the_terminal_and_the_results_are_not(run: Path) -> None:
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    args, stdin = ["predict", "-m", str(run), "--json"], f"{HAPPY}\n" * 300
    result = CliRunner().invoke(app, args, input=stdin, env=terminal)
    assert "300 texts" in result.stderr
    assert len(answers(result)) == 300
    for quieter in ([*args, "--quiet"], [*args, HAPPY]):
        assert "texts" not in CliRunner().invoke(app, quieter, input=stdin, env=terminal).stderr


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be-with-mark"])
def test_a_byte_order_mark_goes(encoding: str, run: Path) -> None:
    text = f"{HAPPY}\r\ncafé 😀\r\n"
    content = b"\xfe\xff" + text.encode("utf-16-be") if encoding.endswith("mark") else text.encode(encoding)
    assert [one["text"] for one in answers(call("-m", run, "--json", stdin=content))] == [HAPPY, "café 😀"]


@pytest.mark.parametrize("number", [1, 2, 900, 5000])
@pytest.mark.parametrize("bad", [b"caf\xe9", b"\xff", b"a\xe2\x82"])
def test_a_byte_that_is_not_utf_8_has_its_line_and_the_lines_before_are_answered(
    number: int, bad: bytes, run: Path
) -> None:
    before = [f"café {i}" for i in range(1, number)]
    content = "".join(f"{text}\n" for text in before).encode() + bad + b"\nmore\n"
    result = call("-m", run, "--json", stdin=content, code=2)
    assert [one["text"] for one in answers(result)] == before
    error = json.loads(result.stderr.splitlines()[-1])["error"]
    assert (error["place"], error["exit_code"]) == (f"stdin:{number}", 2)
    assert f"byte 0x{bad.strip(b'caf')[:1].hex()} is not UTF-8" in error["message"]
    assert "--encoding cp1252" in error["hint"]


def test_an_encoding_can_be_named(run: Path) -> None:
    (found,) = answers(call("-m", run, "--json", "--encoding", "cp1252", stdin="caf\xe9 “so”".encode("cp1252")))
    assert found["text"] == "café “so”"
    result = call("-m", run, "--encoding", "ascii", stdin=b"fine\ncaf\xe9", code=2)
    assert "stdin:2: byte 0xe9 is not ASCII" in result.stderr


@pytest.mark.parametrize("mark", [b"\xff\xfe\0\0", b"\0\0\xfe\xff", b""])
def test_utf_32_is_read_after_its_mark_and_named_without_it(mark: bytes, run: Path) -> None:
    order = "be" if mark.startswith(b"\0") else "le"
    content = f"{HAPPY}\r\ncafé 😀\r\n".encode(f"utf-32-{order}")
    if mark:
        assert [one["text"] for one in answers(call("-m", run, "--json", stdin=mark + content))] == [HAPPY, "café 😀"]
    else:
        assert "stdin:1: this is UTF-32" in (said := call("-m", run, stdin=content, code=2).stderr)
        assert "--encoding utf-32-le" in said
    marked = [one["text"] for one in answers(call("-m", run, "--json", "--encoding", f"utf-32-{order}", stdin=content))]
    assert marked == [HAPPY, "café 😀"]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "koi8-r"])
def test_utf_8_that_is_read_in_another_encoding_gets_a_warning(encoding: str, run: Path) -> None:
    content = f"{HAPPY}\n" * 300 + "a café\n" * 2
    result = call("-m", run, "--json", "--encoding", encoding, stdin=content.encode())
    misread = "café".encode().decode(encoding)
    assert answers(result)[-1]["text"] == f"a {misread}"
    assert result.stderr.count("warning:") == 1
    assert all(word in result.stderr for word in (encoding, repr(misread), "'café'", "leave out --encoding"))
    for fine in ("a café\n".encode("cp1252"), b"plain\n"):
        assert call("-m", run, "--encoding", "cp1252", stdin=fine).stderr == ""
    for itself in ("utf-8", "utf-8-sig"):
        assert call("-m", run, "--encoding", itself, stdin=content.encode()).stderr == ""


# Options


def test_options_are_checked_before_the_model_is_loaded(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("the model is loaded first")

    monkeypatch.setattr("emotune.workflows.evaluate.run_model", loaded)  # first: its module would copy the other
    monkeypatch.setattr("emotune.inference.classifier.run_model", loaded)
    for args, found in (
        (["--encoding", "nosuch"], "unknown encoding 'nosuch'"),
        (["--encoding", "nosuch", HAPPY], "unknown encoding 'nosuch'"),
        (["--level", "nosuch", HAPPY], "no level 'nosuch'"),
        (["--device", "nosuch", HAPPY], "unknown device 'nosuch'"),
    ):
        assert found in call("-m", run, *args, code=2).stderr
    result = CliRunner().invoke(app, ["evaluate", str(run), "--level", "nosuch"])
    assert (result.exit_code, "no level 'nosuch'" in result.stderr) == (2, True)


def test_an_encoding_without_stdin_is_ignored_with_a_warning(run: Path) -> None:
    assert "--encoding is ignored" in call("-m", run, "--encoding", "cp1252", HAPPY).stderr


def test_a_device_that_a_kind_does_not_use_is_ignored_with_a_warning(base: Path, tmp_path: Path) -> None:
    run, data = tmp_path / "run", tiny.multi_label(base)
    args = ["train", "emotion-dummy", "--data", str(data), "--out", str(run)]
    assert CliRunner().invoke(app, args).exit_code == 0
    assert "device 'cuda' is ignored: a model of kind dummy" in call("-m", run, "--device", "cuda", HAPPY).stderr
    result = CliRunner().invoke(app, ["evaluate", str(run), "--device", "cuda"])
    assert "device 'cuda' is ignored" in result.stderr
    with pytest.warns(EmotuneWarning, match="device 'cuda' is ignored"):
        load(run, device="cuda")
    with pytest.raises(UsageError, match="unknown device 'nosuch'"):
        load(run, device="nosuch")
    for device in ("auto", "cpu"):
        assert call("-m", run, "--device", device, HAPPY).stderr == ""


@pytest.mark.parametrize("text", ["-_-", "- so sad", "-1 for that", "--> furious", "-.-"])
def test_a_text_that_begins_with_a_dash_is_told_to_follow_two_of_them(text: str, run: Path) -> None:
    said = call("-m", run, text, code=2).stderr
    assert f"no such option: {text}" in said
    assert f"predict -- {shlex.quote(text)}" in said
    assert [one["text"] for one in answers(call("-m", run, "--json", "--", text))] == [text]


def test_a_mistyped_option_is_not_taken_for_a_text(run: Path) -> None:
    said = call("-m", run, "--jsn", HAPPY, code=2).stderr
    assert "--json" in said
    assert " -- " not in said
    error = json.loads(call("-m", run, "--json=1", HAPPY, code=2).stderr)["error"]
    assert "'--json' does not take a value" in error["message"]
    assert error["hint"] == "Write it alone: --json"


# Missing and unfinished models


def test_a_mistyped_run_is_not_looked_for_on_the_hub(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("it asks the hub")

    monkeypatch.setattr("emotune.artifact.manifest.fetch_model", asked)
    for name in ("mymodel", "other"):
        tiny.copy(run, Path("runs", name))
    for given in ("runs/mymodle", "mymodel", "runs/mymodle/model", "./runs/MyModel2"):
        said = call("-m", given, HAPPY, code=66).stderr
        assert f"no model '{given}'" in said
        assert "Did you mean runs/mymodel?" in said
    assert "runs/ has mymodel, other." in call("-m", "runs/xyz", HAPPY, code=66).stderr
    assert "no model" in call("-m", "runs/x\0z", HAPPY, code=66).stderr
    result = CliRunner().invoke(app, ["train", "--resume", "runs/mymodle"])
    assert (result.exit_code, "Did you mean runs/mymodel?" in result.stderr) == (66, True)


def test_a_name_that_the_hub_does_not_have_is_compared_with_local_runs(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise HubError("the hub failed", hint="Try again")

    monkeypatch.setattr("emotune.artifact.manifest.fetch_model", failing)
    tiny.copy(run, Path("runs/mymodel"))
    assert "Did you mean runs/mymodel?" in call("-m", "rnus/mymodel", HAPPY, code=66).stderr
    assert "Try again" in call("-m", "somebody/xyz", HAPPY, code=66).stderr


def test_a_run_without_a_model_says_how_to_resume(run: Path) -> None:
    copy = tiny.copy(run, Path("runs/stopped"))
    shutil.rmtree(copy / "model")
    (copy / "checkpoints").mkdir(exist_ok=True)
    for verb in ("predict -m", "evaluate", "tune"):
        for name in ("runs/stopped", "runs/stopped/model"):
            result = CliRunner().invoke(app, [*verb.split(), name])
            assert result.exit_code == 65
            assert "no model yet" in result.stderr
            assert "emotune train --resume runs/stopped" in result.stderr
    assert "emotune train --resume runs/stopped" in call(HAPPY).stderr


# What is not plain text


@pytest.mark.parametrize(
    ("stdin", "remedy"),
    [
        ('{"id": 1, "tweet": "hello"}\n', "--input FILE.jsonl"),
        ("[\n", "looks like JSON"),
        ('[{"text": "so glad"},\n{"text": "no"}]\n', re.escape("jq -r '.[].text' FILE")),
        ("[{\n", "looks like JSON"),
        ("id,text\n1,hello\n", "the column 'text'.*the header too.*--input FILE --output FILE"),
        ('"id"\t"Comment"\t"label"\n', "the column 'Comment'"),
        ("text\nhello\n", "the column 'text'"),
    ],
)
def test_json_and_tables_on_stdin_are_classified_as_they_stand_with_a_warning(
    stdin: str, remedy: str, run: Path
) -> None:
    result = call("-m", run, "--json", stdin=stdin)
    assert [one["text"] for one in answers(result)] == stdin.splitlines()
    assert re.search(remedy, result.stderr)
    assert result.stderr.count("warning:") == 1


@pytest.mark.parametrize(
    "stdin", [f"{HAPPY}\n", "well, my text, you know\n", "{so happy}\n", "[happy] again\n", "[sighs],\n", "body\n"]
)
def test_plain_text_gets_no_warning(stdin: str, run: Path) -> None:
    assert call("-m", run, stdin=stdin).stderr == ""


def test_the_name_of_a_file_is_a_text_with_a_warning(run: Path) -> None:
    Path("my texts.csv").write_text("text\n")
    result = call("-m", run, "--json", "hello", "my texts.csv")
    assert [one["text"] for one in answers(result)] == ["hello", "my texts.csv"]
    assert "'my texts.csv' is a file" in result.stderr
    assert "emotune predict --input 'my texts.csv' --output FILE" in result.stderr


def test_a_missing_file_and_a_folder_as_a_text_get_a_warning(run: Path) -> None:
    Path("mine").mkdir()
    missing = "--input FILE --output FILE"
    for text, found, remedy in (
        ("notthere.csv", "there is none", missing),
        ("mine", "is a folder", "--input mine --output FOLDER"),
        ("notthere.txt.gz", "is none", missing),
    ):
        result = call("-m", run, "--json", text)
        assert [one["text"] for one in answers(result)] == [text]
        assert found in result.stderr
        assert f"emotune predict {remedy}" in result.stderr
    for text in ("I lost my notes.txt", "...", "."):
        assert call("-m", run, text).stderr == ""


def test_what_is_no_text_on_stdin_is_refused_with_the_remedy(run: Path) -> None:
    for stdin, remedy in (
        (gzip.compress(b"so glad\n"), "gzip -dc FILE | emotune predict"),
        ("so glad\nno".encode("utf-16-le"), "--encoding utf-16-le"),
        ("so glad\nno".encode("utf-16-be"), "--encoding utf-16-be"),
    ):
        result = call("-m", run, stdin=stdin, code=2)
        assert "stdin:1: " in result.stderr
        assert remedy in " ".join(result.stderr.split())
    found = answers(call("-m", run, "--json", "--encoding", "utf-16-le", stdin="so glad\nno".encode("utf-16-le")))
    assert [one["text"] for one in found] == ["so glad", "no"]


# Long and blank texts, and texts without a label


def test_a_very_long_line_is_read_in_some_windows(run: Path) -> None:
    line = "happy rain " * 20_000
    result = call("-m", run, "--json", stdin=f"{line}\n{HAPPY}\n{line}\n")
    long, short, _ = answers(result)
    assert (long["windows"], long["labels"]) == (DEFAULT_MAX_WINDOWS, ["joy"])
    assert (short["windows"], short["unread"]) == (1, 0)
    unread = f"the last {2 * long['unread']:,} characters of them are not read"
    assert (
        f"2 texts are longer than {DEFAULT_MAX_WINDOWS} windows: {unread}. Read more with --max-windows"
        in result.stderr
    )
    result = call("-m", run, "--json", "--max-windows", 1, stdin=line)
    assert "1 text is longer than 1 window: the last" in result.stderr
    assert answers(result)[0]["unread"] > long["unread"]


def test_a_blank_line_has_no_labels(run: Path) -> None:
    result = call("-m", run, stdin=f"{HAPPY}\n \n\n")
    assert result.stdout.splitlines()[1:] == ["(a blank text has no labels)\t ", "(a blank text has no labels)\t"]
    assert result.stderr == "2 texts are blank, without labels\n"
    (found,) = answers(call("-m", run, "--json", ""))
    assert found == {"text": "", "labels": [], "scores": {}, "windows": 0, "unread": 0, "foreign": False, "blank": True}


def test_without_a_label_the_best_three_scores_are_shown(run: Path) -> None:
    (found,) = answers(call("-m", run, "--json", "--threshold", 1, BLAND))
    best = sorted(found["scores"].items(), key=lambda item: -item[1])
    scores = ", ".join(f"{name} {score:.2f}" for name, score in best)
    (line,) = call("-m", run, "--threshold", 1, BLAND).stdout.splitlines()
    assert line == f"(no label passes its threshold; highest: {scores})\t{BLAND}"


def test_no_line_at_all_is_an_error(run: Path) -> None:
    assert "no text given" in call("-m", run, stdin="", code=66).stderr


def test_a_closed_stdin_is_an_error(run: Path) -> None:
    command = f"exec {sys.executable} -m emotune predict -m {run} <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, "no text given" in done.stderr) == (66, True)


def test_a_blank_line_has_no_label_of_a_multi_class_model_either(base: Path) -> None:
    run = tiny.trained(base, tiny.multi_class(base))
    assert [one["labels"] for one in answers(call("-m", run, "--json", stdin=f"{HAPPY}\n\n{FURIOUS}"))] == [
        ["joy"],
        [],
        ["anger"],
    ]


def test_odd_line_breaks_and_a_missing_mark_end_in_no_traceback(run: Path) -> None:
    (found,) = answers(call("-m", run, "--json", stdin=f"{HAPPY}\r{FURIOUS}\r"))
    assert found["text"] == f"{HAPPY}\r{FURIOUS}"
    error = call("-m", run, "--encoding", "utf-16", stdin=HAPPY.encode("utf-16-le"), code=2).stderr
    assert "stdin:1" in error
    assert "looks like" not in call("-m", run, stdin="Text, please call me back\n").stderr
