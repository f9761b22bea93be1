"""The page of `emotune serve`: its policy, and what it does in a real browser."""

from __future__ import annotations

import base64
import csv
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import browser
import emotune
from browser import Browser
from emotune.artifact.manifest import DEFAULT
from emotune.cli.app import app
from emotune.data.formats.columns import TEXT_COLUMNS
from emotune.inference.classifier import EmotionClassifier
from emotune.reports.explanation import LEVELS, pieces
from emotune.serving.page import page
from served import Server, serving
from test_browser import OUTSIDE, PAYLOADS, TOO_FAINT, TOO_WIDE

PROGRAM = browser.find()
in_browser = pytest.mark.skipif(
    PROGRAM is None, reason=f"no browser is installed; looked for {', '.join(browser.NAMES)}"
)
HTML, POLICY = page()
REPORT_STYLE = (Path(emotune.__file__).parent / "reports" / "report.css").read_text(encoding="utf-8")
TEXT = "I can't believe I got the job 😂, so proud!"
HOSTILE = (
    *PAYLOADS,
    "safe \u202egnp.exe\u202c text \u2066isolated",
    "x" * 3000,
    "👩‍👩‍👧‍👧 so happy 🏳️‍🌈 \u0301\u0301\u0301",
    "=cmd|' /C calc'!A0",
    "__proto__ constructor",
)
KEY = "a-key-of-the-tests"
COMPLAINTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Audits.issueAdded")


@pytest.fixture(scope="module")
def offline() -> EmotionClassifier:
    return emotune.load(DEFAULT, threads=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, "default", "again=default", "--max-texts", 64, key=KEY) as found:
        yield found


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path_factory.mktemp("profile")) as found:
        entered = f"try {{ sessionStorage.setItem('emotune-key', '{KEY}') }} catch {{}}"
        found.call("Page.addScriptToEvaluateOnNewDocument", source=entered)
        yield found


@pytest.fixture
def chromium(profile: Browser, server: Server) -> Iterator[Browser]:
    """The page, freshly opened. Nothing was reported by the browser when the test has ended."""
    profile.show(1280, "light")
    opened(profile, server)
    yield profile
    assert [event for event in profile.seen(*COMPLAINTS) if "(Request Entity Too Large)" not in str(event)] == []


def opened(chromium: Browser, server: Server) -> None:
    chromium.open(server.url + "/")
    chromium.wait_for("!document.getElementById('main').hidden")


def typed(chromium: Browser, text: str, *, words: bool = True) -> None:
    """Type a text in the place of another, and wait for its labels, and its words."""
    chromium.evaluate("document.getElementById('text').select(); document.getElementById('text').focus()")
    chromium.evaluate("document.getElementById('answer').textContent = ''")
    chromium.type(text)
    chromium.wait_for("document.getElementById('answer').textContent")
    if words:
        chromium.wait_for("document.querySelector('#explained:not([hidden]):not(.stale)')")


def labels_shown(chromium: Browser, rows: str = "#labels .row:not([hidden])") -> list[list[Any]]:
    """The name, the number and the emphasis of each label that is in sight."""
    return chromium.evaluate(f"""[...document.querySelectorAll('{rows}')].map(row => [
        row.querySelector('bdi').textContent, row.querySelector('.number span').textContent,
        row.classList.contains('strong')])""")


def click(chromium: Browser, selector: str) -> None:
    chromium.evaluate(f"document.querySelector({selector!r}).click()")


def answer_next(chromium: Browser, status: int, content: str = "{}", **headers: str) -> None:
    """Answer the next request in the server's place."""
    request = chromium.wait_event("Fetch.requestPaused")
    listed = [{"name": name.replace("_", "-"), "value": value} for name, value in headers.items()]
    body = base64.b64encode(content.encode()).decode()
    chromium.call(
        "Fetch.fulfillRequest", requestId=request["requestId"], responseCode=status, responseHeaders=listed, body=body
    )


