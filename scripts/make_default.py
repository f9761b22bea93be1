"""Make the model that is part of emotune, in src/emotune/default.

    python scripts/make_default.py --data DATA --runs runs/default

Trains the recipe goemotions with three seeds (about 12 minutes each on one core), exports them with the profile fast,
takes the export with the best sum of macro-F1 and micro-F1 on the development rows, out of fold, and writes its card.
Runs that exist are used. DATA is a folder with GoEmotions' train.tsv and dev.tsv. The test rows are not read.
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
from emotune.errors import ModelError
from emotune.reporter import NullReporter
from emotune.reports.tables import Table, label_table, markdown, overall_table
from emotune.runs import layout
from emotune.scoring.metrics import Scores, score
from emotune.scoring.tuning import decide_out_of_fold, start_decision
from emotune.workflows.check import CheckOutcome, check
from emotune.workflows.export import ExportRequest, export_model
from emotune.workflows.train import train

PACKAGE = Path(__file__).parents[1] / "src" / "emotune"
RECIPE, PROFILE = "goemotions", "fast"
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
            train(
                load_config(RECIPE, [f"data.path={args.data}", f"training.seed={seed}"]), run, reporter=NullReporter()
            )
        trained[run] = out_of_fold(run, run)
        print(f"seed {seed}: {figures(trained[run])}")
        try:
            export_model(ExportRequest(str(run), out, PROFILE, overwrite=True), NullReporter())
        except ModelError as error:  # it differs too much
            print(f"seed {seed} is left out: {error}")
            continue
        exported[run] = out_of_fold(run, out)
        print(f"seed {seed}, exported: {figures(exported[run])}")
    best = max(exported, key=lambda run: exported[run].overall["macro_f1"] + exported[run].overall["micro_f1"])
    bundle(best.with_name(best.name.replace("seed", "export")), best, [*trained.values()], exported[best])
    print(f"{PACKAGE / 'default'}: {size(PACKAGE / 'default') / 1e6:.1f} MB, from {best}")


def out_of_fold(run: Path, place: Path) -> Scores:
    """Score the development rows as `place` has their logits, with thresholds chosen out of fold."""
    config, labels = layout.read_config(run), read_decision(find_model(str(run))).labels
    logits, targets = layout.read_valid(place, labels)
    start = start_decision(labels, config.decision)
    decided = decide_out_of_fold(logits, targets, start, config.tuning)
    return score(targets, decided, start.probabilities(logits), labels)


def figures(scores: Scores) -> str:
    """Return macro-F1 and micro-F1."""
    return f"{scores.overall['macro_f1']:.3f} / {scores.overall['micro_f1']:.3f}"


def bundle(export: Path, run: Path, seeds: list[Scores], scores: Scores) -> None:
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
    sealed(card(run, seeds, scores, behaviour, record))
    verify(stage)
    if (found := size(stage)) > MOST_BYTES:
        raise SystemExit(f"{stage} has {found:,} bytes, more than {MOST_BYTES:,}")
    with staged(PACKAGE / "default") as place:
        shutil.copytree(stage, place, dirs_exist_ok=True)


def size(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


def card(run: Path, seeds: list[Scores], scores: Scores, behaviour: CheckOutcome, record: dict[str, object]) -> str:
    """Return the model card."""
    labels = read_decision(find_model(str(run))).labels
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
        "groups": moved_groups(behaviour),
        "behaviour": markdown(Table(("capability", "passed", "rate"), tuple(rates))),
    }
    text = (Path(__file__).with_name("default_card.md")).read_text(encoding="utf-8")
    for name, value in parts.items():
        text = text.replace(f"{{{{ {name} }}}}", value)
    return text


def moved_groups(behaviour: CheckOutcome) -> str:
    """Return a list of the cases in which the name of a group moves the probability of a label too far."""
    failed = (result for result in behaviour.results if result.passed is False and result.case.capability == "groups")
    return "\n".join(f"  - {result.found}" for result in failed if result.case.kind is Kind.INVARIANCE)


if __name__ == "__main__":
    main()
