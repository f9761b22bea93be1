"""Advice on a corpus: what to do before training, as far as it applies."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from emotune.config.schema import Config
from emotune.data.quality.profile import Profile, SplitProfile
from emotune.labels import Task, levels

_CUT_SHARE = 0.01
_LENGTH_STEP = 32
_IMBALANCE = 20
_UNLABELLED_SHARE = 0.1
_REPEATED_SHARE = 0.01
_ODD_SHARE = 0.001
_FEW_ROWS = 200
_SIGNIFICANT = 4.0
_NAMED = 4
_REMEDIES = {
    "mojibake": "mojibake: read the source again as UTF-8, or repair the texts (the library ftfy does)",
    "replacement_character": "U+FFFD marks lost characters: export those texts again",
    "control_character": "control characters: remove them: no tokenizer was trained on them",
    "html_entity": "HTML entities: unescape the texts (html.unescape in Python): people do not type &amp;",
    "html_tag": "HTML tags: strip them, unless the texts to classify have them too",
    "invisible_character": "invisible characters: remove them: they split words into rare tokens",
}


@dataclass(frozen=True)
class Advice:
    """One piece of advice; kind: the problem that it is about."""

    kind: str
    message: str


def advise(
    profile: Profile, config: Config, *, token_limit: int | None = None, all_splits: bool = True
) -> list[Advice]:
    """The advice on a corpus; problems that inflate or spoil a score come first.

    token_limit: the most tokens that the encoder takes. all_splits: all splits of the corpus are in the profile.
    """
    main, advice = profile.main, []
    kinds = {f.kind for f in profile.findings}
    near = any(near.other is not None for near in profile.near)
    if "leak" in kinds or near:
        texts = " and ".join(["the same"] * ("leak" in kinds) + ["nearly the same"] * near)
        message = f"splits share {texts} texts: remove them from train, or scores are inflated (--json lists every row)"
        advice.append(Advice("leak", message))
    advice += [*_splits(profile, config, all_splits), *_rare(profile, config)]
    if "conflict" in kinds:
        several = profile.labels.task is Task.MULTI_LABEL
        cure = "give each text one row with all its labels" if several else "choose one label for each, or drop them"
        advice.append(Advice("conflict", f"a model cannot learn equal texts with different labels: {cure}"))
    repeated = sum(f.count for f in profile.findings if f.kind == "duplicate" and main.name in f.splits)
    if repeated >= _REPEATED_SHARE * main.rows:
        share = percentage(repeated / main.rows)
        message = f"{share} of {main.name} repeats earlier rows, which count twice: keep one of each"
        advice.append(Advice("duplicate", message))
    advice += [*_lengths(profile, config, token_limit), *_imbalance(profile)]
    unlabelled = int(main.labels_per_text.counts[main.labels_per_text.values == 0].sum())
    if main.rows and unlabelled >= _UNLABELLED_SHARE * main.rows:
        share = percentage(unlabelled / main.rows)
        cure = "" if profile.labels.neutral is None else "; if that means neutral, use that label"
        message = f"{share} of {main.name} has no label and trains the model to predict none{cure}"
        advice.append(Advice("unlabelled", message))
    odd = {odd.finding.kind for odd in profile.oddities if odd.finding.count >= _ODD_SHARE * profile.rows}
    return [*advice, *(Advice(kind, remedy) for kind, remedy in _REMEDIES.items() if kind in odd)]


def percentage(share: float) -> str:
    """A share in per cent, with one decimal when it is small; a share above 0 is never shown as 0."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{share:.1%}".replace("%", " %") if 0 < share < 0.0995 else f"{share:.0%}".replace("%", " %")


def _splits(profile: Profile, config: Config, all_splits: bool) -> Iterator[Advice]:
    names = {split.name for split in profile.splits}
    if "train" not in names or not all_splits:
        return
    if "valid" not in names:
        yield Advice("no_valid", "no validation split: train will use 10 % of its rows for validation, stratified")
    if "test" not in names:
        yield Advice("no_test", "no test split: keep rows on which nothing is chosen, or the final score is inflated")
    for split in profile.splits:
        if split.name == "valid" and split.rows < _FEW_ROWS and config.tuning.method in ("per_label", "shrunk", "auto"):
            message = f"valid has {split.rows} rows: thresholds per label overfit so few, one for all labels does less"
            yield Advice("small_valid", f"{message}: --set tuning.method=global")
        yield from _drift(profile, split)


