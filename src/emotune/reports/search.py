"""The report of a search: its trials, the best settings, and the gain on rows that no trial saw."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotune.display import FrameData, Shown
from emotune.reports.comparison import p_value
from emotune.reports.evaluation import number
from emotune.reports.tables import Table, duration, percent
from emotune.reports.writer import PAGE, CaptionedTable, Code, Paragraph, Report, Section
from emotune.runs.study import Trial
from emotune.scoring.comparison import CLEAR, Difference
from emotune.scoring.metrics import metric_name

HOW_SCORED = (
    "Trials were scored with thresholds chosen out of fold. The best of several scores is too high by chance: the "
    "difference on rows that no trial saw is the one to expect."
)


@dataclass(frozen=True)
class Gain:
    """The best trial minus the recipe in a metric, on the rows that the trials were scored on and on held-back rows.

    best, recipe: their scores on the held-back rows. unseen: the difference there, with its interval and p-value.
    """

    scored_rows: int
    scored: float
    unseen_rows: int
    unseen: Difference
    best: float
    recipe: float

    @property
    def significant(self) -> bool:
        """Whether the best trial is better than the recipe on rows that no trial saw, beyond chance."""
        return self.unseen.p < CLEAR and self.unseen.low > 0

    def to_json(self) -> dict[str, Any]:
        """Return its part of `emotune search --json`."""
        return {
            "scored_rows": self.scored_rows,
            "scored": self.scored,
            "unseen_rows": self.unseen_rows,
            "unseen": number(self.unseen.value),
            "interval": [number(self.unseen.low), number(self.unseen.high)],
            "p": number(self.unseen.p),
            "best": number(self.best),
            "recipe": number(self.recipe),
        }


@dataclass(frozen=True, repr=False)
class SearchOutcome(Shown):
    """The result of a search.

    recipe: its name. values: its values of the settings that were searched. trials: all that have ended; number 0 is
    the recipe as it is. yaml: the best settings as a recipe, which is in `best_recipe`. seconds: used in all. data: how
    the rows were read.
    """

    out: Path
    recipe: str
    values: Mapping[str, Any]
    metric: str
    folds: int | None
    trials: Sequence[Trial]
    best: Trial
    gain: Gain
    model: Path
    best_recipe: Path
    report: Path
    yaml: str
    seconds: float
    data: Sequence[str]

    def __fspath__(self) -> str:
        return str(self.model)

    def _lines(self) -> Iterator[str]:
        yield from (self.sentence, f"recipe: {self.best_recipe}", f"report: {self.page}")

    def _tables(self) -> Iterator[tuple[str, Table]]:
        yield "Trials, the best first", self.table
        yield "Settings", self.settings

    def _data(self) -> FrameData:
        """Return a row for each trial in order, with its settings."""
        return [
            {
                "trial": trial.number,
                "state": trial.state,
                "score": trial.score,
                "seconds": trial.seconds,
                **self.values,
                **trial.settings,
                "reason": trial.reason,
            }
            for trial in self.trials
        ]

    @property
    def sentence(self) -> str:
        """The best trial against the recipe, also on rows that no trial saw, and whether that is a gain."""
        return sentence(self.trials, self.best, self.gain, self.metric)

    @property
    def page(self) -> Path:
        """The page of the report."""
        return self.report / PAGE

    @property
    def settings(self) -> Table:
        """Each searched setting with its value in the recipe and in the best trial."""
        best = self.best.settings
        rows = ((key, _shown(value), _shown(best.get(key, value))) for key, value in self.values.items())
        return Table(("setting", "recipe", "best"), tuple(rows))

    @property
    def table(self) -> Table:
        """A row for each trial, the best first: its score, its end, and its settings."""
        order = sorted(self.trials, key=lambda each: (each.state != "finished", -(each.score or 0.0), each.number))
        rows = (
            (
                str(trial.number) if trial.number else "recipe",
                percent(trial.score) if trial.state == "finished" else "",
                trial.reason or trial.state,
                duration(trial.seconds),
                *self._settings(trial),
            )
            for trial in order
        )
        return Table(("trial", metric_name(self.metric), "end", "time", *self.values), tuple(rows))

    def csv(self) -> str:
        """Return a row for each trial in order. Settings are JSON, except texts."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["trial", "state", "score", "seconds", *self.values, "reason"])
        for trial in self.trials:
            figures = trial.number, trial.state, trial.score, trial.seconds
            writer.writerow([*figures, *self._settings(trial), trial.reason])
        return text.getvalue()

    def _settings(self, trial: Trial) -> list[str]:
        return [_shown(trial.settings.get(key, value)) for key, value in self.values.items()]

    def to_json(self) -> dict[str, Any]:
        """Return the output of `emotune search --json`."""
        best = self.best
        return {
            "search": str(self.out),
            "recipe": self.recipe,
            "metric": self.metric,
            "folds": self.folds,
            "sentence": self.sentence,
            "gain": self.gain.to_json(),
            "best": {"trial": best.number, "score": best.score, "settings": dict(best.settings)},
            "best_recipe": str(self.best_recipe),
            "model": str(self.model),
            "report": str(self.page),
            "seconds": self.seconds,
            "trials": [
                {
                    "trial": trial.number,
                    "state": trial.state,
                    "score": trial.score,
                    "seconds": trial.seconds,
                    "settings": dict(trial.settings),
                    "reason": trial.reason,
                }
                for trial in self.trials
            ],
        }


