"""HTML as a tree: whatever is put into it is escaped when it is written, for there is no other way in.

The standard library's ElementTree holds and writes the tree. No markup is ever put together as text, so a label or a
text that looks like markup stays what it is. A template engine would be one more dependency, and would have to be
told what not to escape: the pictures.
"""

import base64
import hashlib
import unicodedata
from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, tostring

Child = Element | str | None


def h(tag: str, *children: Child | Iterable[Child], **attributes: str | None) -> Element:
    """An element. `class_` and `aria_label` are written class and aria-label; None leaves an attribute or child out."""
    named = {
        name.rstrip("_").replace("_", "-"): clean(value) for name, value in attributes.items() if value is not None
    }
    element = Element(tag, named)
    for child in children:
        for one in [child] if child is None or isinstance(child, str | Element) else child:
            _append(element, one)
    return element


def _append(element: Element, child: Child) -> None:
    if isinstance(child, Element):
        element.append(child)
    elif child is not None and len(element):
        element[-1].tail = (element[-1].tail or "") + clean(child)
    elif child is not None:
        element.text = (element.text or "") + clean(child)


def clean(text: str) -> str:
    """The text without what HTML cannot hold: pictures of control characters (␀), � for halves of surrogate pairs."""
    return "".join(map(_held, text)) if not text.isprintable() else text


def _held(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\n\t" or category not in ("Cc", "Cs"):
        return character
    return chr(0x2400 + ord(character)) if ord(character) < 0x20 else "�"


def said(text: str, most: int | None = None) -> Element:
    """Text that somebody else wrote, for a place within a line: its direction does not spill over. At most `most`
    characters of it, the rest an ellipsis."""
    cut = text if most is None or len(text) <= most else text[:most].rstrip() + " …"
    return h("bdi", cut)


def document(title: str, style: str, *body: Element, language: str = "en") -> str:
    """A whole page that loads nothing and runs nothing: its policy allows this one style sheet and no more."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = h(
        "head",
        h("meta", charset="utf-8"),
        _policy(policy),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("meta", name="referrer", content="no-referrer"),
        h("title", title),
    )
    SubElement(head, "style").text = style
    page = h("html", head, h("body", *body), lang=language)
    return "<!DOCTYPE html>\n" + tostring(page, encoding="unicode", method="html") + "\n"


def _policy(policy: str) -> Element:
    return Element("meta", {"http-equiv": "Content-Security-Policy", "content": policy})
