"""The look of the HTML report: its style sheet, light and dark, and what it calls the colours of the pictures."""

from importlib.resources import files

# of each: light, dark. The light ones are those that pictures are drawn in.
_NAMED = {
    "ink": ("#222222", "#e8e6e3"),
    "quiet": ("#5f5f5f", "#a5a9ae"),
    "rule": ("#dcdcdc", "#3a4047"),
    "empty": ("#e9e9e9", "#262b31"),
    "paper": ("#ffffff", "#15181c"),
    "blue": ("#0072b2", "#5cb3ea"),
    "light-blue": ("#a6cee3", "#2a5f80"),
    "vermilion": ("#d55e00", "#ff9248"),
    "rust": ("#b34d00", "#ff9248"),
    "green": ("#009e73", "#3fc79d"),
    "pink": ("#cc79a7", "#e39cc4"),
    "orange": ("#e69f00", "#f0b93f"),
    "sky": ("#56b4e9", "#8fd0f5"),
}
_PAGE = {
    "raised": ("#f6f7f8", "#1d2126"),
    "warned": ("#fff4e5", "#33261a"),
    "link": ("#00578a", "#7cc4f2"),
    "right": ("#00674b", "#58d3ab"),
    "wrong": ("#a84300", "#ffa366"),
}
_HEAT_DARK = ("#1b222a", "#9ed3f7")  # the ends of what counts are coloured by in the dark


def colors(heat: tuple[str, ...]) -> dict[str, str]:
    """From each colour of the pictures to what the page calls it; `heat` colours counts, the palest first."""
    named = {light: f"var(--{name})" for name, (light, _) in _NAMED.items()}
    return {"#000000": "var(--ink)"} | {color: f"var(--heat-{i})" for i, color in enumerate(heat)} | named


def style_sheet(heat: tuple[str, ...]) -> str:
    """The style sheet; `heat` as for `colors`, empty where there are no pictures."""
    dark_heat = [_between(*_HEAT_DARK, i / max(len(heat) - 1, 1)) for i in range(len(heat))]
    pairs = _NAMED | _PAGE | {f"heat-{i}": pair for i, pair in enumerate(zip(heat, dark_heat, strict=True))}
    light = "".join(f"--{name}:{pair[0]};" for name, pair in pairs.items())
    dark = "".join(f"--{name}:{pair[1]};" for name, pair in pairs.items())
    schemes = (
        f":root{{color-scheme:light dark;{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
    )
    return schemes + files(__package__).joinpath("report.css").read_text(encoding="utf-8")


def _between(start: str, end: str, share: float) -> str:
    ends = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (start, end)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(*ends, strict=True))
