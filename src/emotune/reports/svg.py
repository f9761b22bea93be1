"""The SVG that matplotlib writes, made a part of a page: no styles of its own, colours by name, ids of its own.

A page with a strict policy refuses style attributes, so each becomes attributes; colours of the palette become the
page's variables, so that a picture follows light and dark.
"""

import re
from collections.abc import Mapping
from xml.etree.ElementTree import Element, fromstring

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_LONG_NUMBER = re.compile(r"(\d+\.\d\d)\d+")
_REFERENCE = re.compile(r"#([\w.-]+)")
_VIEW = re.compile(r"^0 0 ([\d.]+) ([\d.]+)$")
_LEFT_OUT = {"metadata", "style"}
_NUMBERS = {"d", "x", "y", "transform"}


def inlined(
    svg: bytes, *, prefix: str, alt: str, colors: Mapping[str, str], drop: str, cut: float, crop: float
) -> Element:
    """The picture as an `svg` element for a page.

    prefix: makes its ids those of no other picture. alt: what it shows, in words. colors: from `#rrggbb` to what the
    page calls it. Groups whose ids begin with `drop` are left out, and with each a strip of `cut` points at the top;
    `crop` points go on every side.
    """
    root = fromstring(svg)  # noqa: S314 (our own picture, drawn a moment ago)
    used = set(_REFERENCE.findall(svg.decode()))
    dropped = sum(1 for element in root.iter() if element.get("id", "").startswith(drop))
    view = _VIEW.match(root.get("viewBox", ""))
    if view is None:
        raise ValueError(f"not a picture of ours: its view is {root.get('viewBox')!r}")
    width, height = float(view[1]), float(view[2])
    top = dropped * cut + crop
    page = Element(
        "svg",
        {
            "viewBox": f"{crop:g} {top:g} {width - 2 * crop:g} {height - top - crop:g}",
            "width": f"{width - 2 * crop:g}pt",
            "role": "img",
            "aria-label": alt,
            "stroke-linejoin": "round",
        },
    )
    for child in root:
        _copy(child, page, _Names(prefix, used, colors, drop))
    return page


class _Names:
    """What is called otherwise on the page."""

    def __init__(self, prefix: str, used: set[str], colors: Mapping[str, str], drop: str) -> None:
        self.prefix, self.used, self.colors, self.drop = prefix, used, colors, drop

    def attributes(self, element: Element) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in element.attrib.items():
            if name == "style":
                found |= self._styles(value)
            elif name == "id":
                found |= {"id": f"{self.prefix}-{value}"} if value in self.used else {}
            elif name == _LINK:
                found["href"] = self._referring(value)
            elif name in _NUMBERS:
                found[name] = _LONG_NUMBER.sub(r"\1", " ".join(value.split()))
            elif not name.startswith("{"):
                found[name] = self._referring(value)
        return found

    def _styles(self, style: str) -> dict[str, str]:
        pairs = (part.partition(":") for part in style.split(";") if ":" in part)
        found = {name.strip(): value.strip() for name, _, value in pairs}
        found.pop("font-family", None)
        return {name: self._referring(self.colors.get(value, value)) for name, value in found.items()}

    def _referring(self, value: str) -> str:
        return _REFERENCE.sub(lambda m: f"#{self.prefix}-{m[1]}" if m[1] in self.used else m[0], value)


def _copy(element: Element, parent: Element, names: _Names) -> None:
    tag = element.tag.removeprefix(_SVG)
    if tag in _LEFT_OUT or element.get("id", "").startswith(names.drop):
        return
    attributes = names.attributes(element)
    if tag == "g" and not attributes:  # a group that says nothing
        for child in element:
            _copy(child, parent, names)
        return
    copy = Element(tag, attributes)
    copy.text = element.text if element.text and element.text.strip() else None
    for child in element:
        _copy(child, copy, names)
    parent.append(copy)
