"""The trials of a search, kept in a journal of Optuna: settings, scores by epoch, and the end of each trial.

Each trial has a number: 0 is the recipe as it is, the others are sampled from the space. A trial that was running when
its process ended is marked as failed in the journal, and another one with the same number and settings takes its place.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from emotune.atomic import writing
from emotune.config.space import Choices, Range, Space

if TYPE_CHECKING:
    import optuna

_NUMBER, _REASON = "number", "reason"
_RANDOM = 5  # trials before Optuna's sampler follows the scores, and before trials are pruned
_ATTEMPTS = 3  # of a trial whose process ends in it, as when it needs more memory than there is
State = Literal["finished", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """A trial that has ended.

    settings: by dotted name. score: out of fold; of a pruned trial, that of its last epoch; None for a failed one.
    reason: why it failed, or the epoch in which it was pruned.
    """

    number: int
    settings: Mapping[str, Any]
    state: State
    score: float | None
    seconds: float | None
    reason: str = ""


class Running:
    """A trial that has started; one of `finish`, `prune` and `fail` ends it."""

    def __init__(self, study: "optuna.Study", trial: "optuna.Trial", number: int, space: Space) -> None:
        self._study, self._trial, self.number = study, trial, number
        self.settings = {key: _suggested(trial, key, space[key]) for key in space} if number else {}

    def should_stop(self, step: int, score: float) -> bool:
        """Record a score, and return whether it is below the median of earlier trials at the same step."""
        self._trial.report(score, step)
        return self._trial.should_prune()

    def finish(self, score: float) -> None:
        """End it with its score."""
        self._study.tell(self._trial, score)

    def prune(self, reason: str) -> None:
        """End it before its last epoch."""
        from optuna.trial import TrialState

        self._trial.set_user_attr(_REASON, reason)
        self._study.tell(self._trial, state=TrialState.PRUNED)

    def fail(self, reason: str) -> None:
        """End it without a score."""
        from optuna.trial import TrialState

        self._trial.set_user_attr(_REASON, reason)
        self._study.tell(self._trial, state=TrialState.FAIL)


class Study:
    """The trials in a journal. One process at a time may open it."""

    def __init__(self, path: Path, space: Space, seed: int) -> None:
        """Open or begin a journal; trials that were running have failed, and are tried again."""
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
        from optuna.trial import TrialState

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space, self._seed = space, seed
        _cut_torn_line(path)
        with writing(path):
            lock = JournalFileOpenLock(str(path))  # links, as Optuna would make, need rights on Windows
            storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), lock))
            self._study = optuna.create_study(
                storage=storage,
                study_name="search",
                direction="maximize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=_RANDOM),
                load_if_exists=True,
            )
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)
        for number, attempts in self._attempts().items():
            if not any(map(_is_over, attempts)) and len(attempts) < _ATTEMPTS:
                self._study.enqueue_trial(attempts[-1].params, user_attrs={_NUMBER: number})
        if not self._attempts():
            self._study.enqueue_trial({}, user_attrs={_NUMBER: 0})

    def start(self) -> Running:
        """Start the next trial: one to be tried again, or a new one with sampled settings."""
        from optuna.samplers import TPESampler

        number = 1 + max(self._attempts(), default=-1)
        # a new sampler for each, so that a search that was resumed samples what it would have sampled
        self._study.sampler = TPESampler(n_startup_trials=_RANDOM, seed=self._seed + number)
        trial = self._study.ask()
        number = trial.user_attrs.get(_NUMBER, number)
        trial.set_user_attr(_NUMBER, number)
        return Running(self._study, trial, number, self._space)

    @property
    def trials(self) -> list[Trial]:
        """The trials that have ended, by number."""
        found = (self._ended(number, attempts) for number, attempts in sorted(self._attempts().items()))
        return [trial for trial in found if trial is not None]

    @property
    def best(self) -> Trial | None:
        """The finished trial with the best score, the first of equal ones; None without a finished trial."""
        finished = [trial for trial in self.trials if trial.state == "finished"]
        return max(finished, key=lambda trial: (trial.score, -trial.number), default=None)

    def _attempts(self) -> dict[int, list["optuna.trial.FrozenTrial"]]:
        """Return all trials of the journal by our numbers; one that was killed before it had a number is left out."""
        found: dict[int, list[optuna.trial.FrozenTrial]] = {}
        for trial in self._study.get_trials(deepcopy=False):
            if _NUMBER in trial.user_attrs:
                found.setdefault(trial.user_attrs[_NUMBER], []).append(trial)
        return found

    def _ended(self, number: int, attempts: list["optuna.trial.FrozenTrial"]) -> Trial | None:
        from optuna.trial import TrialState

        last = attempts[-1]
        settings = {key: _setting(value, self._space[key]) for key, value in last.params.items()}
        seconds = None if last.duration is None else last.duration.total_seconds()
        reason = str(last.user_attrs.get(_REASON, ""))
        if last.state is TrialState.COMPLETE:
            return Trial(number, settings, "finished", last.value, seconds)
        if last.state is TrialState.PRUNED:
            reached = last.intermediate_values
            return Trial(number, settings, "pruned", reached[max(reached)], seconds, reason)
        if last.state is TrialState.FAIL and (reason or len(attempts) >= _ATTEMPTS):
            stopped = f"the process ended in it {len(attempts)} times"
            return Trial(number, settings, "failed", None, seconds, reason or stopped)
        return None


def _is_over(trial: "optuna.trial.FrozenTrial") -> bool:
    """Return whether a trial has ended by itself, or waits to be started."""
    from optuna.trial import TrialState

    return trial.state is not TrialState.FAIL or _REASON in trial.user_attrs


def _suggested(trial: "optuna.Trial", key: str, dimension: Range | Choices) -> Any:
    """Return a sampled value."""
    value: Any
    if isinstance(dimension, Choices):
        value = trial.suggest_categorical(key, [json.dumps(choice) for choice in dimension.values])
    elif isinstance(dimension.low, int):
        low, high, step = dimension.low, int(dimension.high), int(dimension.step or 1)
        value = trial.suggest_int(key, low, high, step=step, log=dimension.log)
    else:
        value = trial.suggest_float(key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
    return _setting(value, dimension)


def _setting(value: Any, dimension: Range | Choices) -> Any:
    """Return the setting for a value of Optuna, which keeps choices as JSON; fractions get three digits."""
    if isinstance(dimension, Choices):
        return json.loads(value)
    if isinstance(value, int):
        return value
    return min(max(float(f"{value:.3g}"), dimension.low), dimension.high)


def _cut_torn_line(path: Path) -> None:
    """Remove the incomplete last line, and the locks, of a journal whose process was killed."""
    if not path.exists():
        return
    with writing(path):
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
        for lock in path.parent.glob(f"{path.name}.lock*"):
            lock.unlink()
