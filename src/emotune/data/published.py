"""The catalogue of published data sets, with licences and citations, and the cache that they are fetched into.

Files are pinned by revision and sha256. GoEmotions: the files of google-research/google-research, unchanged since they
were published. SemEval: the revision below; later ones have a test file without labels. dair-ai/emotion: `train.txt`,
`val.txt` and `test.txt` as its authors first published them, with the digests in `dataset_infos.json` of the loader in
huggingface/datasets. That place no longer exists; the authors' page on the hub has the same rows as JSON lines. They
are written as `text;label` again and must then have those first digests. Another version of `val.txt`, with an empty
first line, is accepted too (`also`).
"""

import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from emotune import hub
from emotune.data.formats.base import GZIP
from emotune.errors import DataError, MissingInputError, Place, UsageError, did_you_mean
from emotune.labels import DAIR, GOEMOTIONS

PREFIX = "emotune:"


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    name       its name in the folder of the set, with the split as its stem
    url        where it is published
    sha256     of the file in the folder; `size` likewise, in bytes (None: not known)
    also       digests of other versions with the same rows
    packing    `json_lines`: the file is made from published gzipped JSON lines with `text` and a label id
    text       the content of a file that emotune itself has, so that nothing needs to be fetched
    """

    name: str
    url: str
    sha256: str
    size: int | None = None
    also: tuple[str, ...] = ()
    packing: Literal["none", "json_lines"] = "none"
    text: str | None = None

    @property
    def published_name(self) -> str:
        """The name of the published file when it is downloaded by hand."""
        return self.name if self.packing == "none" else self.url.rpartition("/")[2]

    @property
    def is_test(self) -> bool:
        """Whether this is the test split, which training does not need."""
        return self.name.startswith("test.")

    def accepts(self, digest: str) -> bool:
        """Whether a file with this sha256 is the file."""
        return digest == self.sha256 or digest in self.also


@dataclass(frozen=True)
class DataSet:
    """A published data set; terms: what its makers allow, when that is less than the licence, else empty."""

    name: str
    title: str
    page: str
    hub_id: str
    licence: str
    files: tuple[DataFile, ...]
    citation: str = field(repr=False)
    terms: str = ""


def _files(url: Callable[[str], str], *files: tuple[str, str, int | None]) -> tuple[DataFile, ...]:
    """Files by name, sha256 and size; `url` is called with the stem of each name."""
    return tuple(DataFile(name, url(name.partition(".")[0]), digest, size) for name, digest, size in files)


_GOEMOTIONS_AT = (
    "https://raw.githubusercontent.com/google-research/google-research/4700efb9afa54286b0e04473ba80a13e8461e25f/"
    "goemotions/data/"
)
_EMOTION_AT = "https://huggingface.co/datasets/dair-ai/emotion/resolve/0f2013aff0f120885b4892bddfe59faafa13a310/data/"
_SEMEVAL_AT = (
    "https://raw.githubusercontent.com/emotion-analysis-project/SemEval2025-Task11/"
    "44ddc04d0fcf2ee90c5e4caf531d4d0fa36b755a/task-dataset/semeval-2025-task11-dataset/track_a/"
)


_GOEMOTIONS = DataSet(
    name="goemotions",
    title="GoEmotions: 58k Reddit comments, 28 labels, multi-label",
    page="https://github.com/google-research/google-research/tree/master/goemotions",
    hub_id="google-research-datasets/go_emotions",
    licence="CC BY 4.0",
    files=(
        *_files(
            lambda split: f"{_GOEMOTIONS_AT}{split}.tsv",
            ("train.tsv", "1c254a142be5c00e80d819b9ae1bbd36d94b2eeb8f4b1271846508d57e57d9c5", 3519053),
            ("dev.tsv", "575489c079c9de1097062a01738f998590d6b7ead66dd1c9fd1d2ba01fd8bc62", 439059),
            ("test.tsv", "0587b2dd8b27b97352adbfc3fb083d46005c8946657fdc2b1ca8b1cc7f1f8be4", 436706),
        ),
        DataFile(
            "labels.txt",
            f"{_GOEMOTIONS_AT}emotions.txt",
            "45c3ef86782d2a4d7fedcd6d8c111aa0d0e94720689bd164fac94fefb4495a89",
            248,
            text="\n".join(GOEMOTIONS.names),
        ),
    ),
    citation="""\
