"""report.html in a real browser: only our script runs, nothing is loaded, no errors are logged, and it fits a phone."""

from collections.abc import Iterator

import pytest

import browser
from browser import Browser
from emotune.reports.evaluation import evaluation_report
from emotune.reports.writer import write_report
from test_report import HOSTILE, background, evaluation
from tiny import unchecked

PROGRAM = browser.find()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason=f"no browser is installed; looked for {', '.join(browser.NAMES)}"),
]
OUTSIDE = "http://emotune.invalid"
PAYLOADS = (
    *HOSTILE,
    "<script>window.ran=1;alert(1)</script>",
    f'"><img src="{OUTSIDE}/a" onerror="window.ran=1">',
    f"<style>@import url({OUTSIDE}/b);body{{display:none}}</style>",
    f'</title></style></text></svg><iframe src="{OUTSIDE}/c"></iframe>',
    f'<svg onload="window.ran=1"><image href="{OUTSIDE}/d"/></svg>',
    f'<link rel=stylesheet href={OUTSIDE}/e><meta http-equiv=refresh content="0;url={OUTSIDE}/f">',
)
# elements that are wider than the page and that no box of their own scrolls
TOO_WIDE = """[...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.scroll') && !e.closest('svg'))
    .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .map(e => e.outerHTML.slice(0, 200))"""
