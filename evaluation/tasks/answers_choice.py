"""Which option a reply chooses, for multiple choice: a letter that is stated as the answer, or the only one mentioned.

The published scorer (VoiceBench, ``src/evaluator/mcq.py``) looks for some 160 phrases in a fixed order. Here a few
rules say what those phrases have in common, the letter must stand alone ("the answer is because" is not B), and of
several statements the last one counts, since replies that think aloud conclude at the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LETTERS = "ABCD"

_MARKUP = re.compile(r"\\(?:boxed|text|textbf|mathbf|mathrm|textit)\s*\{|\\[()\[\]]|[*_`${}]")
_HEDGE = r"(?:(?:therefore|thus|likely|probably|most likely|typically|often|clearly|definitely|simply|the)\b[\s,:]*)?"
_NOUN = r"(?:(?:option|choice|letter|answer|statement|sentence)\s+)?[\"'‘“(\[]*"
_STATED = (
    # the answer is B; it would be option (B); answer: B
    rf"(?:\b(?:is|are|be|was)\b|\b(?:it|that|answer|choice|option)'s\b|\b(?:answer|choice|option|selection|solution)\b\s*[:=])[\s:,]*{_HEDGE}{_NOUN}",
    # I would choose B; let us go with option B
    rf"\b(?:choose|chose|select|pick|go(?:es|ing)?\s+(?:with|for)|opt\s+for|say|as|suggests?|with|to)\b[\s:]*{_NOUN}",
    # so B; it corresponds to B
    rf"\b(?:therefore|so|hence|thus|conclusion)\b[\s,:]*{_NOUN}",
    r"(?:答案|选|是)(?:是|应该是|就是|选|选项|\s|[‘“(])*",
)
_PRAISE = (
    r"\b(?:is|are|would\s+be|seems?(?:\s+to\s+be)?|looks?|appears?(?:\s+to\s+be)?|must\s+be|makes)\s+"
    r"(?:(?:therefore|thus|clearly|likely|probably)\s+)?(?:(?:the|my|a)\s+)?(?:(?:most|more|only|single)\s+)?"
    r"(?:correct|right|best|answer|accurate|appropriate|likely|suitable|true|fitting|sense)\b|\s*是(?:正确|最)"
)
_DENIED = r"[\"')\]]*\s+(?:is|was|are|would\s+be|seems)\s*(?:not\b|n't|incorrect|inaccurate|wrong|false)"
_UNDECIDED = r"[\"')\]]*\s*(?:,?\s+(?:or|and)\s+|/\s*)(?:option\s+)?[\"'(\[]*[a-d](?![A-Za-z0-9'])"
"""What takes a statement back: "... A is wrong", "... A or B"."""
_AFTER_A_LETTER = ("because", "since", "as", "which", "and", "for", "is", "would", "seems", "looks", "must")


def chosen_letter(reply: str, letters: str = LETTERS) -> str | None:
    """The letter (upper case) a reply settles on; None where it states none, or mentions several without choosing."""
    text = " ".join(_MARKUP.sub(" ", reply).replace("’", "'").split())
    letter = f"([{letters}{letters.lower()}])"
    alone = rf"(?<![A-Za-z0-9])(?<![A-Za-z]'){letter}(?![A-Za-z0-9']|\s*'[a-z])"
    bare = re.fullmatch(rf"(?:(?:the\s+)?(?:option|answer|choice))?[\s:\"'(\[]*{letter}[\s)\].:,\"'!]*", text, re.I)
    if bare:
        return bare[1].upper()
    stated = [*_stated(text, alone), *_praised(text, alone)]
    if stated:
        return max(stated)[1]
    first = re.match(rf"[\"'(\[]*{letter}\s*[)\].:,](?!\w)", text)
    if first:
        return first[1].upper()
    mentioned = set(_mentioned(text, letter, alone))
    return mentioned.pop() if len(mentioned) == 1 else None


def _stated(text: str, alone: str) -> Iterator[tuple[int, str]]:
    """Place and letter of each "the answer is B" that nothing takes back ("... is A is wrong")."""
    for pattern in _STATED:
        for match in _overlapping(pattern + alone, text):
            if not _is_article(match, text) and not re.match(
                rf"{_DENIED}|{_UNDECIDED}", text[match.end(1) :], re.IGNORECASE
            ):
                yield match.end(1), match[1].upper()


def _praised(text: str, alone: str) -> Iterator[tuple[int, str]]:
    """Place and letter of each "B is correct" and "option B, a magnet, would be the best answer"."""
    for match in _overlapping(rf"{alone}([\"')\].:,]*[^.?!;\n]{{0,60}}?(?:{_PRAISE}))", text):
        if not _is_article(match, text) and not re.search(r"\b(?:not|neither|nor)\b|n't\b", match[2]):
            yield match.end(1), match[1].upper()


def _mentioned(text: str, letter: str, alone: str) -> Iterator[str]:
    """Letters marked as options without a word on which is chosen: (B), B), B., "B" or option B."""
    for pattern in (
        rf"\((?:option\s+)?{letter}\)",
        rf"(?<![A-Za-z0-9])(?<![A-Za-z]'){letter}(?=[).:,](?!\w))",
        rf"\b(?:option|choice|answer)\s+[\"'(\[]*{alone}",
        rf"[\"'‘“]{letter}[\"'’”]",
    ):
        for match in re.finditer(pattern, text, re.IGNORECASE):
            if not re.match(_DENIED, text[match.end(1) :], re.IGNORECASE):
                yield match[1].upper()


def _overlapping(pattern: str, text: str) -> Iterator[re.Match[str]]:
    """Matches that may share words: "the answer is A or it is B" holds two."""
    compiled, start = re.compile(pattern, re.IGNORECASE), 0
    while match := compiled.search(text, start):
        yield match
        start = match.start() + 1


def _is_article(match: re.Match[str], text: str) -> bool:
    """Whether a lower-case "a" before a word is an article and no option."""
    following = re.match(r"\s+([A-Za-z]+)", text[match.end(1) :])
    return match[1] == "a" and following is not None and following[1].lower() not in _AFTER_A_LETTER