@inproceedings{demszky2020goemotions,
  author = {Demszky, Dorottya and Movshovitz-Attias, Dana and Ko, Jeongwoo and Cowen, Alan and Nemade, Gaurav and Ravi,
            Sujith},
  booktitle = {58th Annual Meeting of the Association for Computational Linguistics (ACL)},
  title = {{GoEmotions: A Dataset of Fine-Grained Emotions}},
  year = {2020}
}""",
)


_EMOTION = DataSet(
    name="emotion",
    title="dair-ai/emotion (CARER): 20k English tweets, 6 classes",
    page="https://github.com/dair-ai/emotion_dataset",
    hub_id="dair-ai/emotion",
    licence="none stated",
    terms="its makers ask that it be used for education and research only",
    files=tuple(
        DataFile(f"{split}.txt", f"{_EMOTION_AT}{published}.jsonl.gz", digest, size, also, "json_lines")
        for split, published, digest, size, also in (
            ("train", "train", "3ab03d945a6cb783d818ccd06dafd52d2ed8b4f62f0f85a09d7d11870865b190", 1658616, ()),
            (
                "val",
                "validation",
                "34faaa31962fe63cdf5dbf6c132ef8ab166c640254ab991af78f3aea375e79ef",
                204240,
                ("7fa30d571b1125accbc2b55ca6cd28ea05f3cfdd885c8ebe525323dc84dd64d3",),
            ),
            ("test", "test", "60f531690d20127339e7f054edc299a82c627b5ec0dd5d552d53d544e0cfcc17", 206760, ()),
        )
    ),
    citation="""\
@inproceedings{saravia-etal-2018-carer,
  title = "{CARER}: Contextualized Affect Representations for Emotion Recognition",
  author = "Saravia, Elvis and Liu, Hsien-Chi Toby and Huang, Yen-Hao and Wu, Junlin and Chen, Yi-Shin",
  booktitle = "Proceedings of the 2018 Conference on Empirical Methods in Natural Language Processing",
  month = oct # "-" # nov,
  year = "2018",
  address = "Brussels, Belgium",
  publisher = "Association for Computational Linguistics",
  url = "https://www.aclweb.org/anthology/D18-1404",
  doi = "10.18653/v1/D18-1404",
  pages = "3687--3697"
}""",
)


# by the ids in the JSON lines
EMOTION_LABELS = DAIR.names


_SEMEVAL = DataSet(
    name="semeval2025",
    title="SemEval-2025 Task 11, track A, English: 5 labels, multi-label",
    page="https://github.com/emotion-analysis-project/SemEval2025-Task11",
    hub_id="brighter-dataset/BRIGHTER-emotion-categories",
    licence="CC BY 4.0",
    terms="the rules of the task ask for scientific or research use, and that the files are not passed on",
    files=_files(
        lambda split: f"{_SEMEVAL_AT}{split}/eng.csv",
        ("train.csv", "234dfe6ccb34d91d36c9cae1d7f4b867e26a1abbe38e5ac6f40ae3dd5f83d608", 316456),
        ("dev.csv", "9e123425f99228d647d9051e78e6b469c389170b975e4519d9645462be7b265f", 12815),
        ("test.csv", "422323aaa202a2138aa5532373209204cbd2c8c73228a0c5cd84e4ca0cae74e7", None),
    ),
    citation="""\
@inproceedings{muhammad-etal-2025-semeval,
  title = "{S}em{E}val-2025 Task 11: Bridging the Gap in Text-Based Emotion Detection",
  author = "Muhammad, Shamsuddeen Hassan and Ousidhoum, Nedjma and Abdulmumin, Idris and Yimam, Seid Muhie and others",
  booktitle = "Proceedings of the 19th International Workshop on Semantic Evaluation (SemEval-2025)",
  month = jul,
  year = "2025",
  address = "Vienna, Austria",
  publisher = "Association for Computational Linguistics",
  url = "https://aclanthology.org/2025.semeval-1.327/",
  pages = "2558--2569"
}

