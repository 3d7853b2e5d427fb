"""Where English sentences end: a rule of about the same reach as a trained splitter on well-formed replies."""

from __future__ import annotations

import re

_SHORT = (
    "mr mrs ms dr prof st jr sr vs inc ltd corp dept gen gov hon lt capt sgt rev rep vol pp approx appt assn ave blvd "
    "jan feb apr aug sept oct nov dec e.g i.e u.s u.k u.n ph.d b.a m.a d.c"
)
_ABBREVIATIONS = frozenset(_SHORT.split())
_MAY_END = frozenset({"i", "a", "a.m", "p.m"})
"""Short words after which a capital letter begins a sentence."""
_END = re.compile(r"[.!?…]+[\"'”’)\]*]*(?=\s|$)|[。！？]+")


def sentences_of(text: str) -> list[str]:
    """The sentences of a text, without the space around them. Line breaks end none.

    A full stop ends one unless it follows a known abbreviation or a single letter and a word goes on, or the next
    word begins with a small letter.
    """
    found, start = [], 0
    for end in _END.finditer(text):
        if _goes_on(text, start, end):
            continue
        found.append(text[start : end.end()].strip())
        start = end.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if re.search(r"\w", sentence)]


def _goes_on(text: str, start: int, end: re.Match[str]) -> bool:
    following = text[end.end() :].lstrip()
    if not following or end[0][0] not in ".…":
        return False
    if following[0].islower():
        return True
    if end[0] != ".":
        return False
    last = text[start : end.start()].split()
    word = last[-1].lstrip("\"'“‘([*").lower() if last else ""
    initials = re.fullmatch(r"[a-z]|(?:[a-z]\.)+[a-z]", word) is not None
    return word in _ABBREVIATIONS or (initials and word not in _MAY_END)
