"""The reports of an evaluation: complete, and a page that loads nothing and runs its one script, whatever it holds."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotune.config.schema import Config
from emotune.data.records import Record
from emotune.decision import Decision, Fallback
from emotune.labels import GOEMOTIONS, LabelSet, Task
from emotune.reports import tables
from emotune.reports.card import update_card
from emotune.reports.evaluation import Evaluation, evaluation_report
from emotune.reports.provenance import Background
from emotune.reports.tables import Table
from emotune.reports.writer import (
    Block,
    CaptionedTable,
    Case,
    Cases,
    Code,
    Mark,
    Paragraph,
    Report,
    Section,
    report_html,
    report_markdown,
    variables,
    write_report,
)
from emotune.runs.log import read_training_log
from emotune.scoring.thresholds import FoldThresholds
from tiny import unchecked

SCRIPT = files("emotune.reports").joinpath("templates/report.js").read_text(encoding="utf-8")
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</style><script>alert(3)</script>",
    "joy' onmouseover='alert(4)",
    "&lt;b&gt;&amp;",
    "<!-- -->]]>",
    "javascript:alert(5)",
    "غضب \u202e شديد",
    "שמחה",
    "😡👩\u200d👧",
    "{{ 7*7 }} ${x}",
    "W" * 300,
)
TEXTS = (
    *HOSTILE,
    "a\x00b\x1bc\ud800",
    "line\nbreak\ttab",
    "",
    "   ",
    "long " * 400,
    "<svg/onload=alert(6)>",
    "\u2028x",
)
FORBIDDEN = {"img", "iframe", "object", "embed", "link", "base", "form", "input", "audio", "video", "image"}


def evaluation(labels: LabelSet, texts: tuple[str, ...] = TEXTS, num_rows: int = 60, **more: object) -> Evaluation:
    rng = np.random.default_rng(0)
    shape = (num_rows, len(labels))
    if labels.task is Task.MULTI_CLASS:
        targets = np.eye(len(labels), dtype=bool)[rng.integers(len(labels), size=num_rows)]
    else:
        targets = rng.random(shape) < 0.3
    p = np.clip(targets * 0.4 + rng.random(shape) * 0.6, 0, 1)
    if labels.task is Task.MULTI_CLASS:
        p /= p.sum(axis=1, keepdims=True)
    decided = Decision.default(labels).decide(p)
    records = [
        Record(texts[i % len(texts)], tuple(np.flatnonzero(row)), Path(f"<b>{i}.csv"), i + 1, id="<i>")
        for i, row in enumerate(targets)
    ]
    known = {"model": "runs/<b>x</b>", "split": "test", "warnings": ("a <leak> & more",), "data": ("<i>.csv: CSV",)}
    return Evaluation(
        labels=labels,
        records=records,
        targets=targets,
        decided=decided,
        probabilities=p,
        resamples=20,
        thresholds=(0.5,) * len(labels) if labels.task is Task.MULTI_LABEL else None,
        **known | more,
    )


def background(labels: LabelSet) -> Background:
    rng = np.random.default_rng(0)
    multi = labels.task is Task.MULTI_LABEL
    tuning = {
        "method": "shrunk (<10>)",
        "objective": "macro_f1",
        "folds": 5,
        "rows": 60,
        "split": "valid",
        "data_sha256": "abc",
        "out_of_fold": {"macro_f1": 0.5, "micro_f1": None},
        "in_sample": {"macro_f1": 0.6, "micro_f1": 0.7},
    }
    chosen = FoldThresholds(rng.random((5, len(labels))), np.arange(len(labels)))
    log = [json.dumps({"event": "step", "step": i, "loss": 1 / i, "rate": 1e-4}) for i in range(1, 20)]
    log.append(
        json.dumps({"event": "epoch", "epoch": 1, "loss": 0.3, "best": True, "metrics": {"<b>": 0.5, "loss": 1}})
    )
    return Background(
        decision=Decision(labels, (0.5,) * len(labels), Fallback.BEST if multi else Fallback.NOTHING, tuning=tuning),
        encoder="<b>encoder</b>",
        config=Config(name="</code></pre><script>alert(7)</script>").to_yaml(),
        description=("<b>read</b>",),
        findings=("<b>doubt</b>",),
        data={"train": {"rows": 100, "sha256": "0" * 64}, "test": {"rows": 60, "sha256": "f" * 64}},
        fingerprint="f" * 64,
        trained_with={"torch": "<2>"},
        scored_with={"emotune": "0.1"},
        training=read_training_log(log),
        fold_thresholds=chosen if multi else None,
    )


class Page(HTMLParser):
    """The tags, words, policy, style sheet and scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.policy, self.style, self._in = "", "", ""
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")
        if tag == "meta" and dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs)["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "style":
            self.style += data
        elif self._in == "script":
            self.scripts[-1] += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def assert_harmless(html: str) -> Page:
    """No element, attribute or address that could run or load anything else than our style sheet and our script.

    The script is the one of the package, whatever the report holds; what it reads is JSON that cannot end its element.
    """
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & FORBIDDEN
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcset")], tag
        assert (attributes.get("href") or "#").startswith("#")
        assert "xlink:href" not in attributes
        addresses = [value for value in attributes.values() if value and "url(" in value]
        assert all(value.startswith("url(#") for value in addresses)
    style, script = (
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in (page.style, SCRIPT)
    )
    assert page.policy.startswith(f"default-src 'none'; style-src {style}; script-src {script}; base-uri 'none'")
    data, run = page.scripts
    assert run == SCRIPT
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{"type": "application/json"}, {}]
    assert not set("<>&") & set(data)
    assert data.isascii()
    json.loads(data)
    assert "@import" not in page.style
    assert "url(" not in page.style
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {(a.get("href") or "")[1:] for tag, a in page.tags if tag in ("a", "use")}
    assert links <= set(ids)
    html.encode()
    return page


