"""Times, sizes and speeds as people read them."""


def duration(seconds: float | None) -> str:
    """Hours, minutes, seconds or parts of them; empty when not known."""
    if seconds is None:
        return ""
    if seconds <= 0:
        return "0 s"
    for unit, length, least in (("h", 3600.0, 1.0), ("min", 60.0, 1.0), ("s", 1.0, 0.1), ("ms", 1e-3, 0.1)):
        value = seconds / length
        if value >= least:
            return f"{value:.1f} {unit}" if value < 10 or length > 1 else f"{value:.0f} {unit}"
    return f"{seconds * 1e6:.0f} µs"


def size(num_bytes: float | None) -> str:
    """Bytes as kB, MB or GB (of 1,000); empty when not known."""
    if num_bytes is None:
        return ""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= length:
            return f"{num_bytes / length:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def speed(texts_per_second: float | None) -> str:
    """Texts a second to three digits; empty when not measured."""
    if texts_per_second is None:
        return ""
    return f"{float(f'{texts_per_second:.3g}'):,.0f}" if texts_per_second >= 10 else f"{texts_per_second:.1f}"
