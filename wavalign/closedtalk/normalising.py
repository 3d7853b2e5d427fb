"""Typed text as the closed world's words: lower-case, spelled out, without punctuation."""

from __future__ import annotations

import re
import unicodedata

from wavalign.closedtalk.facts import NUMBERS

_CONTRACTIONS = {
    "what's": "what is",
    "whats": "what is",
    "who's": "who is",
    "how's": "how is",
    "it's": "it is",
    "that's": "that is",
    "there's": "there is",
    "which's": "which is",
    "i'm": "i am",
    "you're": "you are",
    "who're": "who are",
    "don't": "do not",
    "doesn't": "does not",
    "can't": "can not",
}
_SPELLINGS = {"color": "colour", "gray": "grey", "colors": "colours", "ok": "okay"}
_OPERATORS = {"+": " plus ", "&": " and ", "=": " is "}
_MINUS = re.compile(r"(?<=\d)\s*[-\u2212\u2013]\s*(?=\d)|(?<=\s)[-\u2212\u2013](?=\s)")
_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:'[^\W_]+)*")


def normalise_typed(text: str) -> str:
    """The words of a text, lower-case, digits up to twenty and + and - spelled out, contractions expanded.

    ``"What's 7+5?"`` becomes ``"what is seven plus five"``. Words of other languages and other numbers stay.
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'").replace("\u2018", "'")
    text = _MINUS.sub(" minus ", text)
    for sign, word in _OPERATORS.items():
        text = text.replace(sign, word)
    return " ".join(_spelled(word) for word in _WORD.findall(text))


def _spelled(word: str) -> str:
    if word in _CONTRACTIONS:
        return _CONTRACTIONS[word]
    if word.isascii() and word.isdecimal() and int(word[:4]) < len(NUMBERS) and len(word) <= 2:
        return NUMBERS[int(word)]
    if word.endswith("'s"):
        word = word[:-2]
    word = word.replace("'", "")
    return _SPELLINGS.get(word, word)
