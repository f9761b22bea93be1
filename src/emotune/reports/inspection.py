"""The report of an inspection of labelled data: its JSON, its tables, its pictures, and the description of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emotune.data.quality.advice import Advice, percentage
from emotune.data.quality.checks import Finding, clipped, row_json
from emotune.data.quality.profile import Distribution, Profile
from emotune.data.quality.suspects import Suspects
from emotune.data.records import Record
from emotune.display import FrameData, Shown, Table
from emotune.labels import LabelSet, Task
from emotune.reports.writer import Bullets, CaptionedTable, Picture, Report, Section, write_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MANY_LABELS = 40
_SHOWN_LABELS = (25, 10)
_QUANTILES = {"median": 0.5, "p95": 0.95, "p99": 0.99}
_BAR = "▏▎▍▌▋▊▉█"
_MOST_SPLITS = 6
_WORST = ("leak", "near_leak", "conflict", "no_positives", "empty", "duplicate", "near_duplicate")


@dataclass(frozen=True, repr=False)
class Inspection(Shown):
    """A profile of data, sample rows for each label, and advice.

    `encoder`: the one whose tokens were counted (None: no tokens were counted). `suspects`: rows whose labels are
    improbable to a model (None: no model was named).
    """

    data: str
    description: tuple[str, ...]
    profile: Profile
    samples: Mapping[str, tuple[Record, ...]]
    advice: tuple[Advice, ...]
    encoder: str | None
    max_length: int
    suspects: Suspects | None = None

    @property
    def labels(self) -> LabelSet:
        return self.profile.labels

    @property
    def title(self) -> str:
        several = "exactly one" if self.labels.task is Task.MULTI_CLASS else "any number"
        return f"{self.profile.rows:,} texts of {self.data}, {len(self.labels)} labels, {several} for each text"

    def _lines(self) -> Iterator[str]:
        yield self.title
        for message, examples in warnings(self.profile, examples=1):
            yield " ".join(("warning:", message, *examples))
        yield from (one.message for one in self.advice)

    def _tables(self) -> Iterator[tuple[str, Table]]:
        yield "Texts", split_table(self.profile)
        yield "Lengths", length_table(self.profile, self.max_length)
        yield "Labels", label_table(self, every=True)
        yield "", pair_table(self.profile, most=5)
        if self.suspects is not None:
            yield f"Suspect labels: {self.suspects.title}", self.suspects.table()

    def _data(self) -> FrameData:
        """Return the number of texts with each label, a column for each split."""
        return {
            "label": self.labels.names,
            **{split.name: split.label_counts.tolist() for split in self.profile.splits},
        }

    def to_json(self) -> dict[str, Any]:
        """All figures, and the rows of every finding."""
        found = self.profile
        findings = [_finding_json(finding) for finding in found.findings]
        for near in found.near:
            examples = [
                {"row": row_json(row, text=True), "near": row_json(other, text=True), "similarity": round(alike, 3)}
                for row, other, alike in near.examples
            ]
            groups = [[row_json(row) for row in group] for group in near.groups]
            findings.append(_finding_json(near.finding) | {"groups": groups, "examples": examples})
        findings += [_finding_json(odd.finding) | {"excerpts": list(odd.excerpts)} for odd in found.oddities]
        return {
            "data": self.data,
            "description": list(self.description),
            "rows": found.rows,
            "task": str(self.labels.task),
            "labels": list(self.labels.names),
            "encoder": self.encoder,
            "max_length": self.max_length,
            "splits": {
                split.name: {
                    "rows": split.rows,
                    "label_counts": dict(zip(self.labels.names, split.label_counts.tolist(), strict=True)),
                    "labels_per_text": _histogram(split.labels_per_text),
                    "words": _lengths_json(split.words),
                    "tokens": None if split.tokens is None else _lengths_json(split.tokens, self.max_length),
                }
                for split in found.splits
            },
            "cooccurrence": found.together.tolist(),
            "pairs": [vars(pair) for pair in found.pairs],
            "findings": findings,
            "samples": {name: [row_json(row, text=True) for row in rows] for name, rows in self.samples.items()},
            "advice": [vars(advice) for advice in self.advice],
            "suspects": None
            if self.suspects is None
            else {
                "model": self.suspects.model,
                "judged": self.suspects.judged,
                "trained": self.suspects.trained,
                "rows": self.suspects.to_json(),
            },
        }


def _histogram(distribution: Distribution) -> dict[str, int]:
    return dict(zip(map(str, distribution.values.tolist()), distribution.counts.tolist(), strict=True))


def _lengths_json(lengths: Distribution, limit: int | None = None) -> dict[str, Any]:
    beyond = None if limit is None else lengths.beyond(limit)
    return {
        "mean": lengths.mean if lengths.total else None,
        **{name: lengths.quantile(share) for name, share in _QUANTILES.items()},
        "longest": lengths.quantile(1),
        **({} if beyond is None else {"beyond_max_length": beyond, "share_beyond": beyond / max(1, lengths.total)}),
        "histogram": _histogram(lengths),
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "splits": list(finding.splits),
        "count": finding.count,
        "message": finding.message,
        "rows": [row_json(row) for row in finding.rows],
    }


def split_table(profile: Profile) -> Table:
    """Each split with its rows, and the shares of those with no label, one, two, or more."""
    if profile.labels.task is Task.MULTI_CLASS:
        return Table(("split", "texts"), tuple((s.name, f"{s.rows:,}") for s in profile.splits))
    rows = []
    for split in profile.splits:
        per_text = split.labels_per_text
        counts = [int(per_text.counts[per_text.values == n].sum()) for n in range(3)]
        shares = [percentage(n / split.rows) for n in (*counts, per_text.beyond(2))] if split.rows else [""] * 4
        most = f"{per_text.quantile(1)}"
        rows.append((split.name, f"{split.rows:,}", *shares, most, f"{per_text.mean:.2f}"))
    header = ("split", "texts", "no label", "one", "two", "more", "most", "mean")
    return Table(header, tuple(rows))


def length_table(profile: Profile, max_length: int) -> Table:
    """Median, 95 and 99 % quantile and maximum of the texts' lengths, and the share beyond the limit."""
    header = ("length", "unit", "median", "95 %", "99 %", "longest", f"over {max_length}")
    rows = []
    for split in profile.splits:
        for unit, lengths in (("words", split.words), ("tokens", split.tokens)):
            if lengths is None:
                continue
            figures = (f"{lengths.quantile(share):,}" for share in (*_QUANTILES.values(), 1))
            over = percentage(lengths.beyond(max_length) / max(1, lengths.total)) if unit == "tokens" else ""
            rows.append((split.name if unit == "words" else "", unit, *figures, over))
    return Table(header, tuple(rows))


