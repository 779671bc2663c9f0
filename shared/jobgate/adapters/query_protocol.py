"""AWS's older wire form, which STS speaks: a form in, XML out (Smithy, "AWS Query protocol").

STS's answers are plain elements with text, without attributes that matter, comments or CDATA; what
is otherwise is refused. An XML parser would take longer to import than a whole answer takes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping

_STS_VERSION = "2011-06-15"
_PIECE = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)(?: xmlns=\"[^\"<>]*\")?>([^<]*)")
_ENTITY = re.compile("&([^;]*);?")
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_PROLOGUE = re.compile(r"\A\s*(?:<\?xml[^<>]*\?>)?\s*")


def form(operation: str, request: Mapping[str, str]) -> bytes:
    """A request's body; `request` holds texts alone."""
    return urlencode({"Action": operation, "Version": _STS_VERSION, **request}).encode()


def answer(body: bytes) -> dict[str, Any]:
    """An answer as nested objects, texts at their ends; raises ValueError."""
    text = _PROLOGUE.sub("", body.decode(), count=1).rstrip()
    position = 0
    root: dict[str, Any] = {}
    open_elements: list[tuple[str, dict[str, Any], str]] = [("", root, "")]
    while position < len(text):
        piece = _PIECE.match(text, position)
        if piece is None:
            raise ValueError("not XML of STS's form")
        closes, name, content = piece.groups()
        position = piece.end()
        if not closes:
            open_elements.append((name, {}, content))
            continue
        opened, children, own = open_elements.pop()
        if opened != name or not open_elements:
            raise ValueError("an element that isn't closed")
        open_elements[-1][1][name] = children or _text(own)
    if len(open_elements) != 1:
        raise ValueError("an element that isn't closed")
    return root


def _text(escaped: str) -> str:
    """Text with XML's own entities resolved; raises ValueError for any other."""
    try:
        return _ENTITY.sub(lambda found: _ENTITIES[found[1]], escaped)
    except KeyError:
        raise ValueError("an entity that STS doesn't use") from None
