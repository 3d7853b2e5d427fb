"""What a reply answers to the four kinds of BIG-Bench Hard questions that VoiceBench asks: two answers each.

Sports understanding, navigate and web of lies ask yes or no, hyperbaton asks (A) or (B). The published scorer
(VoiceBench, ``src/evaluator/bbh.py``) compares with hundreds of sentences that models had said. Here each kind has
words for its two answers, a sentence with a negation turns them round, and the last sentence that decides counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from evaluation.tasks.answers_choice import chosen_letter

KINDS = ("sports_understanding", "navigate", "web_of_lies", "hyperbaton")
REFERENCES = {"yes": True, "no": False, "(a)": False, "(b)": True}
"""What the data set's references mean: yes and (B) are True."""

_NEGATION = re.compile(
    r"\b(?:not|never|cannot|neither|nor|fails? to|unable|instead of|rather than|away from|far from)\b|n't\b|\w\wn t\b"
)
_EXPLICIT = re.compile(
    r"\b(?:answer|conclusion|verdict|prefix)\b[^.?!;\n]{0,60}?\b(yes|no|true|false|plausible|implausible|"
    r"not plausible)\b(?!\s+(?:longer|one|matter|doubt))"
)
_YES = frozenset({"yes", "true", "plausible"})
_AFFIRMING = re.compile(r"(?:(?:well|so|sure|okay|ok|hmm|therefore|indeed)[,\s]+)*(yes|no|nope|yeah|yep)\b")


def kind_of(id_: str) -> str | None:
    """The kind of question, from the data set's id ("sports_understanding-12"); None for any other."""
    return next((kind for kind in KINDS if kind in id_), None)


def answered(reply: str, kind: str) -> bool | None:
    """Yes or (B): True; no or (A): False; None where the reply settles on neither.

    Raises:
        KeyError: for a kind that is not in ``KINDS``.
    """
    sentence_says = _SENTENCES[kind]
    if kind == "hyperbaton":
        return _order(reply)
    text = " ".join(re.sub(r"\\(?:boxed|text)\s*\{|[*_`${}\"()\\]", " ", reply).replace("’", "'").lower().split())
    explicit = _EXPLICIT.findall(text)
    if explicit:
        return explicit[-1] in _YES
    opening = _AFFIRMING.match(text)
    if opening:
        return opening[1] in ("yes", "yeah", "yep")
    decided = [says for sentence in _sentences(text) if (says := sentence_says(sentence)) is not None]
    if decided:
        return decided[-1]
    closing = re.search(r"\b(yes|no|true|false)\W*$", text)
    return closing[1] in _YES if closing else None


def _order(reply: str) -> bool | None:
    """Hyperbaton: which of two sentences has its adjectives in the right order."""
    text = re.sub(r"\b(?:the\s+)?first\s+(?:option|sentence|one|choice)\b", "option A", reply, flags=re.IGNORECASE)
    text = re.sub(r"\b(?:the\s+)?second\s+(?:option|sentence|one|choice)\b", "option B", text, flags=re.IGNORECASE)
    decided = [says for sentence in _sentences(text.lower()) if (says := _right_order(sentence)) is not None]
    if decided:
        return decided[-1]
    letter = chosen_letter(text, "AB")
    closing = re.search(r"\b([ab])\W*$", text, re.IGNORECASE)
    if letter is None and closing:
        letter = closing[1].upper()
    return None if letter is None else letter == "B"


_PRAISE = re.compile(
    r"\b(?:correct|correctly|right|proper|properly|natural|standard|typical|usual|conventional|logical|accurate|better)\b"
)
_BLAME = re.compile(r"\b(?:incorrect|incorrectly|wrong|unnatural|unusual|illogical|inaccurate|awkward|worse)\b")


def _right_order(sentence: str) -> bool | None:
    """ "option b follows the usual order", "option a is incorrect": praise of one is blame of the other."""
    parts = re.split(r"\b(?:while|whereas|but|and|although)\b|,", sentence)
    said = {}
    for part in parts:
        letters = re.findall(r"\b(?:option|sentence|choice|answer)\s*[\"'(\[]*([ab])\b|\(([ab])\)", part)
        named = {first or second for first, second in letters}
        if len(named) != 1:
            continue
        good, bad = bool(_PRAISE.search(part)), bool(_BLAME.search(part))
        if good != bad:
            said[named.pop()] = good != bool(_NEGATION.search(part))
    verdicts = {(letter == "b") == praised for letter, praised in said.items()}
    return verdicts.pop() if len(verdicts) == 1 else None


def _plausible(sentence: str) -> bool | None:
    """Sports: could this sentence about a sport be true?"""
    if re.search(r"\b(?:implausible|unlikely|impossible|improbable|unrealistic|nonsensical)\b", sentence):
        return False
    if re.search(r"\b(?:plausible|possible|likely|realistic|makes sense|make sense)\b", sentence):
        return not _NEGATION.search(sentence)
    return None


def _returns(sentence: str) -> bool | None:
    """Navigate: do the steps lead back to where they began?"""
    home = r"\b(?:start(?:ing|ed)?|original|initial|began|begin)\b"
    if re.search(rf"\b(?:return|returns|returned|returning|back|end up|ends up|at|same)\b.*{home}", sentence):
        return not _NEGATION.search(sentence)
    return None


def _truthful(sentence: str) -> bool | None:
    """Web of lies: does the last person tell the truth?"""
    statement = re.search(r"\bstatement\b.*\b(true|false)\b", sentence)
    if statement:
        return (statement[1] == "true") != bool(_NEGATION.search(sentence))
    if re.search(r"\b(?:lie|lies|lying|liar|untruthful|dishonest)\b", sentence):
        return bool(_NEGATION.search(sentence))
    if re.search(
        r"\b(?:tells?|telling|speaks?|speaking|told|is|be)\s+(?:\w+\s+)?(?:the\s+)?(?:truth|truthful|honest)\b",
        sentence,
    ):
        return not _NEGATION.search(sentence)
    return None


def _sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in re.split(r"[.?!;\n]+", text) if sentence.strip()]


_SENTENCES: dict[str, Callable[[str], bool | None]] = {
    "sports_understanding": _plausible,
    "navigate": _returns,
    "web_of_lies": _truthful,
    "hyperbaton": _right_order,
}