def without_network_errors(chromium: Browser) -> None:
    """Forget what Chromium itself logs about answers that are errors."""
    chromium.events[:] = [
        event for event in chromium.events if event.get("params", {}).get("entry", {}).get("source") != "network"
    ]


# --- the file --------------------------------------------------------------------------------------------------------


def test_the_page_loads_nothing_and_its_policy_allows_its_own_parts_alone() -> None:
    assert len(re.findall("<script", HTML)) == POLICY.split("; style-src")[0].count("sha256-") == 2
    assert len(re.findall("<style", HTML)) == POLICY.split("; style-src")[1].count("sha256-") == 1
    assert "unsafe" not in POLICY
    assert "trusted-types 'none'" in POLICY
    assert not re.search(
        r"""(src|srcset|action)=|@import|url\(|\sstyle=|\son\w+=|https?://(?!www\.w3\.org/2000/svg)""", HTML
    )
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|localStorage", HTML)


def test_the_page_is_served_without_the_key(server: Server) -> None:
    answer = server.get("/")
    assert (answer.status, answer.body.decode(), answer.headers["content-security-policy"]) == (200, HTML, POLICY)
    described = server.get("/openapi.json").json["paths"]["/"]["get"]
    assert list(described["responses"]["200"]["content"]) == [answer.headers["content-type"].split(";")[0]]
    assert "security" not in described


def test_the_page_agrees_with_the_package() -> None:
    colours = re.findall(r"^ +(--[\w-]+: #\w+);", HTML, re.MULTILINE)
    reported = re.findall(r"^ +(--[\w-]+: #\w+);", REPORT_STYLE, re.MULTILINE)
    assert len(colours) > 30
    assert set(colours) <= set(reported)
    names = re.search(r"TEXT_COLUMNS = \[(.*?)\];", HTML)
    assert names is not None
    assert tuple(re.findall(r'"(\w+)"', names[1])) == TEXT_COLUMNS
    assert f"STRENGTHS = {list(LEVELS)};" in HTML


def test_the_offline_page_can_replace_the_engine() -> None:
    assert len(re.findall(r'<script id="engine">.*?</script>', HTML, re.DOTALL)) == 1
    script = HTML.partition('<script id="page">')[2]
    assert not re.search(r"fetch\(|location\b|sessionStorage|XMLHttpRequest", script)


# --- one text --------------------------------------------------------------------------------------------------------


@in_browser
def test_a_text_has_its_labels_scores_and_words_as_it_is_typed(chromium: Browser, offline: EmotionClassifier) -> None:
    explanation = offline.explain(TEXT)[0]
    typed(chromium, TEXT)
    assert chromium.evaluate("document.getElementById('answer').textContent") == ", ".join(explanation.labels)
    ranked = sorted(explanation.scores, key=lambda name: (name not in explanation.labels, -explanation.scores[name]))
    shown = labels_shown(chromium)
    assert [row[0] for row in shown] == ranked[:10]
    assert [row[1] for row in shown] == [f"{explanation.scores[name]:.2f}" for name in ranked[:10]]
    assert [row[2] for row in shown] == [name in explanation.labels for name in ranked[:10]]
    thresholds = dict(zip(offline.labels.names, offline.decision.thresholds, strict=True))
    ticks = chromium.evaluate(
        "[...document.querySelectorAll('#labels .row b')].map(e => parseFloat(e.style.insetInlineStart))"
    )
    assert ticks == pytest.approx([100 * thresholds[name] for name in ranked], abs=1e-3)
    click(chromium, "#all")
    assert len(labels_shown(chromium)) == 28
    for label in (ranked[0], "joy", "sadness"):
        click(chromium, f"#labels input[value={label}]")
        marked = chromium.evaluate("""[...document.querySelectorAll('#words span')].map(e => [e.textContent,
            Number(e.className.slice(-1)) * (e.className.startsWith('for') ? 1 : -1)])""")
        assert marked == [[each.text, each.level] for each in pieces(explanation, label) if each.level]
        assert chromium.evaluate("document.getElementById('words').textContent") == TEXT


