"""ClosedTalk: a closed world of spoken questions; a rule checks the answers, measures the deliveries."""

from wavalign.closedtalk.deliveries import Delivery, Tone, fitting_delivery
from wavalign.closedtalk.dialogues import SPLITS, DialogueSpec, TurnSpec, dialogue_spec, signature
from wavalign.closedtalk.grading import grade, is_correct
from wavalign.closedtalk.lexicon import balanced_word_strings, lexicon
from wavalign.closedtalk.normalising import normalise_typed
from wavalign.closedtalk.understanding import Question, describe_world, understand, unknown_words
from wavalign.closedtalk.world import Item, all_items, answer, is_hard, is_unseen, item_of

__all__ = [
    "SPLITS",
    "Delivery",
    "DialogueSpec",
    "Item",
    "Question",
    "Tone",
    "TurnSpec",
    "all_items",
    "answer",
    "balanced_word_strings",
    "describe_world",
    "dialogue_spec",
    "fitting_delivery",
    "grade",
    "is_correct",
    "is_hard",
    "is_unseen",
    "item_of",
    "lexicon",
    "normalise_typed",
    "signature",
    "understand",
    "unknown_words",
]
