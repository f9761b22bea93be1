"""Times, sizes and speeds as people read them."""


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours; empty when not known."""
    if seconds is None:
        return ""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    if seconds < 0.1:
        return f"{seconds:.1g} s"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


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