def sentence(trials: Sequence[Trial], best: Trial, gain: Gain, metric: str) -> str:
    """Return the best trial against the recipe, on the rows that chose it and on others, and whether that is a gain."""
    name, recipe = metric_name(metric), next(trial for trial in trials if trial.number == 0)
    tried = len(trials) - 1
    if best.number == 0:
        return (
            f"None of {tried} trials is better than the recipe as it is: {name} {percent(recipe.score)} on the "
            f"{gain.scored_rows:,} rows that the trials were scored on, {percent(gain.recipe)} on {gain.unseen_rows:,} "
            "rows that no trial saw."
        )
    d = gain.unseen
    interval = "" if math.isnan(d.low) else f"95 % interval {d.low:+.3f} to {d.high:+.3f}, "
    return (
        f"Trial {best.number} is the best of {tried}: {name} {percent(best.score)} instead of {percent(recipe.score)} "
        f"({gain.scored:+.3f}) on the {gain.scored_rows:,} rows that the trials were scored on; "
        f"{percent(gain.best)} instead of {percent(gain.recipe)} ({d.value:+.3f}, {interval}p {p_value(d.p)}) on "
        f"{gain.unseen_rows:,} rows that no trial saw. {_verdict(gain)}"
    )


def _verdict(gain: Gain) -> str:
    """Return what the held-back rows show; a difference that is not significant is not called a gain."""
    d = gain.unseen
    if gain.significant:
        return f"{100 * min(1.0, d.value / gain.scored):.0f} % of the gain is left there, and it is significant."
    if d.p < CLEAR and d.high < 0:
        return "It is significantly worse there: keep the recipe."
    return "The difference there is not significant: keep the recipe, or search with more rows."


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def search_report(outcome: SearchOutcome) -> Report:
    """Return the report: search.json, Markdown and a page."""
    best = (
        CaptionedTable("Values of the settings that were searched", outcome.settings),
        Code(outcome.yaml, "The best settings as a recipe"),
    )
    trials = (CaptionedTable("The best first", outcome.table), Paragraph(HOW_SCORED, quiet=True))
    return Report(
        title=f"Search from {outcome.recipe}",
        data_name="search.json",
        data=outcome.to_json(),
        lead=(outcome.sentence,),
        facts=tuple(("" if i else "data", line) for i, line in enumerate(outcome.data)),
        sections=(Section("best", "Best settings", best), Section("trials", "Trials", trials)),
    )