@in_browser
def test_a_long_text_is_explained_when_it_is_asked_for(chromium: Browser) -> None:
    typed(chromium, "so " + "happy" * 60, words=False)
    chromium.wait_for("!document.getElementById('explain').hidden")
    assert chromium.evaluate("document.getElementById('explained').hidden")
    click(chromium, "#labels input")
    chromium.wait_for("document.querySelector('#explained:not([hidden]):not(.stale)')")
    assert chromium.evaluate("document.getElementById('explain').hidden")


@in_browser
def test_levels_and_models_are_switched(chromium: Browser, offline: EmotionClassifier) -> None:
    typed(chromium, TEXT)
    levels = chromium.evaluate("[...document.querySelectorAll('#levels label')].map(e => e.textContent)")
    assert levels[:3] == ["28 labels", "Ekman", "Sentiment"]
    for i, level in ((1, "ekman"), (2, "sentiment")):
        expected = offline.predict(TEXT, level=level)[0]
        chromium.evaluate(f"document.querySelectorAll('#levels input')[{i}].click()")
        chromium.wait_for(f"document.querySelectorAll('#labels .row').length == {len(expected.scores)}")
        assert {row[0]: row[1] for row in labels_shown(chromium)} == {k: f"{v:.2f}" for k, v in expected.scores.items()}
        assert [row[0] for row in labels_shown(chromium) if row[2]] == list(expected.labels)
        assert chromium.evaluate("document.querySelectorAll('#labels input:enabled').length") == 0
        assert chromium.evaluate("document.getElementById('explained').hidden")
    click(chromium, "#levels input")
    chromium.wait_for("!document.getElementById('explained').hidden")
    chromium.evaluate(
        "{const m = document.getElementById('model'); m.value = 'again'; m.dispatchEvent(new Event('change'))}"
    )
    assert "again" in chromium.evaluate("document.getElementById('facts').textContent")
    chromium.wait_for("document.querySelector('#explained:not([hidden]):not(.stale)')")


@in_browser
def test_hostile_texts_stay_texts(chromium: Browser, tmp_path: Path) -> None:
    text = " ".join(HOSTILE[i] for i in (1, 7, 8, 9, -5, -3))
    assert "\u202e" in text
    assert len(text) <= 300
    typed(chromium, text)
    assert chromium.evaluate("document.getElementById('words').textContent") == text
    assert chromium.evaluate(TOO_WIDE) == []
    file = tmp_path / "<img src=x onerror=window.ran=1>.csv"
    with file.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([["text", PAYLOADS[-1]], *([text, text] for text in HOSTILE)])
    chromium.drop(file)
    predicted(chromium, len(HOSTILE))
    shown = chromium.evaluate("[...document.querySelectorAll('#rows tr')].map(row => row.cells[1].textContent)")
    assert shown == [text[:1000] for text in HOSTILE]
    chromium.show(360, "light")
    assert chromium.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert chromium.evaluate("window.ran") is None
    assert chromium.evaluate("document.images.length + frames.length + document.querySelectorAll('iframe').length") == 0
    assert chromium.seen("Page.javascriptDialogOpening") == []
    requests = [event["params"]["request"]["url"] for event in chromium.seen("Network.requestWillBeSent")]
    assert not any(url.startswith(OUTSIDE) for url in requests)


@in_browser
def test_markup_in_a_script_is_refused_by_the_policy(profile: Browser, server: Server) -> None:
    opened(profile, server)
    refused = "(() => { try { document.body.innerHTML = '<b>x</b>'; return 'set'; } catch (e) { return e.name; } })()"
    assert profile.evaluate(refused) == "TypeError"


