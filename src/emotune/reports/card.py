"""The model card: README.md of a model directory."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from markupsafe import Markup

from emotune.data.published import DataSet, data_sets
from emotune.decision import Decision
from emotune.hub import local_path
from emotune.labels import LabelSet, Task
from emotune.reports.tables import (
    MULTI_LABEL_NAMES,
    Table,
    calibration_table,
    escape,
    interval,
    markdown,
    percent,
    policies,
    threshold_table,
)
from emotune.reports.writer import render_markdown
from emotune.scoring.calibration import Calibration
from emotune.scoring.metrics import HEADLINES, metric_name

# the marks by which the sections of a card are found again, also in cards of earlier versions
_BEGIN, _END = "<!-- decision -->", "<!-- /decision -->"
_LICENCE = re.compile(r"^license:[ \t]*([A-Za-z0-9.\-]{1,60})[ \t]*$", re.MULTILINE)
_BEGIN_CALIBRATION, _END_CALIBRATION = "<!-- calibration -->", "<!-- /calibration -->"
_BEGIN_RESULTS, _END_RESULTS = "<!-- results -->", "<!-- /results -->"
_FRONT_MATTER = re.compile(r"---\r?\n(.{,20000}?)\r?\n---\r?\n", re.DOTALL)
_SIGNATURE = re.compile(r"\n<!-- card ([0-9a-f]{64}) -->\s*\Z")
# keys of the front matter that emotune writes; others, such as license, are kept when a card is published again
_OWN_KEYS = ("library_name", "pipeline_tag", "base_model", "datasets", "language", "tags", "model-index", "widget")
# the ids of metrics on the hub, and how their values are averaged over labels
_HUB_METRICS = {
    "macro_f1": ("f1", "macro"),
    "micro_f1": ("f1", "micro"),
    "weighted_f1": ("f1", "weighted"),
    "macro_precision": ("precision", "macro"),
    "macro_recall": ("recall", "macro"),
    "accuracy": ("accuracy", None),
    "macro_auroc": ("roc_auc", "macro"),
}
_EXAMPLES = ("I can't believe you did that for me!", "They cancelled the trip and nobody told us.")
# what a card calls the model, and its name on the hub
_NAMES_OF_MODEL = (
    ('emotune.load("MODEL_DIR")', 'emotune.load("{0}")'),
    ("model=MODEL_DIR", 'model="{0}"'),
    ('open(f"{MODEL_DIR}/decision.json")', 'open(hf_hub_download("{0}", "decision.json"))'),
    (
        "import json\nfrom transformers import pipeline\n",
        "import json\nfrom huggingface_hub import hf_hub_download\nfrom transformers import pipeline\n",
    ),
)


@dataclass(frozen=True)
class CardFacts:
    """The facts of a training that its card shows: plain words and numbers.

    `encoder`: empty for a kind of model without one.
    """

    name: str
    kind: str
    encoder: str
    encoder_origin: str
    encoder_on_hub: bool
    data: tuple[str, ...]
    rows: dict[str, int]
    findings: tuple[str, ...]
    validation: dict[str, float]
    settings: dict[str, str]
    temperature: float
    portability: str
    published: tuple[DataSet, ...] = ()


def make_card(facts: CardFacts, decision: Decision) -> str:
    """The card of a trained model."""
    plain = facts.portability == "transformers"
    origin = f" from `{facts.encoder}` ({escape(facts.encoder_origin)})" if facts.encoder else ""
    origin += "" if plain else f": {escape(facts.kind)}"
    front = {
        "library_name": "transformers" if plain else "emotune",
        "language": _language(facts.published),
        # the hub refuses a card whose base model is not one of its own
        "base_model": facts.encoder if facts.encoder_on_hub else None,
        "datasets": [data_set.hub_id for data_set in facts.published],
    }
    validation = tuple((metric_name(name), percent(value)) for name, value in facts.validation.items())
    return _card(
        front,
        facts.name,
        f"Trained with emotune{origin}. Portability: {facts.portability}.",
        decision,
        facts=facts,
        published=facts.published,
        rows=", ".join(f"{n:,} {split}" for split, n in facts.rows.items()),
        how_tuned="thresholds tuned out of fold" if decision.tuning else "no thresholds were tuned",
        validation=Table(("metric", "value"), validation),
        settings=Table(("setting", "value"), tuple(facts.settings.items())),
    )


def adopted_card(name: str, decision: Decision, licence: str | None, language: str | None) -> str:
    """The card of a classifier that emotune did not train; licence and language as in the card of its source."""
    hub_id = name.partition("@")[0]
    on_hub = local_path(name) is None and hub_id.count("/") == 1 and not name.startswith((".", "/", "~"))
    front = {
        "library_name": "transformers",
        "language": language,
        "base_model": hub_id if on_hub else None,
        "license": licence,
    }
    source = f"`{hub_id}`" if on_hub else "a local model"
    about = f"The weights are those of {source}; emotune did not train them. Its licence and limits apply."
    return _card(front, f"{name.rstrip('/').rsplit('/', 1)[-1]}, tuned with emotune", about, decision)


def ensemble_card(
    name: str, notes: Sequence[str], members: Table, decision: Decision, published: Sequence[DataSet] = ()
) -> str:
    """The card of an ensemble: a table of its members with their scores, and notes."""
    hub_ids = [data_set.hub_id for data_set in published]
    front = {
        "library_name": "emotune",
        "language": _language(published),
        "datasets": hub_ids,
        "tags": ["ensemble"],
    }
    about = (
        "The model is an ensemble: the mean of the logits of the models in `members/`, which have cards of their own. "
        "Portability: emotune."
    )
    return _card(front, name, about, decision, members=members, notes=notes, published=published)


def _language(published: Sequence[DataSet]) -> str | None:
    """The language of all these data sets; None without any. `predict` tells of texts in other languages."""
    found = {data_set.language for data_set in published}
    return found.pop() if len(found) == 1 else None


def export_card(
    name: str, source: str, language: str | None, facts: Sequence[str], parity: Table, decision: Decision
) -> str:
    """The card of an exported model: facts of the export, its parity report; `source` is the trained model's card."""
    published = published_of(source)
    front = {
        "library_name": "emotune",
        "datasets": [data_set.hub_id for data_set in published],
        "language": language,
        "license": licence_of(source),
        "tags": ["onnx"],
    }
    about = "The model is exported for ONNX Runtime and runs without PyTorch. Portability: emotune."
    return _card(front, name, about, decision, export=facts, parity=parity, published=published)


