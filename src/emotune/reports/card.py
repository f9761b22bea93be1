"""The model card: README.md of a model directory."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from emotune.data.published import CATALOG, DataSet
from emotune.decision import Decision
from emotune.labels import LabelSet, Task
from emotune.reports.tables import Table, calibration_table, escape, markdown, percent, policies
from emotune.scoring.calibration import Calibration
from emotune.scoring.metrics import metric_name

_BEGIN, _END = "<!-- decision -->", "<!-- /decision -->"
_BEGIN_CALIBRATION, _END_CALIBRATION = "<!-- calibration -->", "<!-- /calibration -->"

_SNIPPET = """\
```python
import json
from transformers import pipeline

classify = pipeline("text-classification", model=MODEL_DIR, top_k=None)
thresholds = json.load(open(f"{MODEL_DIR}/decision.json"))["thresholds"]
for scores in classify(["I can't believe you did that for me!"]):
    print([s["label"] for s in scores if s["score"] >= thresholds[s["label"]] < 1])
```"""


@dataclass(frozen=True)
class CardFacts:
    """What the card tells of a training: plain words and numbers, ready to print.

    `encoder` is empty for a kind of model that starts from none.
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
    """The card as Markdown with the YAML front matter that the hub reads."""
    plain = facts.portability == "transformers"
    front = {
        "library_name": "transformers" if plain else "emotune",
        "pipeline_tag": "text-classification",
        # the hub refuses a card whose base model is not one of its own
        **({"base_model": facts.encoder} if facts.encoder_on_hub else {}),
        **({"datasets": [data_set.hub_id for data_set in facts.published]} if facts.published else {}),
        "tags": ["emotion", "emotune", str(decision.labels.task).replace("_", "-")],
    }
    rows = ", ".join(f"{n:,} {split}" for split, n in facts.rows.items())
    return "\n".join(
        [
            "---",
            yaml.safe_dump(front, sort_keys=False).strip(),
            "---",
            "",
            f"# {escape(facts.name)}",
            "",
            f"Says which of {len(decision.labels)} emotions a text carries "
            f"({'any number of them' if decision.labels.task is Task.MULTI_LABEL else 'exactly one'}). "
            f"Trained with emotune{_origin(facts)}. Portability: {facts.portability}.",
            "",
            *_use(decision, plain=plain),
            "## Data",
            "",
            *[f"- {escape(line)}" for line in facts.data],
            f"- rows: {rows}",
            *[f"- doubtful: {escape(line)}" for line in facts.findings],
            "",
            *[line for data_set in facts.published for line in _published(data_set)],
            "## Validation",
            "",
            *_validation(facts, decision),
            "## Training",
            "",
            markdown(Table(("setting", "value"), tuple((k, v) for k, v in facts.settings.items()))),
            "",
            _BEGIN,
            _decision_section(decision),
            _END,
            "",
        ]
    )


def _origin(facts: CardFacts) -> str:
    """What it was trained from, and what it is where that is not plain."""
    origin = f" from `{facts.encoder}` ({escape(facts.encoder_origin)})" if facts.encoder else ""
    return origin if facts.portability == "transformers" else f"{origin}: {escape(facts.kind)}"


def _use(decision: Decision, *, plain: bool = True) -> list[str]:
    return [
        "## Use",
        "",
        "```python",
        "import emotune",
        "",
        'classifier = emotune.load("MODEL_DIR")',
        'print(classifier("I can\'t believe you did that for me!")[0].labels)',
        "```",
        "",
        *(_plain_use(decision) if plain else ["Plain transformers cannot load this kind of model.", ""]),
    ]


def _plain_use(decision: Decision) -> list[str]:
    if decision.labels.task is Task.MULTI_CLASS:
        return [
            'Plain transformers gives the same probabilities: `pipeline("text-classification", model=MODEL_DIR)`.',
            "",
        ]
    return ["Plain transformers gives the same probabilities; the thresholds it does not know:", "", _SNIPPET, ""]


def _published(data_set: DataSet) -> list[str]:
    """Where published data come from, what their makers allow, and how they want to be cited."""
    terms = f" Terms: {escape(data_set.terms)}." if data_set.terms else ""
    source = f"Trained on [{escape(data_set.title)}]({data_set.page}). Licence: {data_set.licence}.{terms} Please cite:"
    return [source, "", "```bibtex", data_set.citation, "```", ""]


def _validation(facts: CardFacts, decision: Decision) -> list[str]:
    how = "thresholds tuned out of fold" if decision.tuning else "no thresholds were tuned"
    table = Table(("metric", "value"), tuple((metric_name(k), percent(v)) for k, v in facts.validation.items()))
    rows = f"the {facts.rows.get('valid', 0):,} validation rows"
    lines = [f"On {rows} when training ended ({how}):", "", markdown(table), ""]
    if facts.temperature != 1.0:
        note = f"A temperature of {facts.temperature:.3f}, fitted on the same rows, is folded into the model."
        lines += [note, ""]
    return lines