@in_browser
def test_everything_is_reached_by_keys(chromium: Browser) -> None:
    def focused() -> str:
        return chromium.evaluate(
            "document.activeElement.id || document.activeElement.name || document.activeElement.textContent"
        )

    def tab_to(name: str, *, back: bool = False) -> None:
        for _ in range(20):
            chromium.press("Tab", shift=back)
            if focused() == name:
                return
        raise AssertionError(f"{name} is not reached")

    assert focused() == "text"
    chromium.type("so proud of you")
    chromium.press("Enter", ctrl=True)
    chromium.wait_for("document.querySelector('#explained:not([hidden]):not(.stale)')")
    tab_to("label")
    outline = "getComputedStyle(document.querySelector('.row:has(:focus-visible)')).outlineStyle"
    assert chromium.evaluate(outline) == "solid"
    first, second = (row[0] for row in labels_shown(chromium)[:2])
    assert chromium.evaluate("document.querySelector('#words-of bdi').textContent") == first
    chromium.press("ArrowDown")
    assert chromium.evaluate("document.querySelector('#words-of bdi').textContent") == second
    tab_to("level", back=True)
    chromium.press("ArrowRight")
    chromium.wait_for("document.querySelectorAll('#labels .row').length == 7")
    tab_to("tab-one", back=True)
    chromium.press("ArrowRight")
    assert focused() == "tab-many"
    tab_to("lines")
    chromium.type("so happy\nso sad\nwho are you?")
    tab_to("go")
    chromium.press("Enter")
    chromium.wait_for("!document.getElementById('result').hidden && document.getElementById('running').hidden")
    assert focused() == "download"
    assert labels_shown(chromium, "#counts .row")[0][:2] == ["all texts", "3"]


@in_browser
def test_it_fits_and_can_be_read(chromium: Browser, tmp_path: Path) -> None:
    def require_readable() -> None:
        for width in (375, 1280):
            for scheme in ("light", "dark"):
                chromium.show(width, scheme)
                assert (
                    chromium.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                    == 0
                )
                assert chromium.evaluate(TOO_WIDE.replace(".scroll", ".scroll, .strip, .segments, .sr")) == []
                assert chromium.evaluate(TOO_FAINT) == []

    typed(chromium, TEXT)
    chromium.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    require_readable()
    file = tmp_path / "a.csv"
    file.write_text("id,comment,a long name of a column\n" + "1,so happy and so sad,x\n2,,\n" * 3, encoding="utf-8")
    chromium.drop(file)
    chromium.wait_for("!document.getElementById('source').hidden")
    require_readable()
    predicted(chromium, 6)
    require_readable()


@in_browser
def test_every_control_has_a_name(chromium: Browser) -> None:
    click(chromium, "#tab-many")
    chromium.call("Accessibility.enable")
    nodes = chromium.call("Accessibility.getFullAXTree")["nodes"]
    controls = [node for node in nodes if node.get("role", {}).get("value") in CONTROLS and not node["ignored"]]
    assert len(controls) > 5
    assert [node["role"]["value"] for node in controls if not node.get("name", {}).get("value", "").strip()] == []
    chromium.call("Accessibility.disable")


CONTROLS = (
    "button",
    "checkbox",
    "radio",
    "textbox",
    "searchbox",
    "combobox",
    "tab",
    "tabpanel",
    "progressbar",
)


# --- many texts ------------------------------------------------------------------------------------------------------


def predicted(chromium: Browser, number: int) -> None:
    """Start the prediction of the texts that were read, and wait for its end."""
    chromium.wait_for(f"document.getElementById('go').textContent.startsWith('Predict {number:,} text')")
    click(chromium, "#go")
    chromium.wait_for("!document.getElementById('result').hidden && document.getElementById('running').hidden")
    assert chromium.evaluate("document.getElementById('trouble').textContent") == ""


def downloaded(chromium: Browser, folder: Path, button: str = "#download") -> bytes:
    """Press a download button; return the file."""
    folder.mkdir(exist_ok=True)
    chromium.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=True)
    click(chromium, button)
    while chromium.wait_event("Browser.downloadProgress")["state"] != "completed":
        pass
    [file] = folder.iterdir()
    content = file.read_bytes()
    file.unlink()
    return content


