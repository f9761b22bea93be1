"""The names that label ids had in the data of a run, kept in its `data.json`: other data of the kind means the same."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emotune.artifact.manifest import read_json
from emotune.data.corpus import label_ids
from emotune.data.formats.rows import LABEL_ID
from emotune.data.records import Corpus

_KEY = "label_ids"
# how runs described data of ids before they kept the names of them
_TOLD = ("comma-joined ids of", "label ids in column", "one text and one label id a line")


def record_of_ids(corpus: Corpus) -> dict[str, dict[str, str]]:
    """What `data.json` keeps of the label ids in a corpus."""
    return {_KEY: {str(number): name for number, name in label_ids(corpus.layout).items()}}


def kept_ids(path: Path) -> Mapping[int, str]:
    """The names of the label ids in a run's data, by its `data.json`; nothing where the data had none, or is not known.

    Of a run that kept none of them the description tells whether there were ids; its labels are then in their order.
    """
    if not path.is_file():
        return {}
    kept: dict[str, Any] = read_json(path)
    found = kept.get(_KEY)
    if isinstance(found, dict):
        return {int(number): str(name) for number, name in found.items() if LABEL_ID.fullmatch(number)}
    described, labels = kept.get("description"), kept.get("labels")
    if not isinstance(described, list) or not isinstance(labels, list):
        return {}
    had_ids = any(words in str(line) for line in described for words in _TOLD)
    return dict(enumerate(map(str, labels))) if had_ids else {}
