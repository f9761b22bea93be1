"""Collect the texts of several data sets in one file, for `data.unlabelled_texts` of a student.

    python benchmarks/unlabelled_texts.py OUT.txt DATA [DATA …] --without DATA [--without DATA …]

DATA is a data set as `--data` takes it; its training and validation texts are taken, without their labels, each once.
No text of the data sets after --without is written: name those that judge the student. Blanks and line breaks in a text
become a space.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from emotune.config.schema import DataConfig
from emotune.data.corpus import load_corpus, resolve_data


def texts_of(name: str) -> Iterator[str]:
    """Yield the training and validation texts of a data set, on one line each."""
    splits = load_corpus(resolve_data(DataConfig(path=name))).splits
    for split in ("train", "valid"):
        yield from (" ".join(record.text.split()) for record in splits.get(split, ()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--without", action="append", default=[])
    args = parser.parse_args()
    known = {text for name in args.without for text in texts_of(name)}
    found = [text for text in dict.fromkeys(text for name in args.data for text in texts_of(name)) if text]
    kept = [text for text in found if text not in known]
    args.out.write_text("".join(f"{text}\n" for text in kept), encoding="utf-8")
    print(f"{args.out}: {len(kept):,} texts; {len(found) - len(kept):,} are in the data that judges")


if __name__ == "__main__":
    main()