def by_command(file: Path, *args: str) -> bytes:
    """The output of `emotune predict` for the same file."""
    out = file.with_name("expected" + file.suffix.replace("txt", "csv"))
    found = CliRunner().invoke(
        app, ["predict", "--input", str(file), "--output", str(out), "--overwrite", "-m", "default", *args]
    )
    assert found.exit_code == 0, found.output
    return out.read_bytes()


FEW = ("quotes.csv", "tabs.tsv", "lines.txt")
FILES = {
    "quotes.csv": b'id,comment,n\n1,"so ""happy"", really",2\n2,"two\nlines, so sad",3\n3,,4\n4,thanks a lot,-5\n',
    "marked.csv": '\ufefftext;größe\nso happy 😀;1\n"a;b";2\n'.encode(),
    "tabs.tsv": b'n\ttext\n1\tshe said "wow"\n2\t"open" quote\n3\tthank you\n',
    "named.csv": b"sep=;\na;text\n1;so proud of you\n",
    "taken.csv": b"text,labels,joy\nso happy,x,1\n",
    "lines.txt": b"so happy\n\n=1+1 is sad\r\nwho, me?\n",
    "cr.csv": b"text,n\r\nso happy,1\r\nso sad,2\r\n",
    "none.csv": b"who are you,really\n",
}