@inproceedings{muhammad-etal-2025-brighter,
  title = "{BRIGHTER}: {BRI}dging the Gap in Human-Annotated Textual Emotion Recognition Datasets for 28 Languages",
  author = "Muhammad, Shamsuddeen Hassan and Ousidhoum, Nedjma and Abdulmumin, Idris and Wahle, Jan Philip and others",
  booktitle = "Proceedings of the 63rd Annual Meeting of the Association for Computational Linguistics (Volume 1)",
  month = jul,
  year = "2025",
  address = "Vienna, Austria",
  publisher = "Association for Computational Linguistics",
  url = "https://aclanthology.org/2025.acl-long.436/",
  doi = "10.18653/v1/2025.acl-long.436",
  pages = "8895--8916"
}""",
)


CATALOG: dict[str, DataSet] = {data_set.name: data_set for data_set in (_GOEMOTIONS, _EMOTION, _SEMEVAL)}


def data_set_named(name: str) -> DataSet:
    """A data set of the catalogue; raises UsageError, naming the nearest, for one that is not in it."""
    if name not in CATALOG:
        raise UsageError(f"no published data set {name!r} is known", hint=did_you_mean(name, CATALOG))
    return CATALOG[name]


CACHE_VARIABLE = "EMOTUNE_CACHE"
# all files of the catalogue are far smaller: of a larger one no sha256 is needed
_LARGEST = 16 << 20


def cache_directory() -> Path:
    """The user's cache: EMOTUNE_CACHE, else emotune in XDG_CACHE_HOME, else ~/.cache/emotune.

    Raises UsageError for a user without a home.
    """
    try:
        if own := os.environ.get(CACHE_VARIABLE):
            return Path(own).expanduser()
        common = os.environ.get("XDG_CACHE_HOME", "")
        # a relative one is ignored (XDG Base Directory Specification)
        return (Path(common) if Path(common).is_absolute() else Path.home() / ".cache") / "emotune"
    except RuntimeError:
        hint = f"Name a folder for data sets in {CACHE_VARIABLE}."
        raise UsageError("the home directory, where the cache would be, is not known", hint=hint) from None


def folder_of(data_set: DataSet) -> Path:
    """The folder in the cache that a data set is fetched into."""
    return cache_directory() / "data" / data_set.name


def is_intact(path: Path, file: DataFile) -> bool:
    """Whether a file of the catalogue is at `path`, by its sha256."""
    try:
        return file.accepts(hub.file_digest(path))
    except OSError:
        return False


def is_complete(data_set: DataSet, folder: Path, *, test: bool = True) -> bool:
    """Whether all files of a set are in a folder, as they were published; test: with the test split."""
    return all(is_intact(folder / file.name, file) for file in data_set.files if test or not file.is_test)


def fetched_folder(path: str) -> Path:
    """The folder that `emotune:NAME` means, its files verified; the test split may be missing.

    Raises UsageError for a name that is not in the catalogue, MissingInputError for a set that was not fetched
    completely, DataError for a file that differs from the published one.
    """
    data_set = data_set_named(path.removeprefix(PREFIX))
    folder, again = folder_of(data_set), f"emotune fetch {data_set.name}"
    for file in data_set.files:
        found = folder / file.name
        if found.is_file() and not is_intact(found, file):
            raise DataError("this is not the published file", place=Place(found), hint=f"Repair it with: {again}")
        if not found.is_file() and not file.is_test:
            message = f"the data set {data_set.name} is not there ({found})"
            raise MissingInputError(message, hint=f"Download it with: {again}    Files of your own: --data PATH")
    return folder


def published_sets(paths: Iterable[Path], hub_id: str | None = None) -> tuple[DataSet, ...]:
    """The data sets of the catalogue that have one of these files, by sha256 of their content; in its order.

    `hub_id`: the data set of the hub that the files come from; there they may have another format.
    """
    digests = {digest for path in set(paths) if (digest := _content_digest(path)) is not None}
    return tuple(
        data_set
        for data_set in CATALOG.values()
        if data_set.hub_id.casefold() == (hub_id or "").casefold()
        or any(file.accepts(digest) for file in data_set.files for digest in digests)
    )


def _content_digest(path: Path) -> str | None:
    """sha256 of a file's content, unpacked, in hex; None when it cannot be read, or is too large."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        raw = path.read_bytes()
        if raw.startswith(GZIP):
            raw = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error):
        return None
    return hashlib.sha256(raw).hexdigest()


def unpacked(raw: bytes, file: DataFile) -> bytes:
    """The file that is made from a published one with this content; raises ValueError when it cannot be made.

    No more than the file's own length is unpacked.
    """
    if file.packing == "none":
        return raw
    assert file.size is not None, "the unpacked length is known"
    # as JSON a row has more characters, but not eight times as many; a gzip bomb is cut, and then no JSON any more
    limit = 8 * file.size
    try:
        text = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(limit).decode("utf-8")
        lines = text.removesuffix("\n").split("\n")
        rows = [(row["text"], EMOTION_LABELS[row["label"]]) for row in map(json.loads, lines)]
    except (OSError, EOFError, zlib.error, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"not gzipped JSON lines with text and label: {error}") from error
    return "".join(f"{text};{label}\n" for text, label in rows).encode()