def label_table(inspection: Inspection, *, every: bool = False, bar: int = 10, sample: int = 0) -> Table:
    """Each label with its texts in every split, the most frequent first, and its share of the main split.

    bar: the width of the bar that shows the share, 0 for none. sample: characters of a sample text, 0 for none.
    Without `every`, the middle of more than 40 labels is left out.
    """
    found, main = inspection.profile, inspection.profile.main
    order = np.argsort(-main.label_counts, kind="stable")
    names = [found.labels.names[i] for i in order]
    columns = [("label", names)]
    columns += [(split.name, [f"{split.label_counts[i]:,}" for i in order]) for split in found.splits[:_MOST_SPLITS]]
    columns.append(("share", [percentage(main.label_counts[i] / main.rows) if main.rows else "" for i in order]))
    if bar:
        top = max(1, int(main.label_counts.max()))
        columns.append(("", [bar_of(main.label_counts[i] / top, bar) for i in order]))
    if sample:
        drawn = (inspection.samples.get(name, ()) for name in names)
        columns.append(("example", [clipped(texts[0].text, sample) if texts else "" for texts in drawn]))
    header = tuple(title for title, _ in columns)
    rows = list(zip(*(cells for _, cells in columns), strict=True))
    if not every and len(rows) > _MANY_LABELS:
        first, last = _SHOWN_LABELS
        left_out = f"… {len(rows) - first - last} more (--all)"
        rows = [*rows[:first], (left_out, *[""] * (len(header) - 1)), *rows[-last:]]
    return Table(header, tuple(rows))