@in_browser
@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in FILES]
)
def test_a_download_has_the_bytes_of_predict(chromium: Browser, name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(FILES[name])
    chromium.drop(file)
    chromium.wait_for("!document.getElementById('source').hidden")
    click(chromium, "#go")
    chromium.wait_for("!document.getElementById('result').hidden && document.getElementById('running').hidden")
    if name == "none.csv":  # a header is added here
        assert downloaded(chromium, tmp_path / "got").startswith(b"1,2,labels,admiration")
        return
    safe = ("--spreadsheet-safe",) if name == "lines.txt" else ()
    more = ("--prefix", "predicted_") if name == "taken.csv" else ()
    mark = b"\xef\xbb\xbf" if safe else b""
    assert downloaded(chromium, tmp_path / "got") == mark + by_command(file, *safe, *more)


@in_browser
def test_the_column_the_header_and_the_format_can_be_chosen(chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "odd.csv"
    file.write_bytes("id;note;more\n1;caf\xe9 am See;so happy, really\n2;y;so sad\n".encode("cp1252"))
    chromium.drop(file)
    chromium.wait_for("!document.getElementById('source').hidden")
    chosen = "[format.value, header.checked, column.selectedOptions[0].textContent, go.textContent]"
    assert chromium.evaluate(chosen) == [";", True, "more", "Predict 2 texts"]
    assert "Windows-1252" in chromium.evaluate("document.getElementById('source-notes').textContent")
    click(chromium, "#header")
    assert chromium.evaluate(chosen) == [";", False, "3", "Predict 3 texts"]
    click(chromium, "#header")
    select(chromium, "column", 1)
    assert chromium.evaluate("document.querySelector('#preview td.chosen').textContent") == "café am See"
    select(chromium, "format", 0)
    assert chromium.evaluate("go.textContent") == "Predict 3 texts"
    wide = tmp_path / "wide.tsv"
    wide.write_bytes("n\ttext\r\n1\tso glad 😀\r\n".encode("utf-16"))
    chromium.drop(wide)
    chromium.wait_for("document.getElementById('source-name').textContent == 'wide.tsv'")
    assert chromium.evaluate("document.querySelector('#preview td.chosen').textContent") == "so glad 😀"
    book = tmp_path / "book.xlsx"
    book.write_bytes(b"PK\x03\x04\x00\x00")
    chromium.drop(book)
    assert "neither a table" in chromium.wait_for("document.getElementById('trouble').textContent")


def select(chromium: Browser, name: str, index: int) -> None:
    changed = f"{name}.selectedIndex = {index}; {name}.dispatchEvent(new Event('change'))"
    chromium.evaluate(f"{{const {name} = document.getElementById('{name}'); {changed}}}")


@in_browser
def test_rows_that_cannot_be_read_are_set_aside_with_their_lines(chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "broken.csv"
    file.write_bytes(b'id,text\n1,so happy\n2,a,b\n3,"never closed\n4,"a" b\n5,nul\x00\n6,so sad\n')
    chromium.drop(file)
    predicted(chromium, 2)
    expected = by_command(file)
    assert downloaded(chromium, tmp_path / "got") == expected
    aside = downloaded(chromium, tmp_path / "got", "#download-aside").decode()
    found = [(row["line"], row["row"]) for row in csv.DictReader(io.StringIO(aside.replace("\0", "")))]
    assert found == [("3", "2,a,b"), ("4", '3,"never closed'), ("5", '4,"a" b'), ("6", "5,nul")]
    command = (tmp_path / "expected.csv.rejected.csv").read_text(encoding="utf-8")
    assert [row["line"] for row in csv.DictReader(io.StringIO(command))] == [line for line, _ in found]


@in_browser
def test_pasted_lines_and_cells_are_read(chromium: Browser, offline: EmotionClassifier) -> None:
    lines = ["so happy", "", "who are you?", "thank you"]
    typed(chromium, "\n".join(lines))
    click(chromium, "#split")
    predicted(chromium, 3)
    texts = [line for line in lines if line]
    shown = chromium.evaluate(
        "[...document.querySelectorAll('#rows tr')].map(row => [row.cells[0].textContent, row.cells[1].textContent])"
    )
    assert shown == [["1", "so happy"], ["3", "who are you?"], ["4", "thank you"]]
    counts = {row[0]: row[1] for row in labels_shown(chromium, "#counts .row")}
    names = [name for found in offline.predict(texts) for name in found.labels]
    assert counts == {"all texts": "3"} | {name: str(names.count(name)) for name in names}
    click(chromium, "#counts input[value=gratitude]")
    assert chromium.evaluate("[...document.querySelectorAll('#rows tr')].map(r => r.cells[1].textContent)") == [
        "thank you"
    ]
    click(chromium, "#rows button")
    assert chromium.evaluate("document.getElementById('text').value") == "thank you"
    click(chromium, "#tab-many")
    chromium.evaluate("lines.select(); lines.focus()")
    chromium.type("1\tso happy\n2\tso sad")
    assert (
        chromium.wait_for("document.getElementById('format').value == '\\t' && column.selectedOptions[0].textContent")
        == "2"
    )


@in_browser
@pytest.mark.slow
def test_a_thousand_rows_are_dropped_and_downloaded(chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "thousand.csv"
    texts = (*HOSTILE[-5:], TEXT, "", "so sad", "=1+1", 'she said "no", twice')
    with file.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerows(
            [["id", "comment", "day"], *([i, f"{texts[i % 10]} {i % 7}", "2026-01-01"] for i in range(1000))]
        )
    chromium.drop(file)
    predicted(chromium, 1000)
    assert downloaded(chromium, tmp_path / "got") == by_command(file)
    assert chromium.evaluate("document.querySelectorAll('#rows tr').length") == 50
    click(chromium, "#more")
    click(chromium, "#more")
    assert chromium.evaluate("document.querySelectorAll('#rows tr').length") == 1000
    click(chromium, "#safe")
    assert downloaded(chromium, tmp_path / "got") == b"\xef\xbb\xbf" + by_command(file, "--spreadsheet-safe")


# --- a server that refuses, fails, or is gone ------------------------------------------------------------------------


@in_browser
def test_a_busy_server_is_asked_again_and_a_failure_is_shown(chromium: Browser) -> None:
    chromium.call("Fetch.enable", patterns=[{"urlPattern": "*/predict"}])
    try:
        chromium.evaluate("text.focus()")
        chromium.type("so happy")
        begun = time.monotonic()
        answer_next(chromium, 429, retry_after="1")
        assert "busy" in chromium.wait_for("notes.textContent")
        answer_next(chromium, 500, '{"error": "the model <b>failed</b>", "hint": "See the log."}')
        assert time.monotonic() - begun >= 1
        assert chromium.wait_for("trouble.textContent") == "the model <b>failed</b> See the log. Try again "
        click(chromium, "#trouble button")
        answer_next(chromium, 502, "<h1>Bad gateway</h1>")
        assert "502" in chromium.wait_for("trouble.textContent")
        click(chromium, "#trouble button")
        request = chromium.wait_event("Fetch.requestPaused")
        chromium.call("Fetch.failRequest", requestId=request["requestId"], errorReason="ConnectionRefused")
        assert "does not answer" in chromium.wait_for("trouble.textContent")
    finally:
        chromium.call("Fetch.disable")
    click(chromium, "#trouble button")
    chromium.wait_for("document.querySelector('#explained:not([hidden])') && trouble.hidden")
    without_network_errors(chromium)


@in_browser
def test_many_texts_can_be_cancelled_and_continued(chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text\n" + "".join(f"so happy {i}\n" for i in range(100)), encoding="utf-8")
    chromium.drop(file)
    chromium.wait_for("document.getElementById('go').textContent == 'Predict 100 texts'")
    chromium.call("Fetch.enable", patterns=[{"urlPattern": "*/predict"}])
    try:
        click(chromium, "#go")
        request = chromium.wait_event("Fetch.requestPaused")
        chromium.call("Fetch.continueRequest", requestId=request["requestId"])
        chromium.wait_event("Fetch.requestPaused")
        chromium.press("Escape")
        chromium.wait_for("running.hidden && !result.hidden")
        assert chromium.evaluate("document.getElementById('result-name').textContent") == "16 of 100 texts"
        assert chromium.evaluate("document.activeElement.id") == "continue"
        chromium.press("Enter")
        answer_next(chromium, 429, retry_after="600")
        chromium.wait_for("document.getElementById('progress-text').textContent.includes('600 s')")
        chromium.press("Escape")  # at once, not after ten minutes
        chromium.wait_for("running.hidden")
        click(chromium, "#continue")
        answer_next(chromium, 500, '{"error": "the model failed", "hint": null}')
        assert chromium.wait_for("trouble.textContent") == "the model failed Continue "
    finally:
        chromium.call("Fetch.disable")
    click(chromium, "#trouble button")
    chromium.wait_for("document.getElementById('result-name').textContent == '100 texts'")
    chromium.call("Fetch.enable", patterns=[{"urlPattern": "*/predict"}])
    click(chromium, "#go")
    answer_next(chromium, 500)
    chromium.wait_for("trouble.textContent && running.hidden")
    chromium.call("Fetch.disable")
    assert chromium.evaluate("document.getElementById('result-name').textContent") == "100 texts"  # it is not lost
    assert downloaded(chromium, tmp_path / "got") == by_command(file)
    without_network_errors(chromium)


@in_browser
def test_a_key_is_asked_for_and_kept_in_the_tab(chromium: Browser) -> None:
    chromium.evaluate("engine.useKey('')")
    chromium.type("so happy")
    chromium.wait_for("!unlock.hidden && main.hidden")
    for key in ("wrong", "clé", "ключ", KEY):
        assert chromium.evaluate("document.activeElement.id") == "key"
        chromium.evaluate("document.getElementById('key-note').textContent = ''")
        chromium.type(key)
        chromium.press("Enter")
        chromium.wait_for("!main.hidden || document.getElementById('key-note').textContent")
        assert chromium.evaluate("key.value") == ""
    chromium.wait_for("document.querySelector('#labels .row.strong')")  # of the text that was typed before
    assert chromium.evaluate("unlock.hidden")
    assert chromium.evaluate("[Object.values(sessionStorage), localStorage.length]") == [[KEY], 0]
    assert chromium.call("Network.getCookies")["cookies"] == []
    assert KEY not in chromium.evaluate("document.documentElement.outerHTML")
    without_network_errors(chromium)