def _decision_section(decision: Decision) -> str:
    lines = ["## Decision", ""]
    if decision.labels.task is Task.MULTI_CLASS:
        return "\n".join([*lines, *policies(decision)])
    tuning = decision.tuning
    if tuning:
        reached = ", ".join(f"{metric_name(name)} {percent(value)}" for name, value in tuning["out_of_fold"].items())
        beta = f" (beta {tuning['beta']:g})" if "beta" in tuning else ""
        lines += [
            f"Thresholds: {tuning['method']}, for {tuning['objective']}{beta}, "
            f"on {tuning['rows']:,} rows of {tuning['split']}.",
            f"Out of fold: {reached}.",
        ]
        if tuning.get("unreached"):
            lines.append(
                f"Never given, for the precision is out of their reach: {escape(', '.join(tuning['unreached']))}."
            )
    else:
        lines.append("Thresholds: not tuned.")
    lines += policies(decision)
    table = Table(
        ("label", "threshold"),
        tuple((n, f"{t:.3f}") for n, t in zip(decision.labels.names, decision.thresholds, strict=True)),
    )
    return "\n".join([*lines, "", markdown(table)])


def update_card(card: str, decision: Decision) -> str:
    """The card with another decision section; a card without one is left as it is."""
    section = f"{_BEGIN}\n{_decision_section(decision)}\n{_END}"
    return re.sub(f"{_BEGIN}.*?{_END}", lambda _: section, card, count=1, flags=re.DOTALL)


def adopted_card(name: str, decision: Decision, licence: str | None) -> str:
    """The card of a classifier that emotune did not train; `licence` as the card of its source gives it."""
    on_hub = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    front = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        **({"base_model": name} if on_hub else {}),
        **({"license": licence} if licence else {}),
        "tags": ["emotion", "emotune", str(decision.labels.task).replace("_", "-")],
    }
    task = "any number of them" if decision.labels.task is Task.MULTI_LABEL else "exactly one"
    source = f"`{name}`" if on_hub else "a model that lay on the disk of whoever did this"
    return "\n".join(
        [
            "---",
            yaml.safe_dump(front, sort_keys=False).strip(),
            "---",
            "",
            f"# {escape(name.rstrip('/').rsplit('/', 1)[-1])}, tuned with emotune",
            "",
            f"Says which of {len(decision.labels)} emotions a text carries ({task}). "
            f"Its weights are those of {source}; emotune read them, and did not train them. "
            "Licence and limits are those of its source.",
            "",
            *_use(decision),
            _BEGIN,
            _decision_section(decision),
            _END,
            "",
        ]
    )


def published_of(card: str) -> list[DataSet]:
    """The data sets of the catalogue that the front matter of a card names as those that its model was trained on."""
    front = re.match(r"---\n(.{,10000}?)\n---\n", card, re.DOTALL)
    try:
        content = yaml.safe_load(front[1]) if front else None
    except yaml.YAMLError:
        return []
    named = content.get("datasets") if isinstance(content, dict) else None
    return [data_set for data_set in CATALOG.values() if isinstance(named, list) and data_set.hub_id in named]


def ensemble_card(
    name: str, told: Sequence[str], members: Table, decision: Decision, published: Sequence[DataSet] = ()
) -> str:
    """The card of an ensemble: what it is made of, in sentences and as a table with what each member reaches."""
    front = {
        "library_name": "emotune",
        "pipeline_tag": "text-classification",
        **({"datasets": [data_set.hub_id for data_set in published]} if published else {}),
        "tags": ["emotion", "emotune", "ensemble", str(decision.labels.task).replace("_", "-")],
    }
    task = "any number of them" if decision.labels.task is Task.MULTI_LABEL else "exactly one"
    return "\n".join(
        [
            "---",
            yaml.safe_dump(front, sort_keys=False).strip(),
            "---",
            "",
            f"# {escape(name)}",
            "",
            f"Says which of {len(decision.labels)} emotions a text carries ({task}): the mean of the logits of the "
            "models in `members/`, each of which has a card of its own. Portability: emotune.",
            "",
            *_use(decision, plain=False),
            "## Members",
            "",
            markdown(members),
            "",
            *[f"- {escape(line)}" for line in told],
            "",
            *[line for data_set in published for line in _published(data_set)],
            _BEGIN,
            _decision_section(decision),
            _END,
            "",
        ]
    )


def with_calibration(card: str, calibration: Calibration, labels: LabelSet) -> str:
    """The card with a section on the temperatures that were folded into the model, in place of a former one."""
    temperatures = calibration.temperatures.tolist()
    each = ", ".join(f"{escape(name)} {t:.3f}" for name, t in zip(labels.names, temperatures, strict=True))
    told = f"{temperatures[0]:.3f}" if len(set(temperatures)) == 1 else f"each label's own: {each}"
    table = markdown(calibration_table(calibration))
    lines = ["## Calibration", "", f"Temperature, folded into the model: {told}.", "", f"Out of fold:\n\n{table}"]
    section = "\n".join([_BEGIN_CALIBRATION, *lines, _END_CALIBRATION])
    without = re.sub(f"\n?{_BEGIN_CALIBRATION}.*?{_END_CALIBRATION}\n?", "", card, flags=re.DOTALL)
    return f"{without.rstrip()}\n\n{section}\n"