def bar_of(share: float, width: int) -> str:
    """A bar of at most `width` characters, in steps of an eighth; a share above 0 has at least one step."""
    eighths = max(1, round(8 * width * share)) if share > 0 else 0
    return _BAR[-1] * (eighths // 8) + (_BAR[eighths % 8 - 1] if eighths % 8 else "")


def pair_table(profile: Profile, most: int) -> Table:
    """The pairs of labels that occur together most often beyond chance."""
    rows = [
        (f"{p.first} + {p.second}", f"{p.count:,}", percentage(p.share), f"{p.lift:.1f} ×", f"{p.phi:.2f}")
        for p in profile.pairs[:most]
        if p.lift > 1
    ]
    return Table(("co-occurring labels", "texts", "of the first", "vs chance", "φ"), tuple(rows))


def sample_table(inspection: Inspection, room: int) -> Table:
    """The sample rows of each label, with their places."""
    rows = [
        (name if i == 0 else "", f"{row.path.name}:{row.line}", clipped(row.text, room))
        for name, drawn in inspection.samples.items()
        for i, row in enumerate(drawn)
    ]
    return Table(("label", "row", "text"), tuple(rows))


def warnings(profile: Profile, examples: int) -> list[tuple[str, tuple[str, ...]]]:
    """The warnings about the data, the worst first: each with its first places, and examples."""
    found: list[tuple[Finding, tuple[str, ...]]] = [(finding, ()) for finding in profile.findings]
    for near in profile.near:
        pairs = (
            f"{clipped(row.text, 36)} ~ {clipped(other.text, 36)} "
            f"({row.path.name}:{row.line}, {other.path.name}:{other.line})"
            for row, other, _ in near.examples[:examples]
        )
        found.append((near.finding, tuple(pairs)))
    found += [(odd.finding, odd.excerpts[:examples]) for odd in profile.oddities]
    found.sort(key=lambda one: _WORST.index(one[0].kind) if one[0].kind in _WORST else len(_WORST))
    sentences = []
    for finding, shown in found:
        places = finding.examples[:examples]
        more = ", …" if len(places) < finding.count else ""
        sentences.append((finding.message + (f" ({', '.join(places)}{more})" if places else ""), shown))
    return sentences


# --- the report ------------------------------------------------------------------------------------------------


def write_inspection(inspection: Inspection, folder: Path, warn: Callable[[str], None]) -> Path:
    """Write report.md, inspection.json and pictures to a folder, and return the report to open."""
    found = inspection.profile
    counted = [f"tokens as {inspection.encoder} counts them"] if inspection.encoder else []
    advice, warned = tuple((one.message, ()) for one in inspection.advice), warnings(found, examples=3)
    tables = {
        "Splits": split_table(found),
        "Lengths": length_table(found, inspection.max_length),
        "Labels": label_table(inspection, every=True, bar=0),
        "Co-occurring labels": pair_table(found, most=20),
        "Samples": sample_table(inspection, room=300),
    }
    captions = {}
    if (suspects := inspection.suspects) is not None:
        tables["Suspect labels"], captions["Suspect labels"] = suspects.table(room=300), suspects.title
    report = Report(
        title=inspection.title,
        data_name="inspection.json",
        data=inspection.to_json(),
        facts=tuple(("", line) for line in (*inspection.description, *counted)),
        sections=(
            Section("advice", "Recommendations", [Bullets(advice)] if advice else []),
            Section("warnings", "Warnings", [Bullets(tuple(warned))] if warned else []),
            *(
                Section(title, title, [CaptionedTable(captions.get(title, ""), table)])
                for title, table in tables.items()
            ),
            *(Section(picture.stem, picture.title, [picture]) for picture in _pictures(inspection)),
        ),
        page=False,
    )
    return write_report(report, folder, warn)


def _pictures(inspection: Inspection) -> list[Picture]:
    """All pictures of a profile; those of several labels in a text only where there can be several."""
    found = inspection.profile

    def draw(stem: str) -> "Figure":
        from emotune.reports.figures import data

        if stem == "lengths":
            return data.lengths(found, inspection.max_length)
        each = {"label_counts": data.label_counts, "cooccurrence": data.cooccurrence}
        return each.get(stem, data.labels_per_text)(found)

    unit = "words" if found.main.tokens is None else "tokens"
    share = "Co-occurring labels, in % of the texts of the row"
    pictures = {
        "label_counts": (f"Texts with each label, {found.main.name}", "The number of texts by label."),
        "cooccurrence": (share, "The share of each label's texts with another label."),
        "lengths": (f"Length of the texts in {unit}", "A histogram of lengths by split."),
        "labels_per_text": ("Labels per text", "The shares of texts by their number of labels."),
    }
    if inspection.labels.task is Task.MULTI_CLASS:
        del pictures["cooccurrence"], pictures["labels_per_text"]
    elif len(inspection.labels) == 1:
        del pictures["cooccurrence"]
    return [Picture(stem, title, alt, partial(draw, stem)) for stem, (title, alt) in pictures.items()]