def _drift(profile: Profile, split: SplitProfile) -> Iterator[Advice]:
    """Labels whose share differs from that in the training split by more than chance."""
    main = profile.main
    if split is main or not split.rows or not main.rows:
        return
    ours, theirs = main.label_counts / main.rows, split.label_counts / split.rows
    pooled = (main.label_counts + split.label_counts) / (main.rows + split.rows)
    spread = np.sqrt(pooled * (1 - pooled) * (1 / main.rows + 1 / split.rows))
    z = np.divide(np.abs(ours - theirs), spread, out=np.zeros_like(spread), where=spread > 0)
    different = [i for i in np.argsort(-z) if z[i] > _SIGNIFICANT]
    if different:
        names = profile.labels.names
        shown = [f"{names[i]} {percentage(ours[i])} against {percentage(theirs[i])}" for i in different[:_NAMED]]
        message = f"{main.name} and {split.name} have different shares of labels ({', '.join(shown)})"
        yield Advice("drift", f"{message}: are they from the same source?")


def _rare(profile: Profile, config: Config) -> Iterator[Advice]:
    """Labels with too few positives for every fold of the validation split to have some."""
    folds = config.tuning.folds
    if profile.labels.task is Task.MULTI_CLASS:
        return
    valid = next((s for s in profile.splits if s.name == "valid"), None)
    split = profile.main if valid is None else valid
    share = 1.0 if valid is not None else config.data.split[1] if split.name != "train" else 0.1
    expected = split.label_counts * share
    rare = [i for i in np.argsort(expected, kind="stable") if split.label_counts[i] and expected[i] < folds]
    if not rare:
        return
    shown = ", ".join(f"{profile.labels.names[i]} {split.label_counts[i]:,}" for i in rare[:_NAMED])
    more = ", …" if len(rare) > _NAMED else ""
    where = "in valid" if valid is not None else f"in {split.name} (of which {percentage(share)} will validate)"
    have = "label has" if len(rare) == 1 else "labels have"
    coarser = levels(profile.labels)
    join = f"score a coarser level (evaluate --level {coarser[0]})" if coarser else "join them with a similar label"
    yield Advice(
        "rare_label",
        f"{len(rare)} {have} too few positives {where} for {folds} stratified folds ({shown}{more}), so their "
        f"thresholds and F1 are random: collect more, {join}, or --set tuning.method=global",
    )


def _lengths(profile: Profile, config: Config, token_limit: int | None) -> Iterator[Advice]:
    main, limit = profile.main, config.tokens.max_length
    reach = limit if token_limit is None else min(limit, token_limit)
    share = main.tokens.beyond(reach) / main.tokens.total if main.tokens is not None and main.tokens.total else 0.0
    if main.tokens is None or share < _CUT_SHARE:
        return
    enough = -(-main.tokens.quantile(0.99) // _LENGTH_STEP) * _LENGTH_STEP
    cure = f"--set model.max_length={enough if token_limit is None else min(enough, token_limit)}"
    if reach == token_limit:
        cure = "the encoder takes no more; split the texts, or use another encoder"
    message = f"{percentage(share)} of {main.name} is longer than {reach} tokens, and training does not see the rest"
    yield Advice("length", f"{message}: {cure}")


def _imbalance(profile: Profile) -> Iterator[Advice]:
    counts = profile.main.label_counts
    present = np.flatnonzero(counts)
    if not len(present):
        return
    least, most = present[np.argmin(counts[present])], int(np.argmax(counts))
    times = counts[most] / counts[least]
    if times < _IMBALANCE:
        return
    names = profile.labels.names
    weights = "sqrt_ratio" if profile.labels.task is Task.MULTI_LABEL else "balanced"
    yield Advice(
        "imbalance",
        f"{names[most]} ({counts[most]:,}) is {times:,.0f} times as common as {names[least]} ({counts[least]:,}): "
        f"judge by macro-F1; weights can help rare labels: --set loss.weights={weights}",
    )