def _card(front: Mapping[str, Any], title: str, about: str, decision: Decision, **parts: Any) -> str:
    """A card as Markdown with the YAML front matter that the hub reads, without its empty values.

    about: Markdown. parts: values of the template's further sections.
    """
    task = str(decision.labels.task).replace("_", "-")
    known = {key: value for key, value in front.items() if value}
    matter = {
        "library_name": known.pop("library_name"),
        "pipeline_tag": "text-classification",
        **known,
        "tags": ["emotion", "emotune", *known.get("tags", []), task],
    }
    common = {
        "front": Markup(yaml.safe_dump(matter, sort_keys=False).strip()),  # noqa: S704 (YAML quotes its values)
        "title": title,
        "about": Markup(about),  # noqa: S704 (escaped where it comes from outside)
        "number_of": "any number" if decision.labels.task is Task.MULTI_LABEL else "exactly one",
        "num_labels": len(decision.labels),
        "one_label": decision.labels.task is Task.MULTI_CLASS,
        "plain": front["library_name"] == "transformers",
        "decision": Markup(_decision_section(decision)),  # noqa: S704 (escaped where it comes from outside)
    }
    return render_markdown(
        "card.md", **{"facts": None, "members": None, "export": (), "published": (), **common, **parts}
    )


def _decision_section(decision: Decision) -> str:
    """The decision section between its marks."""
    lines = [_BEGIN, "## Decision", ""]
    if decision.labels.task is Task.MULTI_CLASS:
        return "\n".join([*lines, *policies(decision), _END])
    tuning = decision.tuning
    lines.append(f"Thresholds: {thresholds_text(decision)}.")
    if tuning:
        reached = ", ".join(f"{metric_name(name)} {percent(value)}" for name, value in tuning["out_of_fold"].items())
        lines.append(f"Out of fold: {reached}.")
        if tuning.get("unreached"):
            unreached = escape(", ".join(tuning["unreached"]))
            lines.append(f"Never predicted, as they do not reach the precision: {unreached}.")
    return "\n".join([*lines, *policies(decision), "", markdown(threshold_table(decision)), _END])


