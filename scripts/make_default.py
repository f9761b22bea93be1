"""Make the model that is part of emotune, in src/emotune/default.

    python scripts/make_default.py --data DATA --runs runs/default

Trains the recipe goemotions-best with three seeds, which share the teacher of the first one (on one core about 40
minutes for the teacher and 10 for a seed), exports them with the profile fast, takes the export with the best sum of
macro-F1 and micro-F1 on the development rows, and writes its card. Runs that exist are used. DATA is a folder with
GoEmotions' train.tsv and dev.tsv. The test rows are not read.
"""

import argparse
import shutil
from pathlib import Path

from emotune.artifact.exported import EXPORT
from emotune.artifact.manifest import find_model, read_decision, read_manifest, seal, verify
from emotune.artifact.safety.files import read_json
from emotune.atomic import staged, write_file, write_json
from emotune.config.behaviour import Kind
from emotune.config.loading import load_config
from emotune.decision import Decision
from emotune.errors import ModelError
from emotune.labels import LabelSet
from emotune.reporter import NullReporter
from emotune.reports.tables import Table, label_table, markdown, overall_table
from emotune.runs import layout
from emotune.scoring.metrics import Scores, score
from emotune.scoring.tuning import tune_decision
from emotune.workflows.check import CheckOutcome, check
from emotune.workflows.cross_train import train_configured
from emotune.workflows.export import ExportRequest, export_model

PACKAGE = Path(__file__).parents[1] / "src" / "emotune"
RECIPE, PROFILE = "goemotions-best", "fast"
RULES = {"mean_f1": "balanced, in use here", "macro_f1": "best macro-F1", "micro_f1": "best micro-F1"}
MOST_BYTES = 25_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.tsv and dev.tsv of GoEmotions")
    parser.add_argument("--runs", type=Path, default=Path("runs/default"))
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    trained, exported = {}, {}
    for seed in range(args.seeds):
        run, out = args.runs / f"seed-{seed}", args.runs / f"export-{seed}"
        if not (run / "model").is_dir():
            shared = [f"data.teacher={teacher_of(args.runs)}"] if seed else []
            config = load_config(RECIPE, [f"data.path={args.data}", f"training.seed={seed}", *shared])
            train_configured(config, run, reporter=NullReporter())
        trained[run] = scores_of(run)
        print(f"seed {seed}: {figures(trained[run])}")
        try:
            export_model(ExportRequest(str(run), out, PROFILE, overwrite=True), NullReporter())
        except ModelError as error:  # it differs too much
            print(f"seed {seed} is left out: {error}")
            continue
        exported[run] = scores_of(out)
        print(f"seed {seed}, exported: {figures(exported[run])}")
    best = max(exported, key=lambda run: exported[run].overall["macro_f1"] + exported[run].overall["micro_f1"])
    export = best.with_name(best.name.replace("seed", "export"))
    bundle(export, [*trained.values()], exported[best], rules(export, teacher_of(args.runs)))
    print(f"{PACKAGE / 'default'}: {size(PACKAGE / 'default') / 1e6:.1f} MB, from {best}")


def teacher_of(runs: Path) -> Path:
    """Return the teacher of all seeds."""
    return runs / "seed-0" / layout.TEACHER_RUN


def scores_of(place: Path, decision: Decision | None = None) -> Scores:
    """Score the development rows by the thresholds of a run or an export, which the training rows chose."""
    decision = decision or read_decision(find_model(str(place)))
    logits, targets = layout.read_valid(place, decision.labels)
    probabilities = decision.probabilities(logits)
    return score(targets, decision.decide(probabilities), probabilities, decision.labels)


def rules(export: Path, teacher: Path) -> dict[str, tuple[Decision, Scores]]:
    """Return the decision rule of each objective, chosen as in the training, and its scores on the development rows."""
    decision = read_decision(export)
    logits, targets = layout.read_valid(teacher, decision.labels, layout.OOF)
    start, tuning = Decision.default(decision.labels), load_config(RECIPE).tuning
    found = {}
    for objective in RULES:
        asked = tuning.model_copy(update={"objective": objective})
        rule, _ = tune_decision(logits, targets, start, asked, {"split": "train"})
        found[objective] = (rule, scores_of(export, rule))
    return found


