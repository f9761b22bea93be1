"""The model card: README.md of a model directory."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from markupsafe import Markup

from emotune.data.published import DataSet, data_sets
from emotune.decision import Decision
from emotune.labels import LabelSet, Task
from emotune.reports.tables import Table, calibration_table, escape, markdown, percent, policies, threshold_table
from emotune.reports.writer import render_markdown
from emotune.scoring.calibration import Calibration
from emotune.scoring.metrics import metric_name

# the marks by which the sections of a card are found again, also in cards of earlier versions
_BEGIN, _END = "<!-- decision -->", "<!-- /decision -->"
_LICENCE = re.compile(r"^license:[ \t]*([A-Za-z0-9.\-]{1,60})[ \t]*$", re.MULTILINE)
_BEGIN_CALIBRATION, _END_CALIBRATION = "<!-- calibration -->", "<!-- /calibration -->"


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
    on_hub = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    front = {
        "library_name": "transformers",
        "language": language,
        "base_model": name if on_hub else None,
        "license": licence,
    }
    source = f"`{name}`" if on_hub else "a local model"
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
    if tuning:
        reached = ", ".join(f"{metric_name(name)} {percent(value)}" for name, value in tuning["out_of_fold"].items())
        beta = f" (beta {tuning['beta']:g})" if "beta" in tuning else ""
        rows = f"{tuning['rows']:,} rows of {tuning['split']}"
        lines.append(f"Thresholds: {tuning['method']}, for {tuning['objective']}{beta}, on {rows}.")
        lines.append(f"Out of fold: {reached}.")
        if tuning.get("unreached"):
            unreached = escape(", ".join(tuning["unreached"]))
            lines.append(f"Never predicted, as they do not reach the precision: {unreached}.")
    else:
        lines.append("Thresholds: not tuned.")
    return "\n".join([*lines, *policies(decision), "", markdown(threshold_table(decision)), _END])


def update_card(card: str, decision: Decision) -> str:
    """The card with another decision section; a card without one is left as it is."""
    return re.sub(f"{_BEGIN}.*?{_END}", lambda _: _decision_section(decision), card, count=1, flags=re.DOTALL)


def published_of(card: str) -> list[DataSet]:
    """The published data sets that the front matter of a card names."""
    front = re.match(r"---\n(.{,10000}?)\n---\n", card, re.DOTALL)
    try:
        content = yaml.safe_load(front[1]) if front else None
    except yaml.YAMLError:
        return []
    named = content.get("datasets") if isinstance(content, dict) else None
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
