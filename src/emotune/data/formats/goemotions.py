"""GoEmotions' TSV: text, comma-joined label ids, comment id; no header, no quoting."""

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from emotune.data.formats.base import LABEL_ID, MOST, Family, Layout, ReadOptions, Row
from emotune.data.formats.cells import NameReader, names_of_ids, require_names
from emotune.data.formats.files import Content
from emotune.data.formats.written import require_no_shares, written_names
from emotune.errors import DataError, Place
from emotune.labels import GOEMOTIONS, LabelSet, Task

_PUBLISHED_ORDER = "ids in the order in which GoEmotions' labels are published"


def recognise(content: Content, asked: ReadOptions) -> Layout | None:
    if asked.format != "goemotions":
        if asked.delimiter not in (None, "\t") or asked.columns or not content.is_text:
            return None
        if sum(map(_fits, content.sample)) < MOST * len(content.sample):
            return None
    else:
        _ = content.sample
    notes: tuple[str, ...] = ()
    if asked.label_names == GOEMOTIONS.names and not names_of_ids(content.path, asked):
        # its own labels in its own layout, whose ids were published with it
        names, notes = dict(enumerate(GOEMOTIONS.names)), (_PUBLISHED_ORDER,)
    else:
        names = require_names(content.path, asked)
    shape = f"GoEmotions TSV: text, tab, comma-joined ids of {len(names)} labels"
    return Layout("goemotions", shape, delimiter="\t", label_delimiter=",", id_names=names, notes=notes)


def _fits(line: str) -> bool:
    cells = line.split("\t")
    return 2 <= len(cells) <= 3 and all(LABEL_ID.fullmatch(piece) for piece in cells[1].split(","))


def read(content: Content, layout: Layout) -> Iterator[Row]:
    reader = NameReader(layout)
    for number, line in content.lines():
        place = Place(content.path, number)
        cells = line.split("\t")
        if len(cells) < 2:
            raise DataError("a row has a text, a tab and label ids; there is no tab here", place=place)
        if len(cells) > 3:
            raise DataError(
                f"a row has a text, label ids and an id; here are {len(cells)} cells",
                place=place,
                hint="A text of this layout holds no tab: write it as a blank.",
            )
        yield Row(cells[0], reader.names(cells[1], place), number, cells[2] if len(cells) > 2 else None)


def write(file: BinaryIO, rows: Iterable[Row], layout: Layout) -> None:
    for row in rows:
        require_no_shares(row)
        ids = ",".join(map(str, written_names(row, layout)))
        cells = [row.text, ids, *([row.id] if row.id is not None else [])]
        file.write(("\t".join(cells) + "\n").encode("utf-8"))


def plain(labels: LabelSet) -> Layout:
    if labels.task is Task.MULTI_CLASS:
        raise DataError("GoEmotions' layout is for rows of any number of labels")
    shape = f"GoEmotions TSV: text, tab, comma-joined ids of {len(labels)} labels"
    return Layout("goemotions", shape, delimiter="\t", label_delimiter=",", id_names=dict(enumerate(labels.names)))


FAMILY = Family("goemotions", recognise, read, write, plain)