def figures(scores: Scores) -> str:
    """Return macro-F1 and micro-F1."""
    return f"{scores.overall['macro_f1']:.3f} / {scores.overall['micro_f1']:.3f}"


def bundle(export: Path, seeds: list[Scores], scores: Scores, ways: dict[str, tuple[Decision, Scores]]) -> None:
    """Copy an export to the package, without what only its maker needs, and with a card of its own."""
    stage = export.with_name("bundle")
    shutil.rmtree(stage, ignore_errors=True)
    shutil.copytree(export, stage)
    (stage / layout.VALID).unlink()  # only `emotune tune` reads it
    record = read_json(stage / EXPORT)
    record["source"]["place"] = None
    write_json(stage / EXPORT, record)
    manifest = read_manifest(stage)
    fields = ("kind", "portability", "encoder", "max_tokens", "versions", "data")

    def sealed(card: str) -> None:
        write_file(stage / "README.md", card)
        seal(stage, **{name: getattr(manifest, name) for name in fields})

    sealed("---\nlanguage: en\n---\n")
    behaviour = check(str(stage), None, reporter=NullReporter())
    sealed(card(read_decision(stage).labels, seeds, scores, ways, behaviour, record))
    verify(stage)
    if (found := size(stage)) > MOST_BYTES:
        raise SystemExit(f"{stage} has {found:,} bytes, more than {MOST_BYTES:,}")
    with staged(PACKAGE / "default") as place:
        shutil.copytree(stage, place, dirs_exist_ok=True)


def size(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


def card(
    labels: LabelSet,
    seeds: list[Scores],
    scores: Scores,
    ways: dict[str, tuple[Decision, Scores]],
    behaviour: CheckOutcome,
    record: dict[str, object],
) -> str:
    """Return the model card."""
    parity = record["parity"]
    assert isinstance(parity, dict)
    rates = [
        (name, f"{tally.passed} of {tally.cases}", f"{tally.rate:.0%}" if tally.rate is not None else "")
        for name, tally in (*behaviour.capabilities.items(), ("all", behaviour.total))
    ]
    parts = {
        "seeds": ", ".join(map(figures, seeds)),
        "flipped": f"{parity['flipped']:.2%}",
        "largest": f"{parity['largest_difference']:.3f}",
        "lost": f"{max(parity['macro_f1_lost'], 0):.4f}",
        "overall": markdown(overall_table(scores, multi_label=True)),
        "labels": markdown(label_table(scores, labels)),
        "rules": markdown(rules_table(ways)),
        "thresholds": markdown(thresholds_table(labels, ways)),
        "groups": moved_groups(behaviour),
        "behaviour": markdown(Table(("capability", "passed", "rate"), tuple(rates))),
    }
    text = (Path(__file__).with_name("default_card.md")).read_text(encoding="utf-8")
    for name, value in parts.items():
        text = text.replace(f"{{{{ {name} }}}}", value)
    return text


def rules_table(ways: dict[str, tuple[Decision, Scores]]) -> Table:
    """Return the scores of each decision rule."""
    rows = [
        (name, RULES[name], *(f"{scores.overall[key]:.3f}" for key in ("macro_f1", "micro_f1")))
        for name, (_, scores) in ways.items()
    ]
    return Table(("rule", "", "macro-F1", "micro-F1"), tuple(rows))


def thresholds_table(labels: LabelSet, ways: dict[str, tuple[Decision, Scores]]) -> Table:
    """Return the threshold of each label by each decision rule."""
    columns = [rule.thresholds for rule, _ in ways.values()]
    rows = [(name, *(f"{column[i]:.3f}" for column in columns)) for i, name in enumerate(labels.names)]
    return Table(("label", *ways), tuple(rows))


def moved_groups(behaviour: CheckOutcome) -> str:
    """Return a list of the cases in which the name of a group moves the probability of a label too far."""
    failed = (result for result in behaviour.results if result.passed is False and result.case.capability == "groups")
    return "\n".join(f"  - {result.found}" for result in failed if result.case.kind is Kind.INVARIANCE)


if __name__ == "__main__":
    main()
