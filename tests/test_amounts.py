"""Times, sizes and speeds as people read them."""

import pytest

from emotune.reports import tables


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (None, ""),
        (0.0, "0 s"),
        (2e-5, "20 µs"),
        (0.0042, "4.2 ms"),
        (0.03, "30 ms"),
        (0.5, "0.5 s"),
        (0.96, "1.0 s"),
        (9.44, "9.4 s"),
        (35.2, "35 s"),
        (84.0, "1.4 min"),
        (4000.0, "1.1 h"),
    ],
)
def test_a_duration_is_never_nought_for_what_took_some_time(seconds: float | None, written: str) -> None:
    assert tables.duration(seconds) == written


@pytest.mark.parametrize(
    ("texts", "written"), [(None, ""), (3.14, "3.1"), (98.7, "99"), (8932.4, "8,930"), (61_910_277.0, "61,900,000")]
)
def test_a_speed_has_three_digits_at_most(texts: float | None, written: str) -> None:
    assert tables.speed(texts) == written