def update_card(card: str, decision: Decision) -> str:
    """The card with another decision section; a card without one is left as it is."""
    return re.sub(f"{_BEGIN}.*?{_END}", lambda _: _decision_section(decision), card, count=1, flags=re.DOTALL)


def published_of(card: str) -> list[DataSet]:
    """The published data sets that the front matter of a card names."""
    named = _split(card)[0].get("datasets")
    return [data_set for data_set in data_sets().values() if isinstance(named, list) and data_set.hub_id in named]


def licence_of(card: str) -> str | None:
    """The licence that a card's front matter names."""
    found = _LICENCE.search(card[:20_000])
    return found[1] if found else None


def with_calibration(card: str, calibration: Calibration, labels: LabelSet) -> str:
    """The card with a section on the temperatures that were folded into the model; it replaces a former one."""
    temperatures = calibration.temperatures.tolist()
    each = ", ".join(f"{escape(name)} {t:.3f}" for name, t in zip(labels.names, temperatures, strict=True))
    shown = f"{temperatures[0]:.3f}" if len(set(temperatures)) == 1 else f"one for each label: {each}"
    table = markdown(calibration_table(calibration))
    lines = ["## Calibration", "", f"Temperature, folded into the model: {shown}.", "", f"Out of fold:\n\n{table}"]
    section = "\n".join([_BEGIN_CALIBRATION, *lines, _END_CALIBRATION])
    without = re.sub(f"\n?{_BEGIN_CALIBRATION}.*?{_END_CALIBRATION}\n?", "", card, flags=re.DOTALL)
    return f"{without.rstrip()}\n\n{section}\n"


# Cards on the hub


@dataclass(frozen=True)
class Result:
    """Scores of a model on a split, with the 95 % interval of each metric where it has one.

    data: the name of the data. hub_id: that of a published data set. folder: of the report in the repository; None
    without one.
    """

    data: str
    hub_id: str | None
    split: str
    level: str | None
    rows: int
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, Sequence[float | None]]
    folder: str | None = None

    @property
    def shown(self) -> list[str]:
        """The metrics that are defined, in the order of tables."""
        return [name for name, _ in HEADLINES if self.metrics.get(name) is not None]

    def interval(self, name: str) -> tuple[float, float] | None:
        """The 95 % interval of a metric; None without one."""
        low, high = self.intervals.get(name, (None, None))
        return None if low is None or high is None else (low, high)


def published_card(
    card: str, repository: str, decision: Decision, results: Sequence[Result], seed: int | None = None
) -> str:
    """The card of a model in a repository of the hub: with that name, its results and a mark for `merged_card`."""
    front, body = _split(card)
    body = _SIGNATURE.sub("", body)
    if results:
        front["model-index"] = _model_index(repository, decision, results, seed)
        sections = (_result_lines(result, _metric_names(decision)) for result in results)
        lines = [_BEGIN_RESULTS, "## Results", "", *sections, _END_RESULTS]
        body = re.sub(f"\n*{_BEGIN_RESULTS}.*?{_END_RESULTS}", "", body, flags=re.DOTALL)
        before, mark, after = body.partition(_BEGIN)
        body = "\n".join([before.rstrip(), "", *lines, "", mark + after])
    if front.get("language", "en") == "en":
        front["widget"] = [{"text": text} for text in _EXAMPLES]
    for written, published in _NAMES_OF_MODEL:
        body = body.replace(written, published.format(repository))
    body = body.strip()
    return _joined(front, f"\n{body}\n\n<!-- card {_digest(body)} -->\n")


