"""The teacher of a training: a model of the same labels, whose probabilities of texts become soft targets.

    taught = teach(config, corpus, resumed, reporter, device)

The teacher scores the training texts once, and those of `data.unlabelled_texts` and `data.fragments`. A teacher of
`train --folds` gives a text that it was trained on the probabilities of the member that was not. The run keeps the
probabilities, so a resumed training has the same targets, even if the teacher is gone.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from emotune.artifact.manifest import run_of
from emotune.artifact.opening import FoundModel, open_model
from emotune.config.schema import Config, DataConfig
from emotune.data.corpus import locate
from emotune.data.formats.texts import read_texts
from emotune.data.records import Corpus, Record
from emotune.errors import MissingInputError, UsageError
from emotune.inference.classifier import run_model
from emotune.labels import LabelSet, in_order, label_difference
from emotune.reporter import Reporter
from emotune.runs.layout import OOF, TEACHER, Floats, cached_rows, load_arrays, read_config, records_of, save_arrays
from emotune.training import processes
from emotune.training.progress import TrainingReporter
from emotune.training.session import Taught

_CHUNK, _BATCH = 1024, 64  # texts between reports of progress, and in a batch
_LONGEST_FRAGMENT = 8  # words
_CROSS_TRAINED = "Train one on the same data: emotune train RECIPE --folds 5 --out DIR, then --set data.teacher=DIR"


def teach(
    config: Config,
    corpus: Corpus,
    resumed: Path | None,
    reporter: TrainingReporter,
    device: str,
    *,
    own: Path | None = None,
) -> Taught | None:
    """Return the teacher's probabilities of the training texts; None without a teacher.

    resumed: the run that is resumed, which may have kept them; None for a new one. own: the run of the teacher that
    `data.teacher_folds` asks for, which is trained already. Raises MissingInputError for a missing teacher or file,
    ModelError for an invalid teacher, UsageError for one of other labels, one that is not trained, or one without the
    probabilities that `tuning.rows` needs, and DataError for a file that cannot be read.
    """
    data = config.data
    chooses = config.tuning.rows == "teacher"
    if config.trains_teacher and own is None:
        raise UsageError("data.teacher_folds: here no teacher is trained", hint=_CROSS_TRAINED)
    teacher = data.teacher if own is None else str(own)
    if teacher is None:
        if chooses:
            raise UsageError("tuning.rows teacher needs a teacher", hint=_CROSS_TRAINED)
        return None
    name = teacher if own is None else f"of {data.teacher_folds} folds"
    records = [record for record in corpus.splits["train"] if record.text.strip()]
    more = [*_unlabelled(data), *_fragments(records, data.fragments, config.training.seed)]
    texts = list(dict.fromkeys(record.text for record in (*records, *more)))
    note = _described(name, data, records, more)
    digest = _digest(name, corpus.labels, texts)
    probabilities = np.empty((len(texts), len(corpus.labels)), dtype=np.float32)
    with processes.together():  # the first process scores them, or has kept them, for all
        if processes.is_first():
            kept = None if resumed is None else _kept(resumed, digest, probabilities.shape)
            if kept is None:
                found = _open(teacher, corpus.labels)
                known = out_of_fold(found, reporter)
                if chooses and any(record.text not in known for record in records):
                    message = f"tuning.rows teacher: {teacher} has no out-of-fold probabilities of these rows"
                    raise UsageError(message, hint=_CROSS_TRAINED)
                reporter.info(note)
                kept = score(found, known, corpus.labels, texts, reporter, device)
            else:
                reporter.info(f"teacher {name}: the run has its probabilities of {len(texts):,} texts")
            probabilities = kept
    probabilities = processes.array_from_first(probabilities)
    return Taught(probabilities, {text: i for i, text in enumerate(texts)}, more, data.teacher_weight, note, digest)


def keep(taught: Taught, run: Path) -> None:
    """Write the probabilities to a run; raises OutputError."""
    save_arrays(run / TEACHER, probabilities=taught.probabilities, sha256=taught.sha256)


def _described(name: str, data: DataConfig, records: Sequence[Record], more: Sequence[Record]) -> str:
    """Describe what the teacher scores, in a sentence for the user."""
    fragments = sum(record.id == _FRAGMENT for record in more)
    parts = [f"{len(records):,} training texts (weight {data.teacher_weight:g} beside their labels)"]
    parts += [f"{len(more) - fragments:,} of {data.unlabelled_texts}"] if len(more) > fragments else []
    parts += [f"{fragments:,} fragments of training texts"] if fragments else []
    return f"teacher {name}: its probabilities become targets of {', '.join(parts)}"


# The texts without labels

_FRAGMENT = "fragment"  # the id of such records


def _unlabelled(data: DataConfig) -> list[Record]:
    if data.unlabelled_texts is None:
        return []
    try:
        path = locate(data.unlabelled_texts)
    except MissingInputError as error:
        raise MissingInputError(f"data.unlabelled_texts: {error.message}") from None
    return [Record(text, (), path, line) for line, text in read_texts(path, data)]


def _fragments(records: Sequence[Record], number: int, seed: int) -> Iterator[Record]:
    """Yield different parts of the texts, each of one to eight words in a row, at most `number` of a text.

    They show a model of n-grams what its terms mean by themselves.
    """
    rng = np.random.default_rng(seed)
    known = {record.text for record in records}
    for record in records:
        words = record.text.split()
        longest = min(_LONGEST_FRAGMENT, len(words) - 1)
        for _ in range(number if longest > 0 else 0):
            size = int(rng.integers(1, longest + 1))
            start = int(rng.integers(0, len(words) - size + 1))
            text = " ".join(words[start : start + size])
            if text not in known:
                known.add(text)
                yield Record(text, (), record.path, record.line, _FRAGMENT)


# The teacher and its probabilities


def _open(teacher: str, labels: LabelSet) -> FoundModel:
    """Return a valid teacher; raises UsageError for one of other labels."""
    found = open_model(teacher)
    if difference := label_difference(found.decision.labels, labels):
        message = f"the teacher {teacher} has other labels than the training data: {difference}"
        raise UsageError(message, hint="Name a model of these labels: --set data.teacher=MODEL; or null for none.")
    return found


def score(
    found: FoundModel,
    known: Mapping[str, Floats],
    labels: LabelSet,
    texts: Sequence[str],
    reporter: TrainingReporter,
    device: str,
) -> Floats:
    """Return the probabilities of texts by a model, shape (texts, labels); those in `known` need no scoring."""
    classifier = run_model(found, device=device, warn=reporter.warn)
    probabilities = np.zeros((len(texts), len(labels)), dtype=np.float32)
    for start in range(0, len(texts), _CHUNK):
        part = texts[start : start + _CHUNK]
        new = iter(classifier.predict_proba([text for text in part if text not in known], batch_size=_BATCH))
        each = np.stack([known[text] if text in known else next(new) for text in part])
        probabilities[start : start + len(part)] = in_order(each, classifier.labels, labels)
        reporter.on_progress(start + len(part), len(texts))
    return probabilities


def out_of_fold(found: FoundModel, reporter: Reporter) -> dict[str, Floats]:
    """Return the out-of-fold probabilities of the training texts of a cross-trained model, shape (labels,) each.

    Equal texts are in one fold, so a text has one row. Empty for another model, or where its data has changed.
    """
    run, labels = run_of(found.directory), found.decision.labels
    kept = None if run is None or found.manifest is None else cached_rows(run, found.manifest.data, labels).get(OOF)
    if run is None or kept is None:
        return {}
    records = records_of(run, "train", labels, kept.sha256)
    if records is None:
        reporter.warn(
            f"the training data of {found.name} is gone or has changed: its out-of-fold probabilities are not used"
        )
        return {}
    if read_config(run).trains_teacher:
        reporter.warn(
            f"the out-of-fold probabilities of {found.name} are too confident: the labels of these rows have reached "
            "its members through their teacher"
        )
    reporter.info(
        f"the {len(records):,} training texts of {found.name}: the probabilities of the member that was not trained "
        "on them"
    )
    probabilities = found.decision.probabilities(kept.logits)
    return {record.text: row for record, row in zip(records, probabilities, strict=True)}


def _digest(teacher: str, labels: LabelSet, texts: Sequence[str]) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    """Return the sha256 of what the probabilities belong to, shape (32,)."""
    digest = hashlib.sha256(json.dumps([teacher, *labels.names]).encode())
    for text in texts:
        digest.update(json.dumps(text).encode())
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def _kept(run: Path, digest: "np.ndarray[tuple[int], np.dtype[np.uint8]]", shape: tuple[int, int]) -> Floats | None:
    """Return the probabilities that a run has kept; None if it has none, or those of something else."""
    if not (run / TEACHER).is_file():
        return None
    arrays = load_arrays(run / TEACHER)
    found = arrays.get("probabilities")
    fits = found is not None and found.shape == shape and np.array_equal(arrays.get("sha256", ()), digest)
    return found if fits else None
