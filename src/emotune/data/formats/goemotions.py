"""GoEmotions' TSV: text, comma-joined label ids, comment id; no header, no quoting."""

from collections.abc import Iterator

from emotune.data.formats.base import LABEL_ID, MOST, FileFormat, Reader, ReadOptions, Row
from emotune.data.formats.cells import NameReader, names_of_ids
from emotune.data.formats.files import Content
from emotune.errors import DataError, MissingInputError, Place
from emotune.labels import GOEMOTIONS

_PUBLISHED_ORDER = "ids in the order in which GoEmotions' labels are published"


def recognise(content: Content, options: ReadOptions) -> FileFormat | None:
    if options.format is None:
        if options.delimiter not in (None, "\t") or options.names_columns or not content.is_text:
            return None
        if sum(map(_fits, content.sample)) < MOST * len(content.sample):
            return None
    _ = content.sample  # raises DataError for a file that is not text
    names = names_of_ids(content.path, options)
    notes: tuple[str, ...] = ()
    if not names:
        if options.label_names != GOEMOTIONS.names:
            raise MissingInputError(
                f"the label ids need names: no file {content.path.parent / 'labels.txt'}",
                hint="Put the label names, one per line in id order, there or in --set data.labels_file=PATH",
            )
        names, notes = dict(enumerate(GOEMOTIONS.names)), (_PUBLISHED_ORDER,)
    shape = f"GoEmotions TSV: text, tab, comma-joined ids of {len(names)} labels"
    return FileFormat("goemotions", shape, delimiter="\t", label_delimiter=",", id_names=names, notes=notes)


def _fits(line: str) -> bool:
    cells = line.split("\t")
    return 2 <= len(cells) <= 3 and all(LABEL_ID.fullmatch(piece) for piece in cells[1].split(","))


def read(content: Content, file_format: FileFormat) -> Iterator[Row]:
    reader = NameReader(file_format)
    for number, line in content.lines():
        place = Place(content.path, number)
        cells = line.split("\t")
        if len(cells) < 2:
            raise DataError("a row has a text, a tab and label ids; there is no tab here", place=place)
        if len(cells) > 3:
            raise DataError(
                f"a row has a text, label ids and an id; here are {len(cells)} cells",
                place=place,
                hint="A text in this format has no tab: replace it by a blank.",
            )
        yield Row(cells[0], reader.names(cells[1], place), number, cells[2] if len(cells) > 2 else None)


READER = Reader("goemotions", recognise, read)