def undrawn(found: Evaluation, known: Background) -> str:
    """The page without pictures."""
    return report_html(evaluation_report(found, known, []).with_pictures(()), {})


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on labels and texts that try to break out of the markup."""
    labels = unchecked(HOSTILE)
    folder = tmp_path_factory.mktemp("hostile")
    write_report(evaluation_report(evaluation(labels), background(labels), []), folder, pytest.fail)
    return folder


def test_hostile_labels_and_texts_stay_what_they_are(hostile: Path) -> None:
    page = assert_harmless((hostile / "report.html").read_text())
    for text in HOSTILE[:7]:
        assert text in page.text
    assert "a␀b␛c�" in page.text
    assert "</code></pre><script>alert(7)</script>" in page.text
    assert "a <leak> & more" in page.text
    assert "<b>0.csv:1" in page.text or "<b>1.csv:2" in page.text
    for stem in ("label_f1", "missed_extra", "precision_recall", "reliability", "threshold_stability", "training"):
        assert (hostile / f"{stem}.png").stat().st_size
        assert (hostile / f"{stem}.svg").stat().st_size


def test_every_colour_of_the_pictures_has_a_variable_in_light_and_dark(hostile: Path) -> None:
    style = Page((hostile / "report.html").read_text()).style
    for color, variable in variables().items():
        name = variable.removeprefix("var(").removesuffix(")")
        assert style.count(f"{name}: ") == 2, "one for light, one for dark"
        assert f"{name}: {color};" in style or color == "#000000"


def test_every_section_is_there_and_linked(hostile: Path) -> None:
    page = Page((hostile / "report.html").read_text())
    headings = [attributes["id"] for tag, attributes in page.tags if tag == "h2"]
    assert headings == [
        *("overall", "labels", "curves", "calibration", "slices", "confusions", "errors"),
        *("decision", "training", "configuration", "data", "versions"),
    ]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == [f"#{name}" for name in headings]
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) == 5 + len(HOSTILE)
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in pictures)
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == sum(tag == "caption" for tag, _ in page.tags) > 8
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")


def test_the_page_has_scores_provenance_and_decision(hostile: Path) -> None:
    found, text = evaluation(unchecked(HOSTILE)), Page((hostile / "report.html").read_text()).text
    assert f"{found.scores.overall['macro_f1']:.3f}" in text
    low, high = found.scores.intervals["macro_f1"]
    assert f"{low:.3f}–{high:.3f}" in text
    assert "scored here (the same as test)" in text
    assert "f" * 64 in text
    assert "When no label reaches its threshold: the most probable label." in text
    assert "method" in text
    assert "shrunk (<10>)" in text
    assert "1 ← best" in text
    assert "In-sample minus out-of-fold is the optimism" in text


def test_the_title_has_the_name_of_the_run_the_date_and_the_version(hostile: Path) -> None:
    labels = LabelSet(("a", "b"))
    for model, name in (("runs/r1/model", "r1"), ("other/mine", "mine")):
        report = evaluation_report(evaluation(labels, model=model), background(labels), []).with_pictures(())
        html = report_html(replace(report, edition="2026-01-31 12:00 · emotune 0.1"), {})
        assert f"<title>Evaluation of {name} on test · 2026-01-31 12:00 · emotune 0.1</title>" in html
    edition = r"20\d\d-\d\d-\d\d \d\d:\d\d · emotune \d"
    assert re.search(f"<title>.* · {edition}", (hostile / "report.html").read_text())
    assert re.search(f"\n{edition}", (hostile / "report.md").read_text().replace("\\", ""))


def test_the_label_table_stands_once_and_long_parts_are_closed(hostile: Path) -> None:
    html = (hostile / "report.html").read_text()
    assert html.count('<th scope="col"><bdi>label</bdi></th>') <= 3, "scores, all metrics, thresholds"
    assert html.count("Labels by F1") == 2, "a caption and its region"
    _, _, rest = html.partition('<h2 id="configuration">')
    assert rest.index("<details>") < rest.index("<pre>") < rest.index("</details>")
    assert "All " in rest[: rest.index("</summary>")]


def test_the_script_gets_counts_of_every_threshold(hostile: Path) -> None:
    found = evaluation(unchecked(HOSTILE))
    data = json.loads(Page((hostile / "report.html").read_text()).scripts[0])
    assert len(data["thresholds"]) <= 100
    assert [curve["name"] for curve in data["curves"]] == [name[:120] for name in HOSTILE]
    for j, curve in enumerate(data["curves"]):
        for i in (0, 49, 98):
            passed = found.probabilities[:, j] >= data["thresholds"][i]
            assert curve["predicted"][i] == passed.sum()
            assert curve["found"][i] == (passed & found.targets[:, j]).sum()
        assert curve["support"] == found.targets[:, j].sum()


def test_a_slider_starts_with_the_scores_of_the_table(tmp_path: Path) -> None:
    labels = LabelSet(("a", "b", "c"))
    thresholds = (0.3472, 0.012, 1.0)  # between two positions of the slider, at its end, and never passed
    found = evaluation(labels)
    decision = replace(Decision.default(labels), thresholds=thresholds)
    found = replace(found, thresholds=thresholds, decided=decision.decide(found.probabilities))
    write_report(evaluation_report(found, background(labels), []), tmp_path, pytest.fail)
    data = json.loads(Page((tmp_path / "report.html").read_text()).scripts[0])
    for j, curve in enumerate(data["curves"]):
        assert curve["threshold"] == thresholds[j]
        assert curve["start"] == (34, 0, 98)[j]
        assert curve["predicted"][curve["start"]] == found.decided[:, j].sum()
        assert curve["found"][curve["start"]] == (found.decided & found.targets)[:, j].sum()


@pytest.mark.parametrize("texts", [0, 3, 30, 50])
def test_the_report_has_no_more_texts_than_allowed(texts: int) -> None:
    """Of the texts with the highest loss; each of two more lists has at most 12 and at most as many."""
    labels = LabelSet(("a", "b", "c"))
    own = tuple(f"text number {i}!" for i in range(60))
    found = replace(evaluation(labels, own), texts=texts)
    wrong = int((found.targets != found.decided).any(axis=1).sum())
    report = evaluation_report(found, background(labels), [])
    page, markdown = Page(report_html(report.with_pictures(()), {})), report_markdown(report.with_pictures(()))
    data = json.loads(page.scripts[0])
    assert len(data["errors"]) == min(texts, wrong)
    shown = sum(text in page.text for text in own)
    assert shown <= min(texts, 30) + 2 * min(texts, 12)
    if texts == 0:
        assert "text number" not in page.text + page.scripts[0] + markdown
        assert "--texts 0" in page.text
    elif texts < wrong:
        assert f"--texts {wrong} shows all of them" in page.text
    first = data["errors"][0] if texts else None
    if first:
        assert first["text"] in page.text
        assert set(map(str, {*first["labels"], *first["predicted"], *first["highest"]})) == first["scores"].keys()


def test_classes_have_no_thresholds(tmp_path: Path) -> None:
    labels = unchecked(("anger", "joy", "<u>"), Task.MULTI_CLASS)
    write_report(evaluation_report(evaluation(labels), background(labels), []), tmp_path, pytest.fail)
    page = assert_harmless((tmp_path / "report.html").read_text())
    assert "The label with the largest probability." in page.text
    assert "threshold" not in page.text.replace("thresholds tuned out of fold", "")
    data = json.loads(page.scripts[0])
    assert (data["curves"], data["decided_at"]) == ([], None)
    assert not (tmp_path / "threshold_stability.png").exists()
    for name in ("confusion.svg", "confusion.png", "confusion_normalised.svg", "confusion_normalised.png"):
        assert (tmp_path / name).stat().st_size


@pytest.mark.parametrize("num_rows", [0, 1])
def test_undefined_scores_are_shown_as_undefined(num_rows: int, tmp_path: Path) -> None:
    found = evaluation(LabelSet(("a", "b")), num_rows=num_rows)
    nothing = np.zeros_like(found.targets)
    empty = replace(found, targets=nothing, decided=nothing, resamples=5)
    page = assert_harmless(undrawn(empty, Background(Decision.default(found.labels))))
    assert "undefined" in page.text
    assert "2 labels without a positive example" in page.text
    assert "nan" not in page.text.lower()
    write_report(evaluation_report(empty, Background(Decision.default(found.labels)), []), tmp_path, pytest.fail)
    assert_harmless((tmp_path / "report.html").read_text())


def test_the_page_stays_small(tmp_path: Path) -> None:
    long = tuple(f"{i} " + "x" * 20_000 for i in range(7))
    html = undrawn(evaluation(GOEMOTIONS, long, 3000), background(GOEMOTIONS))
    assert len(html) < 450_000
    many = LabelSet(tuple(f"label {i} " + "y" * 100 for i in range(700)))
    html = undrawn(evaluation(many, num_rows=200), background(many))
    assert len(html) < 2_000_000
    assert "The first 300 of 700 rows; report.md has all." in html


def everywhere(text: str) -> Report:
    """A report that holds a text wherever a text can stand."""
    blocks: list[Block] = [
        Paragraph(text),
        CaptionedTable(text, Table(("label", text), ((text, text),))),
        Cases((Case(text, text, ((text, (Mark(text, text, right=True),)),), text),)),
        Code(text, text),
    ]
    return Report(text, "x.json", {}, [Section("a", text, blocks)], ((text, text),), (text,), (text,), text)


@settings(deadline=None, max_examples=100)
@given(st.text(min_size=1))
def test_any_text_is_text_wherever_it_stands(text: str) -> None:
    plain, page = (Page(report_html(everywhere(each), {})) for each in ("x", text))
    assert [(tag, attributes.keys() - {"class"}) for tag, attributes in page.tags] == [
        (tag, attributes.keys() - {"class"}) for tag, attributes in plain.tags
    ]
    kept = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "", text)
    assert set(kept) <= set(page.text)


def test_markdown_and_page_have_the_same_parts(hostile: Path) -> None:
    text, page = (hostile / "report.md").read_text(), Page((hostile / "report.html").read_text())
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert len(headings) == sum(tag == "h2" for tag, _ in page.tags)
    assert all(heading in page.text for heading in headings)
    outside_of_code = [line for line in text.splitlines() if not line.startswith("    ")]
    assert not any("<script" in line for line in outside_of_code)
    assert "&lt;script" in text
    assert text.count("](label_f1.png)") == 1
    assert report_markdown(everywhere("**x** <b>")).startswith("# \\*\\*x\\*\\* &lt;b&gt;")


def test_the_log_of_a_resumed_run_is_read() -> None:
    step = '{"event": "step", "step": 1, "loss": 1.0, "rate": 0.1}'
    again = '{"event": "step", "step": 1, "loss": 2.0, "rate": null}'
    log = read_training_log([step, '{"event": "st', "[]", "", again, '{"event": "epoch", "epoch": 1, "loss": null}'])
    assert log is not None
    assert [(point.step, point.loss) for point in log.steps] == [(1, 2.0)]
    assert np.isnan(log.steps[0].rate)
    assert np.isnan(log.epochs[0].loss)
    assert read_training_log(['{"event": "start"}', "nothing"]) is None


@pytest.mark.parametrize(("an_epoch", "taken"), [(70, 560), (70, 250), (13, 13), (1357, 3000)])
def test_epochs_are_placed_among_the_steps_that_were_logged(an_epoch: int, taken: int) -> None:
    logged = [step for step in range(1, taken + 1) if step % 20 == 0 or step == 1]
    lines = [json.dumps({"event": "step", "step": step, "epoch": (step - 1) // an_epoch + 1}) for step in logged]
    lines += [json.dumps({"event": "epoch", "epoch": epoch + 1}) for epoch in range(taken // an_epoch)]
    log = read_training_log(lines)
    assert log is not None
    assert len(log.epoch_ends) == taken // an_epoch
    for epoch, end in enumerate(log.epoch_ends, start=1):
        assert abs(end - epoch * an_epoch) <= 20


def test_fold_thresholds_are_read_back_or_left_out() -> None:
    names = ("a", "b")
    kept = FoldThresholds(np.array([[0.25, 0.5], [0.125, 0.75]]), np.array([3, 4]))
    content = kept.to_json(names)
    found = FoldThresholds.from_json(json.loads(json.dumps(content)), names)
    assert found is not None
    np.testing.assert_array_equal(found.chosen, kept.chosen)
    np.testing.assert_array_equal(found.positives, kept.positives)
    for broken in (
        {},
        {"fold_thresholds": 1, "positives": {}},
        content | {"positives": {"a": 1}},
        content | {"fold_thresholds": {"a": [0.1], "b": [0.1, 0.2]}},
        content | {"fold_thresholds": {"a": [2.0], "b": [0.5]}},
        content | {"fold_thresholds": {"a": [], "b": []}},
        content | {"fold_thresholds": {"a": "x", "b": None}},
    ):
        assert FoldThresholds.from_json(broken, names) is None


def test_the_decision_of_a_card_is_replaced_in_cards_of_earlier_versions_too() -> None:
    decision = Decision(LabelSet(("anger", "joy")), (0.25, 0.75))
    former = "# starter\n\n<!-- decision -->\n## Decision\n\nold words\n<!-- /decision -->\n\nmore\n"
    card = update_card(former, decision)
    assert card.startswith("# starter\n\n<!-- decision -->\n## Decision\n\nThresholds: not tuned.\n")
    assert card.endswith("| joy | 0.750 |\n<!-- /decision -->\n\nmore\n")
    assert "old words" not in card
    assert update_card(card, decision) == card
    assert update_card("# theirs\n", decision) == "# theirs\n"


# --- numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (None, ""),
        (0.0, "0 s"),
        (2e-5, "20 µs"),
        (0.0042, "4.2 ms"),
        (0.03, "30 ms"),
        (0.5, "0.5 s"),
        (0.96, "1.0 s"),
        (9.44, "9.4 s"),
        (35.2, "35 s"),
        (84.0, "1.4 min"),
        (4000.0, "1.1 h"),
    ],
)
def test_a_duration_is_written_with_its_unit_and_never_as_zero(seconds: float | None, written: str) -> None:
    assert tables.duration(seconds) == written


@pytest.mark.parametrize(
    ("texts", "written"), [(None, ""), (3.14, "3.1"), (98.7, "99"), (8932.4, "8,930"), (61_910_277.0, "> 1 M")]
)
def test_a_speed_has_three_digits_at_most(texts: float | None, written: str) -> None:
    assert tables.speed(texts) == written
