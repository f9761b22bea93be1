"""What a difference found on some rows is worth on others: paired bootstrap tests and intervals of many at once.

The p-value of a difference is the share of draws whose difference is as far from the one found as that is from 0 (Efron
and Tibshirani 1993, An Introduction to the Bootstrap, 16.4; the draw that is the data counts as one). p-values are
corrected by Holm's step-down method (Holm 1979). Intervals hold for all differences of a family at once: estimate ± c
standard deviations, c the 95 % quantile of the largest studentized deviation (the sup-t or max-t band; Montiel Olea and
Plagborg-Møller 2019, "Simultaneous confidence bands").

A bootstrap of few rows is too sure of itself: where each row on which two differ speaks for the same one, no draw can
speak for the other. Whoever swaps both answers to any of m such rows has 2^m outcomes, of which two are as extreme as
any. So no p-value is smaller than 2^(1-m), that of the sign test, and there is no interval where m is below 6, the
number from which on that is below 5 %, nor where draws do not vary at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emotune.scoring.metrics import Floats

ROUNDING = 1e-12
FEWEST_ROWS = 6  # on which two differ, for an interval
_LEVEL = 95  # percent
Integers = npt.NDArray[np.int64]


def smallest_p(rows: Integers) -> Floats:
    """The smallest p-value that there can be where two differ on so many rows, 1 at most."""
    return np.asarray(np.minimum(2.0 ** (1 - rows), 1.0))


def p_values(values: Floats, draws: Floats, rows: Integers) -> Floats:
    """Two-sided bootstrap p-values of differences of shape (m,) with draws of shape (draws, m); NaN without draws.

    rows: on how many the two of each differ, shape (m,).
    """
    defined = np.isfinite(draws)
    far = (np.abs(draws - values) >= np.abs(values) - ROUNDING) & defined
    counted = defined.sum(axis=0)
    p = np.maximum((1 + far.sum(axis=0)) / (1 + counted), smallest_p(rows))
    return np.where(np.isfinite(values) & (counted > 0), p, np.nan)


def holm(p: Floats) -> Floats:
    """p-values of shape (m,) corrected by Holm's step-down method; NaN is no test, and not counted as one."""
    corrected = np.full(len(p), np.nan)
    order = [int(i) for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return corrected


def simultaneous_intervals(values: Floats, draws: Floats, rows: Integers) -> tuple[Floats, Floats]:
    """Ends of intervals that hold for all of the values, shape (m,), at once; draws have shape (draws, m).

    rows: on how many the two of each differ, shape (m,). NaN as `Spread.interval` says.
    """
    spread = Spread.of(values, draws)
    return spread.interval(values, critical([spread]), rows)


@dataclass(frozen=True)
class Spread:
    """Standard deviations of draws, shape (m,), NaN where there are fewer than two; and the largest studentized
    distance from the values in each draw, shape (draws,)."""

    deviation: Floats
    largest: Floats

    @classmethod
    def of(cls, values: Floats, draws: Floats) -> "Spread":
        """That of draws of shape (draws, m) around values of shape (m,)."""
        defined = np.isfinite(draws) & np.isfinite(values)
        counted = defined.sum(axis=0)
        held = np.where(defined, draws, 0.0)
        mean = held.sum(axis=0) / np.maximum(counted, 1)
        squares = np.where(defined, (held - mean) ** 2, 0.0).sum(axis=0)
        deviation = np.sqrt(squares / np.maximum(counted - 1, 1))
        distance = np.abs(held - np.where(defined, values, 0.0)) / np.maximum(deviation, ROUNDING)
        largest = np.where(defined & (deviation > ROUNDING), distance, 0.0).max(axis=1, initial=0.0)
        return cls(np.where(counted > 1, deviation, np.nan), largest)

    def interval(self, values: Floats, times: float, rows: Integers) -> tuple[Floats, Floats]:
        """values ± `times` standard deviations, shape (m,) each, where two differ on so many `rows`.

        NaN where these are too few, though not none, and where a difference is the same in all draws.
        """
        told = (rows >= FEWEST_ROWS) & ((self.deviation > ROUNDING) | (values == 0))
        reach = np.where(told | (rows == 0), times * self.deviation, np.nan)
        return values - reach, values + reach


def critical(spreads: Sequence[Spread]) -> float:
    """How many standard deviations hold for all values of all spreads at once; NaN without draws."""
    largest = np.max([spread.largest for spread in spreads], axis=0)
    return float(np.percentile(largest, _LEVEL)) if len(largest) else float("nan")
