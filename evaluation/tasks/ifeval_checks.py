"""The 25 kinds of verifiable instructions of IFEval (Zhou et al. 2023, arXiv 2311.07911) as yes-or-no rules.

Each takes a reply and the instruction's parameters under their published names. What is counted, and how, follows the
published checks; the rules themselves are ours. ``docs/benchmarks.md`` lists where they differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from evaluation.tasks.languages import language_of
from evaluation.tasks.sentences import sentences_of

Parameters = Mapping[str, Any]
Check = Callable[[str, Parameters], bool]

_ALLOWED_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


class InstructionError(ValueError):
    """An instruction that cannot be checked: its kind is unknown, or a parameter is missing or makes no sense."""


def follows(kind: str, reply: str, parameters: Parameters) -> bool:
    """Whether a reply follows an instruction ("length_constraints:number_words", ...). A blank reply follows none.

    Raises:
        InstructionError: see there.
    """
    if kind not in CHECKS:
        raise InstructionError(f'there is no check for instructions of the kind "{kind}"')
    try:
        return bool(reply.strip()) and CHECKS[kind](reply, parameters)
    except KeyError as error:
        raise InstructionError(f'the instruction "{kind}" lacks its parameter {error}') from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InstructionError(f'the parameters {dict(parameters)} make no sense for "{kind}" ({error})') from error


def _compared(count: int, relation: str, bound: float) -> bool:
    """The two relations there are; other words for them are refused."""
    if relation == "at least":
        return count >= bound
    if relation == "less than":
        return count < bound
    raise ValueError(f"unknown relation {relation!r}")


def _keywords_exist(reply: str, p: Parameters) -> bool:
    """Every keyword is there, also as a part of a longer word."""
    return all(word.lower() in reply.lower() for word in _words_of(p["keywords"]))


def _keyword_frequency(reply: str, p: Parameters) -> bool:
    """Occurrences that do not overlap, also inside longer words."""
    return _compared(reply.lower().count(p["keyword"].strip().lower()), p["relation"], int(p["frequency"]))


def _no_forbidden_words(reply: str, p: Parameters) -> bool:
    """As whole words only: "there" does not hold "here"."""
    found = (re.search(rf"\b{re.escape(word)}\b", reply, re.IGNORECASE) for word in _words_of(p["forbidden_words"]))
    return not any(found)


def _words_of(value: Any) -> list[str]:
    if isinstance(value, str) or not all(isinstance(word, str) for word in value):
        raise TypeError("a list of words is needed")
    return list(value)


def _letter_frequency(reply: str, p: Parameters) -> bool:
    letter = p["letter"].strip().lower()
    if len(letter) != 1:
        raise ValueError(f"{p['letter']!r} is not one letter")
    return _compared(reply.lower().count(letter), p["let_relation"], int(p["let_frequency"]))


def _language(reply: str, p: Parameters) -> bool:
    """A reply without letters passes: there is no other language in it."""
    return not any(c.isalpha() for c in reply) or language_of(reply) == str(p["language"])


def _number_sentences(reply: str, p: Parameters) -> bool:
    return _compared(len(sentences_of(reply)), p["relation"], int(p["num_sentences"]))


def _number_paragraphs(reply: str, p: Parameters) -> bool:
    """Paragraphs between dividers of three asterisks; only the first and the last of the pieces may be blank."""
    pieces = [piece.strip() for piece in reply.split("***")]
    if not all(pieces[1:-1]):
        return False
    return sum(bool(piece) for piece in pieces) == int(p["num_paragraphs"])


def _number_words(reply: str, p: Parameters) -> bool:
    """Runs of letters, digits and underscores: "don't" is two."""
    return _compared(len(re.findall(r"\w+", reply)), p["relation"], int(p["num_words"]))


def _first_word(reply: str, p: Parameters) -> bool:
    """Exactly so many paragraphs between blank lines, and the n-th begins with the word."""
    paragraphs = [paragraph.split() for paragraph in reply.split("\n\n") if paragraph.strip()]
    place = int(p["nth_paragraph"])
    if place < 1:
        raise ValueError("paragraphs are counted from 1")
    if len(paragraphs) != int(p["num_paragraphs"]) or place > len(paragraphs):
        return False
    first = re.split(r"[.,?!'\"]", paragraphs[place - 1][0].lstrip("'\""), maxsplit=1)[0]
    return first.lower() == p["first_word"].lower()


def _placeholders(reply: str, p: Parameters) -> bool:
    """Square brackets with anything between them, on one line."""
    count = 0
    for line in reply.split("\n"):
        place = line.find("[")
        while place >= 0 and (end := line.find("]", place)) >= 0:
            count += 1
            place = line.find("[", end)
    return count >= int(p["num_placeholders"])


def _postscript(reply: str, p: Parameters) -> bool:
    """The marker anywhere; a space inside P. S. does not matter."""
    marker = p["postscript_marker"].strip().lower()
    spaced = {"p.s.": r"p\.\s?s\.", "p.p.s": r"p\.\s?p\.\s?s"}.get(marker, re.escape(marker))
    return re.search(spaced, reply.lower()) is not None


def _bullets(reply: str, p: Parameters) -> bool:
    """Lines that begin with one asterisk or with a dash: exactly so many."""
    lines = [line.lstrip() for line in reply.split("\n")]
    starred = sum(line.startswith("*") and len(line) > 1 and line[1] != "*" for line in lines)
    return starred + sum(line.startswith("-") for line in lines) == int(p["num_bullets"])


def _constrained_answer(reply: str, p: Parameters) -> bool:
    return any(answer in reply for answer in _ALLOWED_ANSWERS)


def _highlights(reply: str, p: Parameters) -> bool:
    """Words between single or between double asterisks, on one line."""
    single = re.findall(r"\*([^\n*]*)\*", reply)
    double = re.findall(r"\*\*([^\n*]*)\*\*", reply)
    return sum(bool(inside.strip()) for inside in (*single, *double)) >= int(p["num_highlights"])


def _sections(reply: str, p: Parameters) -> bool:
    """The splitter with a number after it ("Section 1")."""
    splitter = re.escape(p["section_spliter"].strip())
    return len(re.findall(rf"{splitter}\s?\d+", reply)) >= int(p["num_sections"])


def _json(reply: str, p: Parameters) -> bool:
    """All of the reply, but for a code fence around it."""
    fenced = re.fullmatch(r"(?:```(?:json)?)?(.*?)(?:```)?", reply.strip(), re.DOTALL | re.IGNORECASE)
    try:
        json.loads(fenced[1].strip() if fenced else reply)
    except ValueError:
        return False
    return True


def _title(reply: str, p: Parameters) -> bool:
    """Words between the first << and the last >> of a line."""
    pieces = ((line, line.find("<<"), line.rfind(">>")) for line in reply.split("\n"))
    return any(start >= 0 and line[start + 2 : max(end, 0)].strip("<> ") for line, start, end in pieces)


def _two_responses(reply: str, p: Parameters) -> bool:
    """Two different texts around six asterisks; only the first and the last of the pieces may be blank."""
    pieces = [piece.strip() for piece in reply.split("******")]
    said = [piece for piece in pieces if piece]
    return all(pieces[1:-1]) and len(said) == 2 and said[0] != said[1]


def _repeats_prompt(reply: str, p: Parameters) -> bool:
    return reply.strip().lower().startswith(p["prompt_to_repeat"].strip().lower())


def _ends_with(reply: str, p: Parameters) -> bool:
    return reply.strip().strip('"').lower().endswith(p["end_phrase"].strip().lower())


def _capital_words(reply: str, p: Parameters) -> bool:
    """Words all of whose letters are capitals; a hyphenated word is one."""
    words = re.findall(r"[^\W_]+(?:[-'’.&][^\W_]+)*", reply)
    return _compared(sum(w.isupper() for w in words), p["capital_relation"], int(p["capital_frequency"]))


def _english_capitals(reply: str, p: Parameters) -> bool:
    return reply.isupper() and _is_english(reply)


def _english_small(reply: str, p: Parameters) -> bool:
    return reply.islower() and _is_english(reply)


def _is_english(reply: str) -> bool:
    """English, or too short to say which language it is."""
    return language_of(reply) in ("en", None)


def _no_comma(reply: str, p: Parameters) -> bool:
    return "," not in reply


def _quoted(reply: str, p: Parameters) -> bool:
    return len(reply.strip()) > 1 and reply.strip()[0] == reply.strip()[-1] == '"'


CHECKS: dict[str, Check] = {
    "keywords:existence": _keywords_exist,
    "keywords:frequency": _keyword_frequency,
    "keywords:forbidden_words": _no_forbidden_words,
    "keywords:letter_frequency": _letter_frequency,
    "language:response_language": _language,
    "length_constraints:number_sentences": _number_sentences,
    "length_constraints:number_paragraphs": _number_paragraphs,
    "length_constraints:number_words": _number_words,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _constrained_answer,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeats_prompt,
    "startend:end_checker": _ends_with,
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _english_capitals,
    "change_case:english_lowercase": _english_small,
    "punctuation:no_comma": _no_comma,
}
"""Kind -> (reply, parameters) -> followed."""