# words that are too faint on what is behind them, by WCAG 2's 4.5:1
TOO_FAINT = """(() => {
  const luminance = c => c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
  const faint = new Set();
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.closest('.wide')) continue;
    const style = getComputedStyle(e), words = e.closest('svg') ? style.fill : style.color;
    const [a, b] = [luminance(parse(words).slice(0, 3)), luminance(behind(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faint.add(words + ' ' + behind(e) + ' ' + e.textContent.slice(0, 40));
  }
  return [...faint];
})()"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    labels = unchecked(tuple(dict.fromkeys(PAYLOADS)))
    folder = tmp_path_factory.mktemp("report")
    found = evaluation(labels, (*PAYLOADS, "x" * 500, "a\x00b"), warnings=(PAYLOADS[-1],), model=PAYLOADS[-2])
    return write_report(evaluation_report(found, background(labels), []), folder, pytest.fail).as_uri()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path_factory.mktemp("profile")) as found:
        yield found


def test_only_our_script_runs_and_nothing_is_loaded(chromium: Browser, url: str) -> None:
    chromium.show(1280, "light")
    chromium.open(url)
    assert chromium.evaluate("window.ran") is None
    assert chromium.evaluate("document.images.length + frames.length") == 0
    assert chromium.evaluate("[...document.scripts].map(s => s.type)") == ["application/json", ""]
    assert chromium.seen("Page.javascriptDialogOpening") == []
    said = chromium.seen("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Audits.issueAdded")
    assert said == []
    requests = [event["params"]["request"]["url"] for event in chromium.seen("Network.requestWillBeSent")]
    assert requests == [url]
    assert chromium.evaluate("getComputedStyle(document.querySelector('.headlines')).display") == "grid"
    assert chromium.evaluate("document.querySelectorAll('svg').length") == 5 + len(dict.fromkeys(PAYLOADS))


def test_tables_sort_and_filter(chromium: Browser, url: str) -> None:
    chromium.show(1280, "light")
    chromium.open(url)
    column = (
        "[...document.querySelectorAll('#labels ~ * tbody tr')].filter(r => !r.hidden).map(r => r.cells[1].innerText)"
    )
    click = "document.querySelectorAll('#labels ~ * thead .sort')[1].click()"
    chromium.evaluate(click)
    support = [int(text) for text in chromium.evaluate(column)]
    assert support == sorted(support, reverse=True)
    assert len(support) == len(dict.fromkeys(PAYLOADS))
    chromium.evaluate(click)
    assert [int(text) for text in chromium.evaluate(column)] == support[::-1]
    assert chromium.evaluate("document.querySelector('#labels ~ * [aria-sort]').ariaSort") == "ascending"
    typed = "document.querySelector('#labels ~ * input')"
    chromium.evaluate(f"{typed}.value = 'IFRAME'; {typed}.dispatchEvent(new Event('input'))")
    assert len(chromium.evaluate(column)) == 1


def test_numbers_sort_with_their_units(chromium: Browser, url: str) -> None:
    chromium.open(url)
    shown = ["1.2 h", "1,234", "", "12 s", "0.5 %", "3 min", "undefined", "-2", "> 1 M", "850 ms"]
    expected = ["> 1 M", "1.2 h", "1,234", "3 min", "12 s", "850 ms", "0.5 %", "-2"]
    rows = "[...document.querySelectorAll('#labels ~ * tbody tr')]"
    count = len(dict.fromkeys(PAYLOADS))
    cells = [shown[i] if i < len(shown) else "" for i in range(count)]
    chromium.evaluate(f"{rows}.forEach((row, i) => {{ row.cells[1].textContent = {cells}[i]; }})")
    chromium.evaluate("document.querySelectorAll('#labels ~ * thead .sort')[1].click()")
    found = chromium.evaluate(f"{rows}.map(row => row.cells[1].textContent)")
    assert [text for text in found if text not in ("", "undefined")] == [text for text in expected if text in cells]


def test_a_slider_shows_the_scores_of_its_threshold(chromium: Browser, url: str) -> None:
    chromium.open(url)
    labels = unchecked(tuple(dict.fromkeys(PAYLOADS)))
    found = evaluation(labels, (*PAYLOADS, "x" * 500, "a\x00b"))
    slider = "document.querySelectorAll('figure[data-panel]')[2].querySelector('input')"
    assert chromium.evaluate(f"{slider}.value") == "50"
    before = chromium.evaluate("document.querySelectorAll('.moved')[2].getAttribute('cx')")
    chromium.evaluate(f"{slider}.value = 70; {slider}.dispatchEvent(new Event('input'))")
    passed, target = found.probabilities[:, 2] >= 0.7, found.targets[:, 2]
    hits = (passed & target).sum()
    p, r, f1 = hits / passed.sum(), hits / target.sum(), 2 * hits / (passed.sum() + target.sum())
    shown = chromium.evaluate("document.querySelectorAll('figure[data-panel] output')[2].textContent")
    assert shown == f"at 0.70: P {p:.2f} R {r:.2f} F1 {f1:.2f}"
    assert chromium.evaluate("document.querySelectorAll('.moved')[2].getAttribute('cx')") != before


def test_wrong_texts_are_filtered_by_label_and_stay_text(chromium: Browser, url: str) -> None:
    chromium.open(url)
    assert chromium.evaluate("document.querySelectorAll('#error-browser li').length") == 6
    chromium.evaluate("document.querySelector('#error-browser button').click()")
    assert chromium.evaluate("document.querySelectorAll('#error-browser li').length") == 12
    select = "document.querySelector('#error-browser select')"
    chromium.evaluate(f"{select}.selectedIndex = 1; {select}.dispatchEvent(new Event('change'))")
    name, count = chromium.evaluate(f"{select}.selectedOptions[0].textContent").rsplit(" ", 1)
    assert chromium.evaluate("document.querySelector('#error-browser .quiet').textContent").startswith(
        count.strip("()")
    )
    marked = "[...li.querySelectorAll('.wrong bdi')].map(e => e.textContent)"
    wrong = f"[...document.querySelectorAll('#error-browser li')].map(li => {marked})"
    assert all(name in names for names in chromium.evaluate(wrong))
    assert chromium.evaluate("window.ran") is None
    assert chromium.evaluate("document.querySelectorAll('#error-browser script, #error-browser img').length") == 0


def test_without_scripts_everything_is_there(chromium: Browser, url: str) -> None:
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(url)
        assert chromium.evaluate("document.querySelectorAll('#error-browser li').length") == 30
        assert chromium.evaluate("document.querySelectorAll('input, select, button').length") == 0
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)


def test_what_would_break_out_is_refused_by_the_policy_too(chromium: Browser, url: str) -> None:
    """If something were put in as markup after all, the page's policy would stop it."""
    chromium.open(url)
    chromium.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<svg onload=\"window.ran=1\"></svg><p style=\"color:red\">')"
    )
    chromium.evaluate(f"document.body.append(Object.assign(new Image(), {{src: '{OUTSIDE}/x'}}))")
    assert chromium.evaluate("window.ran") is None
    complaints = " ".join(str(event) for event in chromium.seen("Log.entryAdded", "Audits.issueAdded"))
    assert "ContentSecurityPolicy" in complaints or "Content Security Policy" in complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_and_can_be_read(chromium: Browser, url: str, width: int, scheme: str) -> None:
    chromium.show(width, scheme)
    chromium.open(url)
    chromium.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert chromium.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert chromium.evaluate(TOO_WIDE) == []
    assert chromium.evaluate(TOO_FAINT) == []


def test_it_follows_light_and_dark_and_is_printed_light(chromium: Browser, url: str) -> None:
    def paper_and_bar() -> tuple[str, str]:
        bar = """getComputedStyle(document.querySelector("svg path[fill='var(--paper)']")).fill"""
        return chromium.evaluate("getComputedStyle(document.body).backgroundColor"), chromium.evaluate(bar)

    chromium.show(800, "light")
    chromium.open(url)
    light = paper_and_bar()
    assert light == ("rgb(255, 255, 255)", "rgb(255, 255, 255)")
    chromium.show(800, "dark")
    dark = paper_and_bar()
    assert dark[0] == dark[1] != light[0]
    chromium.show(800, "dark", media="print")
    assert paper_and_bar() == light
