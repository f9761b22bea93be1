"""Valid label files of every format, and seeded damage to their bytes."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

from emotune.data.formats import READERS
from emotune.data.records import Record
from emotune.labels import LabelSet, Task
from hostile_files import zipped
from label_files import SUFFIXES, csv_of, render

LABELS = LabelSet(("anger", "fear", "joy"))
LINE = "the rain fell on us and we were so glad to be home again, she said; no: never | mind"
RATERS = "text,id,rater_id,example_very_unclear,anger,fear,joy\n" + "".join(
    f'"so it goes, {i // 3}",t{i // 3},{i % 3},{i % 7 == 0},{i % 2},{int(i % 5 == 0)},{(i + 1) % 2}\n'
    for i in range(30)
)


def valid_files() -> dict[str, bytes]:
    """File names and bytes, one of each format and some packed."""
    rng = random.Random(7)
    texts = [" ".join(rng.choices(LINE.split(), k=rng.randint(2, 9))) for _ in range(24)]
    texts += ['a "quoted" one', "two\nlines", "né 😀"]
    several, single = [], []
    for n, text in enumerate(texts):
        labels = tuple(i for i in range(3) if rng.random() < 0.4)
        several.append(Record(text, labels, Path("x"), 1, f"id{n}"))
        single.append(Record(text.replace("\n", " "), (rng.randrange(3),), Path("x"), 1, f"id{n}"))
    one_each = LabelSet(LABELS.names, Task.MULTI_CLASS)
    found = {"raters.csv": RATERS.encode()}
    for name in READERS:
        plain = [Record(r.text.replace("\n", " "), r.labels, r.path, 1, r.id) for r in several]
        records, labels = (single, one_each) if name == "text_label" else (several, LABELS)
        records = plain if name in ("goemotions", "fasttext") else records
        found[f"{name}{SUFFIXES.get(name, '.csv')}"] = render(records, labels, name)
    found["names.csv"] = render(single, one_each, "table")
    found |= {f"{form}.csv": content.encode() for form, content in _label_cells(several).items()}
    found["array.json"] = b"[" + found["jsonl.jsonl"].strip().replace(b"\n", b",\n") + b"]"
    found["under.json"] = b'{"version": 1,\n"data": ' + found["array.json"] + b"}"
    found["tasks.json"] = json.dumps([_task(r, i) for i, r in enumerate(single)], indent=1).encode()
    found["prodigy.jsonl"] = "".join(json.dumps(_answer(r, i)) + "\n" for i, r in enumerate(several)).encode()
    found["utf16.csv"] = found["table.csv"].decode().encode("utf-16")
    found["excel.csv"] = b"sep=,\n" + found["table.csv"]
    found["table.csv.zip"] = zipped({"table.csv": found["table.csv"]})
    found["table.csv.gz"] = gzip.compress(found["table.csv"], mtime=0)
    return found


def _label_cells(records: list[Record]) -> dict[str, str]:
    """Tables with label cells of other forms, and with columns of other values."""
    names = [[LABELS.names[i] for i in r.labels] for r in records]
    flags = [[int(i in r.labels) for i in range(3)] for r in records]
    forms: dict[str, list[object]] = {
        "tuples": [tuple(found) for found in names],
        "vectors": [str(row) for row in flags],
        "digits": ["".join(map(str, row)) for row in flags],
        "float-ids": [",".join(f"{i}.0" for i in r.labels) for r in records],
        "shares": [dict.fromkeys(found, 1.0) for found in names],
        "hashes": ["#".join(found) or "joy" for found in names],
    }
    found = {
        form: csv_of([("text", "labels"), *zip((r.text for r in records), cells, strict=True)])
        for form, cells in forms.items()
    }
    answers = [(r.text, *("yes" if flag else "no" for flag in row)) for r, row in zip(records, flags, strict=True)]
    marks = [(r.text, *("x" if flag else "" for flag in row), "") for r, row in zip(records, flags, strict=True)]
    found["answers"] = csv_of([("text", *LABELS.names), *answers])
    found["marks"] = csv_of([("text", *LABELS.names, ""), *marks])
    return found


def _task(record: Record, number: int) -> dict[str, object]:
    """A task of Label Studio: with no, one or two annotations, some of them skipped."""
    names = [LABELS.names[i] for i in record.labels]
    result = [{"from_name": "mood", "to_name": "text", "type": "choices", "value": {"choices": names}}]
    annotations = [
        {"completed_by": i, "was_cancelled": (number + i) % 5 == 0, "result": result} for i in range(number % 4 or 2)
    ]
    return {"id": number, "data": {"text": record.text}, "annotations": annotations if number % 7 else []}


def _answer(record: Record, number: int) -> dict[str, object]:
    names = [LABELS.names[i] for i in record.labels]
    answer = ("accept", "accept", "reject", "ignore")[number % 4]
    return {
        "text": record.text,
        "options": [{"id": n, "text": n} for n in LABELS.names],
        "accept": names,
        "answer": answer,
    }


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The bytes with one to three kinds of damage."""
    for _ in range(rng.randint(1, 3)):
        content = rng.choice(DAMAGE)(content, rng)
    return content


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _insert(pieces: tuple[bytes, ...]) -> Callable[[bytes, random.Random], bytes]:
    def do(content: bytes, rng: random.Random) -> bytes:
        at = rng.randrange(len(content) + 1)
        return content[:at] + rng.choice(pieces) + content[at:]

    return do


def _double(content: bytes, rng: random.Random) -> bytes:
    mark = rng.choice([b",", b"\t", b";", b"|", b'"', b"\n", b" ", b":", b"{", b"]"])
    at = content.find(mark, rng.randrange(len(content) + 1))
    return content if at < 0 else content[:at] + mark + content[at:]


def _drop(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.randint(1, 30) :]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start : start + rng.randint(1, 80)] + content[start:]


def _swap_quotes(content: bytes, rng: random.Random) -> bytes:
    return content.replace(b'"', b"'", rng.randint(1, 5)) if rng.random() < 0.5 else content.replace(b'"', b"", 1)


def _huge_line(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice([b"x", b",", b'"', b"[", b"9", b"\\"]) * 200_000 + content[at:]


def _line_ends(content: bytes, rng: random.Random) -> bytes:
    return content.replace(b"\n", rng.choice([b"\r", b"\r\n", b"\n\n", b"\n\r"]))


DAMAGE: list[Callable[[bytes, random.Random], bytes]] = [
    _cut,
    _flip,
    _flip,
    _double,
    _drop,
    _repeat,
    _swap_quotes,
    _huge_line,
    _line_ends,
    _insert((b"\0", b"\0\0\0\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"\x1a", b"\x85")),
    _insert((b",", b"\t", b";", b'"', b"'", b"[", b"]", b"{", b"}", b"\r", b"\n", b"\\", b"-", b"__label__", b"null")),
    _insert((b"2", b"NaN", b"1e999", b"99999999999999999999", b"True", b"[[]]", b"{}", b'""', b'",""', b"\\ud800")),
]