def merged_card(card: str, remote: str) -> str | None:
    """The published card with what was added to the front matter of the remote one, such as a licence.

    None if the text of the remote card was written or edited by hand.
    """
    (front, body), (other, written) = _split(card), _split(remote)
    signed = _SIGNATURE.search(written)
    if written.strip() and (signed is None or signed[1] != _digest(written[: signed.start()].strip())):
        return None
    in_order = {key: front.get(key, value) for key, value in other.items() if key in front or key not in _OWN_KEYS}
    return _joined(in_order | front, body)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _split(card: str) -> tuple[dict[str, Any], str]:
    """The front matter and the text of a card; an unreadable front matter counts as none."""
    found = _FRONT_MATTER.match(card)
    try:
        content = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        content = None
    return (content if isinstance(content, dict) else {}, card[found.end() :] if found else card)


def _joined(front: Mapping[str, Any], body: str) -> str:
    return f"---\n{yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True).strip()}\n---\n{body}"


def _model_index(
    repository: str, decision: Decision, results: Sequence[Result], seed: int | None
) -> list[dict[str, Any]]:
    """The results as the hub reads them (https://github.com/huggingface/hub-docs/blob/main/modelcard.md)."""
    task, names = f"{str(decision.labels.task).replace('_', '-')} emotion classification", _metric_names(decision)
    about = {"thresholds": thresholds_text(decision), "seed": seed}
    about = {key: value for key, value in about.items() if value is not None}
    entries = []
    for result in results:
        metrics = []
        for name in result.shown:
            if name not in _HUB_METRICS:
                continue
            kind, average = _HUB_METRICS[name]
            args: dict[str, Any] = {} if average is None else {"average": average}
            if (pair := result.interval(name)) is not None:
                args["confidence_interval_95"] = [round(bound, 4) for bound in pair]
            value = result.metrics[name]
            assert value is not None, "it is shown"
            metrics.append({"type": kind, "value": round(value, 4), "name": names[name], "args": args | about})
        level = f", {result.level} level" if result.level else ""
        entries.append(
            {
                "task": {"type": "text-classification", "name": f"{task}{level}"},
                # the hub's own word for data that it does not have
                "dataset": {"type": result.hub_id or "unknown", "name": result.data, "split": result.split},
                "metrics": metrics,
            }
        )
    return [{"name": repository.partition("/")[2], "results": entries}]


def _metric_names(decision: Decision) -> dict[str, str]:
    multi_label = decision.labels.task is Task.MULTI_LABEL
    return dict(HEADLINES) | (MULTI_LABEL_NAMES if multi_label else {})


def _result_lines(result: Result, names: Mapping[str, str]) -> str:
    """The section of one result: its table, and the report."""
    level = f", {result.level} level" if result.level else ""
    rows = []
    for name in result.shown:
        low, high = result.interval(name) or (math.nan, math.nan)
        rows.append((names[name], percent(result.metrics[name]), interval(low, high)))
    lines = [f"On the {result.rows:,} {result.split} rows of {escape(result.data)}{level}:", ""]
    lines += [markdown(Table(("metric", "value", "95 % interval"), tuple(rows))), ""]
    if result.folder is not None:
        lines += [f"[The report]({result.folder}/report.html) has the scores of each label.", ""]
    return "\n".join(lines)


def thresholds_text(decision: Decision) -> str | None:
    """How the thresholds were chosen, in a line; None for a model without thresholds."""
    if decision.labels.task is Task.MULTI_CLASS:
        return None
    tuning = decision.tuning
    if not tuning:
        return "not tuned"
    settings = [f"{key} {tuning[key]:g}" for key in ("beta", "macro_weight") if key in tuning]
    more = f" ({', '.join(settings)})" if settings else ""
    return f"{tuning['method']}, for {tuning['objective']}{more}, on {tuning['rows']:,} rows of {tuning['split']}"
