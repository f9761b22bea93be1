"""Templates by Jinja2: the page of a report with its pictures as SVG, and Markdown.

Whatever a template inserts is escaped, for HTML or for Markdown. The only markup from outside the templates is our own:
the style sheet, tables in Markdown, and the SVG that `inline_svg` has rebuilt. A strict policy refuses style
attributes, so those of a picture become plain attributes; colours of its palette become the page's variables, so that
it follows light and dark.
"""

import base64
import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any
from xml.etree.ElementTree import Element, fromstring, tostring

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from emotune.reports.tables import Table, escape, markdown

# the colours of the pictures, by the names that report.css gives them
_COLORS = {
    "#000000": "ink",
    "#222222": "ink",
    "#5f5f5f": "quiet",
    "#dcdcdc": "rule",
    "#e9e9e9": "empty",
    "#ffffff": "paper",
    "#0072b2": "blue",
    "#a6cee3": "light-blue",
    "#d55e00": "vermilion",
    "#b34d00": "rust",
    "#009e73": "green",
    "#cc79a7": "pink",
    "#e69f00": "orange",
    "#56b4e9": "sky",
}


def render_page(template: str, **values: Any) -> str:
    """A whole page that loads nothing and runs nothing: its policy allows this one style sheet and no more."""
    style = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    own_style = Markup(style)  # noqa: S704 (part of the package)
    return _environment(clean).get_template(template).render(style=own_style, policy=policy, **values)


def render_markdown(template: str, **values: Any) -> str:
    """A text in Markdown, its inserted values escaped; `table` and `verbatim` are for those of the templates' own."""
    found = _environment(_for_markdown).get_template(template)
    return str(clean(found.render(table=markdown_table, verbatim=Markup, **values)))


def markdown_table(table: Table) -> Markup:
    """The table in Markdown, its cells escaped."""
    return Markup(markdown(table))  # noqa: S704 (escaped cell by cell)


def _for_markdown(value: Any) -> Any:
    return value if isinstance(value, Markup) else Markup(escape(str(value)))  # noqa: S704 (escaped for Markdown)


@cache
def _environment(finalize: Callable[[Any], Any]) -> Environment:
    """Templates that escape; `finalize` comes first, and its markup is not escaped again."""
    return Environment(
        loader=PackageLoader("emotune.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def clean(value: Any) -> Any:
    """A text without what HTML cannot hold: ␀ and the like for control characters, � for halves of surrogate pairs.

    Other values and markup stay as they are.
    """
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(map(_printable, value))


def _printable(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs"):
        return character
    return chr(0x2400 + ord(character)) if ord(character) < 0x20 else "�"


# --- pictures --------------------------------------------------------------------------------------------------

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_LONG_NUMBER = re.compile(r"(\d+\.\d\d)\d+")
_REFERENCE = re.compile(r"#([\w.-]+)")
_VIEW = re.compile(r"^0 0 ([\d.]+) ([\d.]+)$")
_LEFT_OUT = {"metadata", "style"}
_NUMBERS = {"d", "x", "y", "transform"}
_CROP = 0.7  # of the margin around a picture: a page has its own


@cache
def variables() -> Mapping[str, str]:
    """From each colour of the pictures to the page's variable."""
    from emotune.reports.figures import HEAT

    names = {color: f"heat-{i}" for i, color in enumerate(HEAT)} | _COLORS
    return {color: f"var(--{name})" for color, name in names.items()}


def inline_svg(svg: bytes, *, prefix: str, alt: str, crop: bool = False) -> Markup:
    """A picture of ours, rebuilt as an `svg` element for a page: no title, no styles, no ids but those with `prefix`.

    alt: a text that stands in for it. crop: whether it loses most of its margin.
    """
    from emotune.reports.figures import MARGIN, POINTS, TITLE, TITLE_LINE

    root = fromstring(svg)  # noqa: S314 (our own picture, drawn a moment ago)
    view = _VIEW.match(root.get("viewBox", ""))
    if view is None:
        raise ValueError(f"not a picture of ours: its view is {root.get('viewBox')!r}")
    width, height = float(view[1]), float(view[2])
    margin = _CROP * MARGIN * POINTS if crop else 0.0
    title_lines = sum(1 for element in root.iter() if element.get("id", "").startswith(TITLE))
    top = title_lines * TITLE_LINE * POINTS + margin
    copied = Element(
        "svg",
        {
            "viewBox": f"{margin:g} {top:g} {width - 2 * margin:g} {height - top - margin:g}",
            "width": f"{width - 2 * margin:g}pt",
            "role": "img",
            "aria-label": clean(alt),
            "stroke-linejoin": "round",
        },
    )
    renamed = _Renamed(prefix, set(_REFERENCE.findall(svg.decode())), TITLE)
    for child in root:
        _copy(child, copied, renamed)
    return Markup(tostring(copied, encoding="unicode", method="html"))  # noqa: S704 (rebuilt and escaped just now)


class _Renamed:
    """The attributes of a picture as the page needs them."""

    def __init__(self, prefix: str, used: set[str], left_out: str) -> None:
        self._prefix, self._used, self.left_out = prefix, used, left_out

    def attributes(self, element: Element) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in element.attrib.items():
            if name == "style":
                found |= self._styles(value)
            elif name == "id":
                found |= {"id": f"{self._prefix}-{value}"} if value in self._used else {}
            elif name == _LINK:
                found["href"] = self._reference(value)
            elif name in _NUMBERS:
                found[name] = _LONG_NUMBER.sub(r"\1", " ".join(value.split()))
            elif not name.startswith("{"):
                found[name] = self._reference(value)
        return found

    def _styles(self, style: str) -> dict[str, str]:
        pairs = (part.partition(":") for part in style.split(";") if ":" in part)
        found = {name.strip(): value.strip() for name, _, value in pairs}
        found.pop("font-family", None)
        return {name: self._reference(variables().get(value, value)) for name, value in found.items()}

    def _reference(self, value: str) -> str:
        return _REFERENCE.sub(lambda m: f"#{self._prefix}-{m[1]}" if m[1] in self._used else m[0], value)


def _copy(element: Element, parent: Element, renamed: _Renamed) -> None:
    tag = element.tag.removeprefix(_SVG)
    if tag in _LEFT_OUT or element.get("id", "").startswith(renamed.left_out):
        return
    attributes = renamed.attributes(element)
    if tag == "g" and not attributes:  # a group without any meaning
        for child in element:
            _copy(child, parent, renamed)
        return
    copy = Element(tag, attributes)
    copy.text = element.text if element.text and element.text.strip() else None
    for child in element:
        _copy(child, copy, renamed)
    parent.append(copy)
