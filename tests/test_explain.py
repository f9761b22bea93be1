"""Explanations: each word's contribution is what its removal changes, from few passes, shown in text, JSON and HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import browser
from emotune.artifact.opening import open_model
from emotune.cli import options
from emotune.cli.app import app
from emotune.cli.explain import _MAX_PASSES
from emotune.cli.terminal import Terminal
from emotune.errors import UsageError
from emotune.inference.classifier import DEFAULT_MAX_WINDOWS, EmotionClassifier, Scored, load
from emotune.inference.explain import DEFAULT_MAX_PASSES, occlude, removed
from emotune.reports.explanation import explanation_report, level, pieces
from emotune.reports.writer import write_page
from test_browser import PAYLOADS, TOO_FAINT, TOO_WIDE

RUNS = ["multi_label_run", "multi_class_run"]
TEXT = "my brother was happy today, but the dog felt lonely!"


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Path:
    """A trained run directory, multi-label or multi-class."""
    return Path(request.getfixturevalue(request.param))


class Counting:
    """The backend of a classifier, with the texts that it has scored."""

    def __init__(self, classifier: EmotionClassifier) -> None:
        self._inner, self.texts = classifier._backend, list[str]()
        classifier._backend = self

    def __call__(self, texts: Sequence[str], batch_size: int, max_windows: int | None) -> Scored:
        self.texts += texts
        return self._inner(texts, batch_size, max_windows)


# --- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I don't, can’t.", ["I", "don't", "can’t"]),
        ("a well-known café", ["a", "well-known", "café"]),
        ("no!! what?", ["no", "!!", "what", "?"]),
        ("so :) ... <3!! :D ¯\\_(ツ)_/¯", ["so", ":)", "...", "<3", "!!", ":D", "¯\\_(ツ)_/¯"]),
        ("ok👍🏽👩‍💻😂😂", ["ok", "👍🏽", "👩‍💻", "😂", "😂"]),
        ("❤️🇩🇪🇫🇷!", ["❤️", "🇩🇪", "🇫🇷", "!"]),
        ("thanks [NAME]!", ["thanks", "[NAME]", "!"]),
        ("(yes)[x y]", ["(", "yes", ")[", "x", "y", "]"]),
        (".", []),
        ("", []),
    ],
)
def test_words_emoji_and_punctuation(text: str, words: list[str]) -> None:
    found = occlude(text, 1, 100).words
    assert [word.word for word in found] == words
    assert [text[word.start : word.end] for word in found] == words


@pytest.mark.parametrize(
    ("text", "word", "without"),
    [
        ("so happy today", "happy", "so today"),
        ("so happy", "happy", "so"),
        ("so happy", "so", "happy"),
        ("happy!!but", "!!", "happy but"),
        ("a (b)", "(", "a b)"),
        ("happy", "happy", ""),
        ("fine 👍", "👍", "fine"),
    ],
)
def test_a_removed_word_doubles_no_blank_and_joins_no_words(text: str, word: str, without: str) -> None:
    start = text.index(word)
    assert removed(text, start, start + len(word)) == without


# --- contributions -----------------------------------------------------------------------------------------------


def test_a_contribution_is_what_the_removal_changes(run: Path) -> None:
    classifier = load(run, device="cpu")
    (found,) = classifier.explain(TEXT)
    assert found.contributions.shape == (len(found.words), len(classifier.labels))
    whole = classifier.predict_proba(TEXT)[0]
    for i, word in enumerate(found.words):
        without = classifier.predict_proba(removed(TEXT, word.start, word.end))[0]
        np.testing.assert_allclose(found.contributions[i], whole - without, atol=1e-5)
    prediction = classifier(TEXT)[0]
    assert (found.text, found.labels, found.scores) == (TEXT, prediction.labels, prediction.scores)


def test_the_words_of_an_emotion_contribute_most_to_it(multi_label_run: Path) -> None:
    happy, scared = load(multi_label_run).explain(["the dog was happy today", "my friend heard the scared dog"])
    assert happy.top("joy", 1)[0][0].word == "happy"
    assert scared.top("fear", 1)[0][0].word == "scared"
    assert scared.top("fear", 2) == scared.top("fear")[:2]
    np.testing.assert_array_equal(scared.of("fear"), scared.contributions[:, 1])
    with pytest.raises(KeyError):
        scared.of("boredom")


def test_equal_variants_are_scored_once_and_equal_texts_explained_once(multi_label_run: Path) -> None:
    classifier = load(multi_label_run)
    backend = Counting(classifier)
    found = classifier.explain(["sad sad sad", "sad sad glad", "sad sad sad"])
    assert found[0] is found[2]
    assert sorted(backend.texts) == sorted(["sad sad sad", "sad sad glad", "sad sad", "sad glad"])
    assert len(set(found[0].of("sadness").tolist())) == 1


def test_of_a_long_text_the_passes_are_bounded(multi_label_run: Path) -> None:
    classifier = load(multi_label_run)
    backend = Counting(classifier)
    text = " ".join(f"word{i}" for i in range(30))
    (found,) = classifier.explain(text, max_passes=7)
    assert len(found.words) == 6
    assert len(backend.texts) == 7
    assert found.words[0].word == "word0 word1 word2 word3 word4"
    assert [word.end + 1 for word in found.words[:-1]] == [word.start for word in found.words[1:]]


def test_a_word_of_a_long_text_changes_only_its_own_window(run: Path) -> None:
    classifier = load(run, device="cpu")
    backend = Counting(classifier)
    text = f"{'the rain was cold ' * 30}furious {'the letter came again ' * 30}"
    (found,) = classifier.explain(text, max_passes=10_000)
    assert classifier(text)[0].windows > 3
    assert max(map(len, backend.texts[1:-1])) < len(text) / 2  # but the whole text, which is predicted at first
    furious = [word.word for word in found.words].index("furious")
    assert found.of("anger")[furious] > 0
    assert len(found.words) == 241
    (far,) = classifier.explain(text, max_windows=1)
    assert max(word.end for word in far.words) < text.index("furious")


def test_the_contributions_of_parts_are_those_of_the_averaged_logits() -> None:
    """For a model whose logits are means over words, removing a word from its part is exact in the logits."""
    words = {"good": 3.0, "bad": -2.0}
    classifier = load_fake(words)
    text = "good day bad day one two good three"
    (found,) = classifier.explain(text)
    assert [word.word for word in found.words] == text.split()
    logit = sum(words.get(word, 0.0) for word in text.split()) / 8
    part = [3.0, 0.0, -2.0, 0.0]
    without = logit - (sum(part) / 4 - sum(part[1:]) / 3) / 2
    expected = 1 / (1 + np.exp(-logit)) - 1 / (1 + np.exp(-without))
    assert found.of("joy")[0] == pytest.approx(expected)


def load_fake(values: dict[str, float]) -> EmotionClassifier:
    """A classifier of one label that reads windows of 4 words; its logits are the mean value of the words."""
    from emotune.artifact.manifest import FORMAT_VERSION, Manifest
    from emotune.decision import Decision
    from emotune.labels import LabelSet

    def backend(texts: Sequence[str], batch_size: int, max_windows: int | None) -> Scored:
        means = [np.mean([values.get(word, 0.0) for word in text.split()] or [0.0]) for text in texts]
        windows = np.array([-(-len(text.split()) // 4) for text in texts], dtype=np.int64)
        logits = np.array(means, dtype=np.float32).reshape(-1, 1)
        return Scored(logits, windows, np.zeros(len(texts), dtype=np.int64))

    manifest = Manifest(
        format_version=FORMAT_VERSION,
        kind="tfidf",
        portability="emotune",
        encoder="",
        max_tokens=None,
        versions={},
        data={},
        files={},
    )
    return EmotionClassifier(backend, Decision.default(LabelSet(("joy",))), manifest)


def test_blank_texts_texts_without_words_and_single_words(multi_label_run: Path) -> None:
    blank, dot, one, none = load(multi_label_run).explain([" \u200b", ".", "happy", ""])
    assert (blank.words, blank.scores, blank.contributions.shape) == ((), {}, (0, 0))
    assert (dot.words, dot.contributions.shape) == ((), (0, 4))
    assert [word.word for word in one.words] == ["happy"]
    empty = {"text": "", "labels": [], "scores": {}, "windows": 0, "unread": 0, "foreign": False, "blank": True}
    assert none.to_json() == empty | {"words": []}


def test_what_cannot_be_explained_is_an_error(multi_label_run: Path) -> None:
    classifier = load(multi_label_run)
    with pytest.raises(TypeError, match=r"texts\[1\]"):
        classifier.explain(["a", 2])
    with pytest.raises(UsageError, match="max_passes"):
        classifier.explain("a", max_passes=0)
    assert classifier.explain([]) == []


def test_explanations_show_themselves_and_become_frames(multi_label_run: Path) -> None:
    found = load(multi_label_run).explain(["the dog was <b>happy</b>", ""])
    assert "happy +" in repr(found[0])
    for shown in (found, found[0]):
        assert re.search(r"<td[^>]*>joy</td>.*happy \+0\.", shown._repr_html_())
        assert "&lt;" in shown._repr_html_()
        assert "color" not in shown._repr_html_(), "those of the page serve its light and its dark mode"
    assert "blank text" in found._repr_html_()
    pytest.importorskip("pandas")
    frame = found[:1].to_frame()
    assert list(frame) == ["text", "word", "start", "end", *found[0].scores]
    assert frame["joy"].tolist() == found[0].of("joy").tolist()
    assert not len(found[1:].to_frame())


# --- showing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "shown"), [(0.019, 0), (0.02, 1), (-0.1, -2), (0.25, 3), (-0.9, -4), (0.0, 0)])
def test_levels(value: float, shown: int) -> None:
    assert level(value) == shown


def test_the_pieces_are_the_text(multi_label_run: Path) -> None:
    (found,) = load(multi_label_run).explain(TEXT)
    assert "".join(piece.text for piece in pieces(found, "joy")) == TEXT
    assert {piece.text: piece.style for piece in pieces(found, "joy")}["happy"].startswith("for-")


def explained(*args: str, stdin: str | None = None):
    return CliRunner().invoke(app, ["explain", *args], input=stdin)


def test_the_command_names_labels_and_words(multi_label_run: Path) -> None:
    model = ["-m", str(multi_label_run)]
    done = explained(*model, "the dog was happy", "", "--top", "1")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "the dog was happy"
    assert lines[1].startswith("  joy ")
    assert ": happy +" in lines[1]
    assert "blank" in done.stdout
    assert "\x1b" not in done.stdout
    shown = explained(*model, "the dog was happy", "--labels", "fear, anger,fear").stdout
    assert shown.count("fear") == 1
    assert "joy" not in shown


def test_colours_are_those_of_the_levels(multi_label_run: Path, monkeypatch, capsys) -> None:
    from emotune.cli.explain import _show

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    (found,) = load(multi_label_run).explain("the dog was happy")
    _show(found, ["joy"], 3, Terminal())
    assert re.search("\x1b\\[(1;)?3[02](;42)?mhappy\x1b\\[0m", capsys.readouterr().out)
    monkeypatch.setenv("NO_COLOR", "1")
    _show(found, ["joy"], 3, Terminal())
    assert "\x1b" not in capsys.readouterr().out


def test_json_has_places_and_contributions_line_by_line(multi_label_run: Path) -> None:
    model = ["-m", str(multi_label_run)]
    done = explained(*model, "--json", stdin="the dog was happy\n\nso sad 😢\n")
    first, blank, last = map(json.loads, done.stdout.splitlines())
    assert list(first) == ["text", "labels", "scores", "windows", "unread", "foreign", "blank", "words"]
    assert (first["blank"], first["windows"], first["foreign"]) == (False, 1, False)
    assert (blank["blank"], blank["words"]) == (True, [])
    assert "1 text is blank" in done.stderr
    assert [word["word"] for word in last["words"]] == ["so", "sad", "😢"]
    for word in last["words"]:
        assert last["text"][word["start"] : word["end"]] == word["word"]
        assert list(word["contributions"]) == list(last["scores"])
    only = json.loads(explained(*model, "--json", "--labels", "joy", "so glad").stdout)
    assert [list(word["contributions"]) for word in only["words"]] == [["joy"], ["joy"]]


def test_long_and_foreign_texts_are_told_as_by_predict(multi_label_run: Path, tmp_path: Path) -> None:
    model = ["-m", str(multi_label_run)]
    long = explained(*model, "--json", "--max-windows", "2", "the dog was happy " * 60)
    found = json.loads(long.stdout)
    assert (found["windows"], found["unread"] > 0) == (2, True)
    assert found["words"][-1]["end"] <= len(found["text"]) - found["unread"]
    assert "longer than 2 windows" in long.stderr
    foreign = explained("-m", "default", "--json", "Ich bin heute so traurig und müde")
    assert json.loads(foreign.stdout)["foreign"] is True
    assert "probably not English" in foreign.stderr
    (tmp_path / "texts.txt").write_text("x")
    named = explained(*model, str(tmp_path / "texts.txt"))
    assert f"emotune explain < {tmp_path / 'texts.txt'}" in named.stderr


def test_the_defaults_of_the_command_are_those_of_the_classifier() -> None:
    assert _MAX_PASSES == DEFAULT_MAX_PASSES
    assert options.DEFAULT_MAX_WINDOWS == DEFAULT_MAX_WINDOWS


def test_an_unknown_label_and_no_text_are_errors(multi_label_run: Path) -> None:
    model = ["-m", str(multi_label_run)]
    unknown = explained(*model, "x", "--labels", "joi")
    assert unknown.exit_code == 2
    assert "Did you mean 'joy'?" in unknown.stderr
    nothing = explained(*model, stdin="")
    assert nothing.exit_code == 66
    assert "no text given" in nothing.stderr


def test_the_page_is_one_file_that_shows_texts_as_text(multi_label_run: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    done = explained("-m", str(multi_label_run), "so happy", PAYLOADS[-1], "", "--html", str(page))
    assert done.exit_code == 0, done.output
    assert [file.name for file in page.parent.iterdir()] == ["page.html"]
    html = page.read_text(encoding="utf-8")
    assert "default-src &#39;none&#39;" in html
    assert '<span class="for-' in html
    assert PAYLOADS[-1] not in html
    assert "<nav" not in html  # a page of one part needs no list of parts
    assert "<meta http-equiv=refresh" not in html
    for place in (page / "below.html", page.parent, "."):
        blocked = explained("-m", str(multi_label_run), "so happy", "--html", str(place))
        assert (blocked.exit_code, blocked.stdout) == (73, ""), "the place is checked first"
        assert "--html FILE" in blocked.stderr


@pytest.mark.slow
@pytest.mark.skipif(browser.find() is None, reason="no browser is installed")
def test_the_page_fits_and_can_be_read(multi_label_run: Path, tmp_path: Path) -> None:
    found = load(multi_label_run).explain([*PAYLOADS, TEXT, "furious " * 60])
    assert open_model(str(multi_label_run)).decision.labels.names == tuple(found[0].scores)
    write_page(explanation_report(found, ("joy", "anger", "sadness"), "a model"), tmp_path / "page.html")
    program = browser.find()
    assert program is not None
    with browser.Browser(program, tmp_path / "profile") as chromium:
        for width in (360, 1280):
            for scheme in ("light", "dark"):
                chromium.show(width, scheme)
                chromium.open((tmp_path / "page.html").as_uri())
                chromium.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
                assert chromium.evaluate("window.ran") is None
                assert chromium.evaluate(TOO_WIDE) == []
                assert chromium.evaluate(TOO_FAINT) == []
                assert chromium.seen("Runtime.exceptionThrown", "Log.entryAdded", "Audits.issueAdded") == []
