"""Times `emotune predict --input` from file to file, beside the model alone and the loop that one would write.

    python benchmarks/bulk.py MODEL FILE --rows 1000000 --pandas

MODEL         a run or model directory, or default
FILE          a table with a text column; its rows are repeated, the number appended to each, to --rows of them
--rows        rows of the measured file [100,000]
--sample      texts on which the model alone and the loop are timed [20,000]; all of them are different
--pandas      also time pandas with the pipeline of transformers (a network of PyTorch only)

Prints texts per second of each, the ratio of the command to the model alone, and the peak memory of all processes of
the command at a tenth of the rows and at the end. The last line is one JSON object.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from emotune.data.tables.file import TableFile, records_of
from emotune.data.tables.records import TableOptions
from emotune.inference.classifier import EmotionClassifier, load

_BATCH = 32


def texts_of(path: Path, text_column: str | None) -> list[str]:
    """Return the texts of a table."""
    table = TableFile(path, TableOptions(text_column=text_column))
    return [text for block in table.blocks() for text in records_of(table.layout, block).texts]


def repeated(texts: Sequence[str], rows: int) -> Iterator[str]:
    """Yield so many texts; the second time and later, a number makes them different."""
    for i in range(rows):
        round_, at = divmod(i, len(texts))
        yield texts[at] if not round_ else f"{texts[at]} {round_}"


def write_table(path: Path, texts: Sequence[str], rows: int) -> None:
    """Write a CSV file of ids and texts."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(repeated(texts, rows)))


def timed_command(model: str, source: Path, target: Path, more: Sequence[str]) -> dict[str, float]:
    """Run the command; return its seconds, and the MiB of all its processes at a tenth of the output and at most."""
    command = [sys.executable, "-m", "emotune", "predict", "-m", model, "--input", str(source), "--output", str(target)]
    started = time.perf_counter()
    process = subprocess.Popen([*command, "--json", *more], stdout=subprocess.PIPE, text=True)
    output, size = Path(f"{target}.partial/output"), source.stat().st_size
    most, early = 0.0, 0.0
    while process.poll() is None:
        used = memory(process.pid)
        most = max(most, used)
        if output.exists() and output.stat().st_size < size / 3:  # the output is about three times the input
            early = max(early, used)
        time.sleep(0.1)
    seconds = time.perf_counter() - started
    assert process.stdout is not None
    said = process.stdout.read()
    if process.returncode:
        sys.exit("the command failed")
    found = json.loads(said)
    return {"seconds": seconds, "scoring": found["seconds"], "rows": found["rows_out"], "early": early, "most": most}


def memory(pid: int) -> float:
    """Return the MiB that a process and those that it started use alone."""
    try:
        main = psutil.Process(pid)
        return float(sum(p.memory_info().rss for p in (main, *main.children(recursive=True)))) / (1 << 20)
    except psutil.Error:
        return 0.0


def speed(number: int, run: Callable[[], object]) -> float:
    """Return the texts per second of a call that scores so many."""
    started = time.perf_counter()
    run()
    return number / (time.perf_counter() - started)


def bare(classifier: EmotionClassifier, texts: Sequence[str]) -> float:
    """Return the texts per second of the model alone."""
    classifier.logits(texts[:_BATCH])
    return speed(len(texts), lambda: classifier.logits(texts, batch_size=_BATCH))


def loop(classifier: EmotionClassifier, source: Path, target: Path, number: int) -> float:
    """Return the texts per second of `csv` and the classifier, a row at a time as predictions stream."""

    def run() -> None:
        with source.open(newline="", encoding="utf-8") as file, target.open("w", newline="", encoding="utf-8") as out:
            reader, writer = csv.DictReader(file), csv.writer(out)
            rows = [row for row, _ in zip(reader, range(number), strict=False)]
            predictions = classifier.stream(row["text"] for row in rows)
            for row, found in zip(rows, predictions, strict=True):
                writer.writerow([*row.values(), ";".join(found.labels), *(f"{p:.6f}" for p in found.scores.values())])

    return speed(number, run)


def pandas_pipeline(model: Path, source: Path, target: Path, number: int) -> float:
    """Return the texts per second of pandas and the pipeline of transformers."""
    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]
    from transformers import pipeline

    classify = pipeline("text-classification", str(model), top_k=None)

    def run() -> None:
        frame = pd.read_csv(source, nrows=number, keep_default_na=False)
        found = classify(frame["text"].tolist(), batch_size=_BATCH, truncation=True)
        scores = pd.DataFrame([{each["label"]: each["score"] for each in row} for row in found])
        pd.concat([frame, scores], axis=1).to_csv(target, index=False)

    return speed(number, run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("file", type=Path)
    parser.add_argument("--text-column")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--sample", type=int, default=20_000)
    parser.add_argument("--pandas", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the files are written [default: a temporary folder]")
    options, more = parser.parse_known_args()
    texts = texts_of(options.file, options.text_column)
    sample = list(repeated(texts, min(options.rows, options.sample)))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, target = Path(folder) / "in.csv", Path(folder) / "out.csv"
        write_table(source, texts, options.rows)
        print(f"{options.rows:,} rows, {source.stat().st_size / 1e6:,.0f} MB", flush=True)
        found = timed_command(options.model, source, target, more)
        result = {
            "texts_per_second": found["rows"] / found["seconds"],
            "scoring_only": found["rows"] / found["scoring"],
        }
        classifier = load(options.model)
        result["bare"] = bare(classifier, sample)
        result["loop"] = loop(classifier, source, Path(folder) / "loop.csv", len(sample))
        if options.pandas:
            assert classifier.directory is not None
            result["pandas"] = pandas_pipeline(classifier.directory, source, Path(folder) / "p.csv", len(sample))
    result |= {"memory_early": found["early"], "memory_most": found["most"]}
    names = {
        "texts_per_second": "file to file, the start included, texts/s",
        "scoring_only": "file to file, from the first block on, texts/s",
        "bare": "the model alone, texts in memory, texts/s",
        "loop": "csv and a loop over predictions, texts/s",
        "pandas": "pandas and the pipeline of transformers, texts/s",
        "memory_early": "memory in the first tenth, MiB",
        "memory_most": "memory at most, MiB",
    }
    for key, value in result.items():
        print(f"{value:12,.0f}  {names[key]}")
    ratio = result["texts_per_second"] / result["bare"]
    print(f"{ratio:12.2f}  file to file / the model alone")
    print(f"{result['memory_most'] / max(result['memory_early'], 1):12.2f}  memory at most / in the first tenth")
    print(json.dumps({"rows": options.rows, "cpus": len(os.sched_getaffinity(0)), "ratio": round(ratio, 3)} | result))


if __name__ == "__main__":
    main()
