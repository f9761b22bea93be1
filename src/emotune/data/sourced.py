"""Labelled texts for a verb: from a file, a folder, or a data set of the hub, which is fetched first."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from emotune.config.schema import DataConfig
from emotune.data.corpus import load_as_filed, load_corpus, load_split
from emotune.data.hub_sets import DataSource, resolve_data
from emotune.data.records import Corpus, fingerprint
from emotune.labels import LabelSet


def read_corpus(config: DataConfig, splits: Sequence[str] = ("train", "valid")) -> Corpus:
    """As `load_corpus`, of a data set of the hub too."""
    return corpus_of(resolve_data(config), splits)


def corpus_of(source: DataSource, splits: Sequence[str] = ("train", "valid")) -> Corpus:
    """The corpus of data that lies here, its origin said first."""
    return _told(load_corpus(source.local, splits), source)


def as_filed(source: DataSource, splits: Sequence[str] = ()) -> Corpus:
    """All splits of data that lies here, or those named, with nothing set apart, its origin said first."""
    return _told(load_as_filed(source.local, splits), source)


def split_of(
    source: DataSource, labels: LabelSet, split: str | None, ids: Mapping[int, str] | None = None
) -> tuple[str, Corpus]:
    """One split of data that lies here, as `load_split` reads it, its origin said first."""
    name, corpus = load_split(source.local, labels, split, ids)
    return name, _told(corpus, source)


def fingerprints(corpus: Corpus) -> dict[str, dict[str, str | int]]:
    """Rows and sha256 of each split, as a manifest keeps them."""
    return {
        split: {"rows": len(records), "sha256": fingerprint(records, corpus.labels)}
        for split, records in corpus.splits.items()
    }


def _told(corpus: Corpus, source: DataSource) -> Corpus:
    said = (source.origin, *corpus.description) if source.origin else corpus.description
    return replace(corpus, description=said)
