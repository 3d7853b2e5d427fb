"""Each kind of instruction, followed and not, worked by hand."""

from __future__ import annotations

import pytest

from evaluation.tasks.ifeval import Followed, Instruction, followed, instructions_of, loosened, rates
from evaluation.tasks.ifeval_checks import CHECKS, InstructionError, follows
from evaluation.tasks.languages import language_of
from evaluation.tasks.sentences import sentences_of

LEAST, LESS = "at least", "less than"
CASES = {
    "keywords:existence": (
        ({"keywords": ["sun", "Moon"]}, "The sunny moon.", True),
        ({"keywords": ["sun", "moon"]}, "The sun only.", False),
        ({"keywords": ["c++"]}, "I like c++ a lot.", True),
    ),
    "keywords:frequency": (
        ({"keyword": "sea", "frequency": 2, "relation": LEAST}, "Sea, sand, season.", True),
        ({"keyword": "sea", "frequency": 2, "relation": LEAST}, "The sea.", False),
        ({"keyword": "sea", "frequency": 2, "relation": LESS}, "The sea.", True),
        ({"keyword": "sea", "frequency": 1, "relation": LESS}, "The sea.", False),
    ),
    "keywords:forbidden_words": (
        ({"forbidden_words": ["here"]}, "There it is.", True),
        ({"forbidden_words": ["here"]}, "Here it is.", False),
    ),
    "keywords:letter_frequency": (
        ({"letter": "e", "let_frequency": 3, "let_relation": LEAST}, "Eleven", True),
        ({"letter": "e", "let_frequency": 4, "let_relation": LEAST}, "Eleven", False),
        ({"letter": "Z", "let_frequency": 1, "let_relation": LESS}, "Eleven", True),
        ({"letter": "!", "let_frequency": 2, "let_relation": LEAST}, "Go! Now!", True),
    ),
    "language:response_language": (
        ({"language": "de"}, "Das ist ein schöner Tag und ich gehe nach Hause.", True),
        ({"language": "de"}, "It is a fine day and I go home.", False),
        ({"language": "hi"}, "यह बहुत अच्छा है और मैं खुश हूँ", True),
    ),
    "length_constraints:number_sentences": (
        ({"num_sentences": 2, "relation": LEAST}, "Dr. Ray came. He left.", True),
        ({"num_sentences": 3, "relation": LEAST}, "Dr. Ray came. He left.", False),
        ({"num_sentences": 3, "relation": LESS}, "Dr. Ray came. He left.", True),
    ),
    "length_constraints:number_paragraphs": (
        ({"num_paragraphs": 2}, "one\n***\ntwo", True),
        ({"num_paragraphs": 2}, "***one***two***", True),
        ({"num_paragraphs": 3}, "one\n***\ntwo", False),
        ({"num_paragraphs": 2}, "one******two", False),  # a blank one in the middle
    ),
    "length_constraints:number_words": (
        ({"num_words": 4, "relation": LEAST}, "I don't know", True),  # I don t know
        ({"num_words": 5, "relation": LEAST}, "I don't know", False),
        ({"num_words": 4, "relation": LESS}, "I do know", True),
    ),
    "length_constraints:nth_paragraph_first_word": (
        ({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"}, 'First.\n\n"Then, it ended.', True),
        ({"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "then"}, "First.\n\nThen it ended.", False),
        ({"num_paragraphs": 3, "nth_paragraph": 2, "first_word": "then"}, "First.\n\nThen it ended.", False),
        ({"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "then"}, "First.\n\nThen it ended.", False),
    ),
    "detectable_content:number_placeholders": (
        ({"num_placeholders": 2}, "Dear [name], at [place].", True),
        ({"num_placeholders": 3}, "Dear [name], at [place].", False),
    ),
    "detectable_content:postscript": (
        ({"postscript_marker": "P.S."}, "Bye.\nP. S. one more thing", True),
        ({"postscript_marker": "P.P.S"}, "Bye.\np.p.s one more thing", True),
        ({"postscript_marker": "P.S."}, "Bye. PS nothing", False),
    ),
    "detectable_format:number_bullet_lists": (
        ({"num_bullets": 2}, "* one\n- two", True),
        ({"num_bullets": 2}, "* one\n- two\n* three", False),
        ({"num_bullets": 1}, "**bold**\n* one", True),
    ),
    "detectable_format:constrained_response": (
        ({}, "My answer is maybe.", True),
        ({}, "Maybe.", False),
    ),
    "detectable_format:number_highlighted_sections": (
        ({"num_highlights": 2}, "*one* and **two**", True),
        ({"num_highlights": 2}, "*one* and ****", False),
    ),
    "detectable_format:multiple_sections": (
        ({"section_spliter": "Section", "num_sections": 2}, "Section 1\na\nSection 2\nb", True),
        ({"section_spliter": "Section", "num_sections": 3}, "Section 1\na\nSection 2\nb", False),
        ({"section_spliter": "Section", "num_sections": 1}, "Section one", False),
    ),
    "detectable_format:json_format": (
        ({}, '```json\n{"a": [1, 2]}\n```', True),
        ({}, "{a: 1}", False),
        ({}, 'Here: {"a": 1}', False),
    ),
    "detectable_format:title": (
        ({}, "<<On light>>\nIt is.", True),
        ({}, "<< >>\nIt is.", False),
        ({}, "<On light>", False),
    ),
    "combination:two_responses": (
        ({}, "One way.\n******\nAnother way.", True),
        ({}, "The same.******The same.", False),
        ({}, "a******b******c", False),
    ),
    "combination:repeat_prompt": (
        ({"prompt_to_repeat": "Write a poem."}, "write a poem. Roses...", True),
        ({"prompt_to_repeat": "Write a poem."}, "Sure! Write a poem.", False),
    ),
    "startend:end_checker": (
        ({"end_phrase": "Is that all?"}, 'Well. "Is that ALL?"', True),
        ({"end_phrase": "Is that all?"}, "Is that all? Yes.", False),
    ),
    "startend:quotation": (
        ({}, ' "All of it." ', True),
        ({}, '"', False),
        ({}, 'Not "all".', False),
    ),
    "change_case:capital_word_frequency": (
        ({"capital_frequency": 2, "capital_relation": LEAST}, "I saw NASA.", True),
        ({"capital_frequency": 3, "capital_relation": LEAST}, "I saw NASA.", False),
        ({"capital_frequency": 2, "capital_relation": LESS}, "He saw A-B tests", True),
    ),
    "change_case:english_capital": (
        ({}, "THIS IS WHAT IT IS, AND IT IS LOUD.", True),
        ({}, "This is loud.", False),
        ({}, "DAS IST EIN TAG UND ICH BIN NICHT DA.", False),
    ),
    "change_case:english_lowercase": (
        ({}, "this is what it is, and it is quiet.", True),
        ({}, "This is not.", False),
        ({}, "das ist ein tag und ich bin nicht da.", False),
    ),
    "punctuation:no_comma": (
        ({}, "No pause at all; none.", True),
        ({}, "Well, no.", False),
    ),
}


def test_every_published_kind_has_a_check_and_hand_worked_cases():
    assert set(CASES) == set(CHECKS)
    assert len(CHECKS) == 25
    for kind, cases in CASES.items():
        assert {expected for *_, expected in cases} == {True, False}, kind


@pytest.mark.parametrize(
    ("kind", "parameters", "reply", "expected"),
    [(kind, *case) for kind, cases in CASES.items() for case in cases],
)
def test_an_instruction_is_checked_as_worked_by_hand(kind, parameters, reply, expected):
    assert follows(kind, reply, parameters) is expected


@pytest.mark.parametrize("kind", sorted(CASES))
def test_a_blank_reply_follows_nothing(kind):
    assert not follows(kind, "  \n", CASES[kind][0][0])


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("keywords:frequency", {"keyword": "sea", "frequency": 2}),
        ("keywords:frequency", {"keyword": "sea", "frequency": 2, "relation": "exactly"}),
        ("keywords:existence", {"keywords": "sun"}),
        ("length_constraints:number_words", {"num_words": "many", "relation": LEAST}),
        ("keywords:letter_frequency", {"letter": "ab", "let_frequency": 1, "let_relation": LEAST}),
        ("poetry:rhyme", {}),
    ],
)
def test_what_cannot_be_checked_is_said_and_not_guessed(kind, parameters):
    with pytest.raises(InstructionError):
        follows(kind, "some reply", parameters)


def test_the_loose_score_forgives_first_line_last_line_and_asterisks():
    """Of "Sure!\n*a*\nBye" the readings are it, "*a*\nBye", "Sure!\n*a*", "*a*", and the four without asterisks."""
    assert set(loosened("Sure!\n*a*\nBye")) == {
        "Sure!\n*a*\nBye",
        "*a*\nBye",
        "Sure!\n*a*",
        "*a*",
        "Sure!\na\nBye",
        "a\nBye",
        "Sure!\na",
        "a",
    }
    json_only = Instruction("detectable_format:json_format", {})
    found = followed('Sure, here it is:\n{"a": 1}', [json_only])
    assert found == Followed((False,), (True,))


def test_rates_pool_instructions_over_prompts():
    """Strict: prompts 1 of 2; instructions 3 of 4. Loose: 2 of 2; 4 of 4. Their mean is (50 + 75 + 100 + 100) / 4."""
    replies = [Followed((True,), (True,)), Followed((True, True, False), (True, True, True))]
    assert rates(replies) == {
        "prompt_strict": 0.5,
        "instruction_strict": 0.75,
        "prompt_loose": 1.0,
        "instruction_loose": 1.0,
        "final": 0.8125,
    }
    assert rates([]) == {}


def test_parameters_of_other_kinds_are_left_out_and_a_zero_is_kept():
    (one,) = instructions_of(["keywords:frequency"], [{"keyword": "a", "frequency": 0, "num_words": None}])
    assert one.parameters == {"keyword": "a", "frequency": 0}
    with pytest.raises(InstructionError):
        instructions_of(["keywords:frequency"], [])


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Hello there. How are you? Fine!", 3),
        ("Dr. Smith of Washington, D.C. paid 3.5 dollars. Then he left.", 2),
        ("Wait... what? No.", 2),
        ('He said "Stop." Then he left.', 2),
        ("one\ntwo\nthree", 1),
        ("I met J. K. Rowling, e.g. at home.", 1),
        ("", 0),
        ("...", 0),
    ],
)
def test_sentences_are_counted(text, count):
    assert len(sentences_of(text)) == count


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The cat sat on the mat and it was happy.", "en"),
        ("Je ne sais pas ce que vous voulez dire.", "fr"),
        ("El perro está en la casa y no quiere salir.", "es"),
        ("O cachorro não está em casa hoje e eu também.", "pt"),
        ("Il cane è nella casa e non vuole uscire.", "it"),
        ("To jest dobry dzień i nie ma w tym nic złego", "pl"),
        ("Tôi không biết những người này là ai", "vi"),
        ("Hänellä on hyvä päivä ja hän ei ole kotona", "fi"),
        ("Hii ni habari nzuri kwa watu wa nchi ya Kenya", "sw"),
        ("Привет, мир", "ru"),
        ("Це добре, і я це знаю.", "uk"),
        ("Това е много добре", "bg"),
        ("هذا جيد جدا", "ar"),
        ("یہ بہت اچھا ہے", "ur"),
        ("این کتاب خیلی خوب است گ", "fa"),
        ("これは日本語です", "ja"),
        ("안녕하세요 여러분", "ko"),
        ("สวัสดีครับ", "th"),
        ("ಇದು ಕನ್ನಡ", "kn"),
        ("हे खूप छान आहे आणि मी आनंदी आहे", "mr"),
        ("यो धेरै राम्रो छ र म खुसी छु", "ne"),
        ("HELLO", None),
        ("123", None),
    ],
)
def test_languages_are_told_by_script_letters_and_frequent_words(text, language):
    assert language_of(text) == language
