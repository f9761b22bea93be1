"""Exported models beside the model they were made from and the pipeline of transformers: speed, size and parity.

    python benchmarks/export.py MODEL --data FILE [--profiles exact compact fast] [--sample 1000] [--singles 100]

FILE is labelled data as `emotune evaluate --data` takes it. Each profile is exported to a temporary folder; its parity
with MODEL on FILE comes from that export. Then all sides score the same texts in this process with the same number of
threads, in turns: one text at a time (the median of their milliseconds), and all texts at batch 32 (texts a second).
The sides: the pipeline of transformers, MODEL in emotune with PyTorch, and each profile. Ratios are medians over the
turns. The last line of the output is one JSON object.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import emotune
from emotune.config.kinds import available_cpus
from emotune.errors import EmotuneError
from emotune.reporter import NullReporter
from emotune.runs.layout import read_other
from emotune.workflows.export import ExportOutcome, ExportRequest, export_model

BATCH, TURNS = 32, 5
# parity is reported here, not required
UNLIMITED = {"largest_difference": 1.0, "flipped": 1.0, "macro_f1_lost": 1.0, "batch_dependence": 1.0}
Side = Callable[[Sequence[str], int], Any]


def exports(model: str, data: str, profiles: Sequence[str], folder: Path) -> dict[str, ExportOutcome]:
    """Export each profile that this version has."""
    found = {}
    for profile in profiles:
        request = ExportRequest(model, folder / profile, profile, data=data, limits=UNLIMITED)
        try:
            found[profile] = export_model(request, NullReporter())
        except ImportError as error:
            print(f"{profile}: not available ({error})", flush=True)
    return found


def sides_of(model: str, outcomes: dict[str, ExportOutcome], threads: int) -> dict[str, Side]:
    """Return the functions that score texts at a batch size, by the name of the side."""
    sides: dict[str, Side] = {}
    classifier = emotune.load(model, device="cpu", threads=threads)
    try:
        from transformers import pipeline

        theirs = pipeline("text-classification", model=str(classifier.directory), device="cpu", top_k=None)
        sides["pipeline"] = lambda texts, batch: theirs(list(texts), batch_size=batch)
    except (ImportError, ValueError) as error:
        print(f"no pipeline: {error}", flush=True)
    sides["pytorch"] = lambda texts, batch: classifier.predict(texts, batch_size=batch)
    for profile, outcome in outcomes.items():
        loaded = emotune.load(outcome.out, threads=threads)
        sides[profile] = lambda texts, batch, loaded=loaded: loaded.predict(texts, batch_size=batch)  # type: ignore[misc]
    return sides


def measure(sides: dict[str, Side], texts: Sequence[str], singles: int) -> dict[str, dict[str, list[float]]]:
    """Return the median milliseconds of single texts and the texts a second, of each side and turn."""
    found: dict[str, dict[str, list[float]]] = {name: {"single_ms": [], "texts_per_second": []} for name in sides}
    for turn in range(TURNS):
        for name, score in sides.items():
            score(texts[:BATCH], BATCH)
            started = time.perf_counter()
            score(texts, BATCH)
            found[name]["texts_per_second"].append(len(texts) / (time.perf_counter() - started))
            each = []
            for text in texts[turn * singles : (turn + 1) * singles] or texts[:singles]:
                started = time.perf_counter()
                score([text], 1)
                each.append(1000 * (time.perf_counter() - started))
            found[name]["single_ms"].append(statistics.median(each))
    return found


def summary(measured: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Return the medians over the turns, and how many times better than the pipeline each side is."""
    found = {}
    for name, values in measured.items():
        found[name] = {key: round(statistics.median(each), 2) for key, each in values.items()}
        if base := measured.get("pipeline"):
            single = [a / b for a, b in zip(base["single_ms"], values["single_ms"], strict=True)]
            bulk = [b / a for a, b in zip(base["texts_per_second"], values["texts_per_second"], strict=True)]
            found[name] |= {
                "single_times_the_pipeline": round(statistics.median(single), 2),
                "bulk_times_the_pipeline": round(statistics.median(bulk), 2),
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--profiles", nargs="+", default=["exact", "compact", "fast"])
    parser.add_argument("--sample", type=int, default=1000)
    parser.add_argument("--singles", type=int, default=100)
    parser.add_argument("--threads", type=int, default=available_cpus())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        outcomes = exports(options.model, options.data, options.profiles, Path(folder))
        labels = emotune.load(options.model, device="cpu").labels
        _, corpus = read_other(None, options.data, [labels], None)
        texts = [record.text for records in corpus.splits.values() for record in records if record.text.strip()]
        found: dict[str, Any] = {"threads": options.threads, "texts": len(texts[: options.sample])}
        for profile, outcome in outcomes.items():
            found[profile] = outcome.parity.to_json() | {"bytes": outcome.record.bytes["export"]}
        print(json.dumps(found, indent=2), flush=True)
        sides = sides_of(options.model, outcomes, options.threads)
        speeds = summary(measure(sides, texts[: options.sample], options.singles))
    for name, values in speeds.items():
        print(f"{name:10}", "  ".join(f"{key} {value:g}" for key, value in values.items()), flush=True)
    print(json.dumps(found | {"speed": speeds}))


if __name__ == "__main__":
    try:
        main()
    except EmotuneError as error:
        raise SystemExit(f"error: {error}") from None
