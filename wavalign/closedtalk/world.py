"""The items of ClosedTalk: every question that has an answer, which ones are hard, and which are never trained on."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import cache

from wavalign.closedtalk.families import FAMILIES, Family, Slots

# Share of the items, per family, whose demonstrations are mostly and systematically wrong. Purely random errors leave
# the right answer the most frequent one, so that greedy decoding would have nothing left to learn from rollouts;
# all-systematic errors would leave it nothing to find by sampling.
HARD_SHARE = 0.35
HARD_SEED = 35
# Unordered pairs whose every order is left out of all dialogues but the probe's: seven plus five would give away five
# plus seven.
UNSEEN_PAIRS = {"add": 3, "subtract": 4, "bigger": 2}
UNSEEN_SEED = 10


@dataclass(frozen=True)
class Item:
    """One question with one right answer: family name, the words in its slots, the answer's key."""

    family: str
    slots: Slots
    key: str

    @property
    def id(self) -> str:
        return "/".join((self.family, *self.slots))


def stable_seed(*parts: object) -> int:
    """A 64-bit seed that depends on the parts only: the same in every process and on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def family_of(item: Item) -> Family:
    return FAMILIES[item.family]


def answer(item: Item) -> str:
    """The right reply."""
    return family_of(item).sentence(item.slots, item.key)


def wrong_keys(item: Item) -> tuple[str, ...]:
    """Plausible wrong keys, at least one, never the right one."""
    return family_of(item).wrong_keys(item.slots, item.key)


@cache
def family_items(name: str) -> tuple[Item, ...]:
    return tuple(Item(name, slots, key) for slots, key in FAMILIES[name].facts)


@cache
def all_items() -> tuple[Item, ...]:
    return tuple(item for name in FAMILIES for item in family_items(name))


@cache
def _by_id() -> dict[str, Item]:
    return {item.id: item for item in all_items()}


def item_of(item_id: str) -> Item:
    """The item with this id, such as ``add/seven/five``.

    Raises:
        KeyError: when there is none.
    """
    if item_id not in _by_id():
        raise KeyError(f"ClosedTalk has no item {item_id!r}; ids look like 'add/seven/five'.")
    return _by_id()[item_id]


def find(family: str, slots: Slots) -> Item | None:
    return _by_id().get("/".join((family, *slots)))


@cache
def _unseen() -> frozenset[Item]:
    chosen: set[Item] = set()
    for name, count in UNSEEN_PAIRS.items():
        pairs = sorted({tuple(sorted(item.slots)) for item in family_items(name) if len(set(item.slots)) == 2})
        left_out = set(random.Random(stable_seed("unseen", UNSEEN_SEED, name)).sample(pairs, count))
        chosen.update(item for item in family_items(name) if tuple(sorted(item.slots)) in left_out)
    return frozenset(chosen)


def is_unseen(item: Item) -> bool:
    """Whether the item belongs to the probe of unseen combinations."""
    return item in _unseen()


@cache
def learnable_items(name: str) -> tuple[Item, ...]:
    return tuple(item for item in family_items(name) if not is_unseen(item))


@cache
def unseen_items(name: str) -> tuple[Item, ...]:
    return tuple(item for item in family_items(name) if is_unseen(item))


@cache
def _hard() -> frozenset[Item]:
    chosen: set[Item] = set()
    for name in FAMILIES:
        items = family_items(name)
        rng = random.Random(stable_seed("hard", HARD_SEED, name))
        chosen.update(rng.sample(items, round(HARD_SHARE * len(items))))
    return frozenset(chosen)


def is_hard(item: Item) -> bool:
    """Whether most demonstrations of the item are wrong, half of them always in the same way."""
    return item in _hard()


@cache
def habitual_wrong_key(item: Item) -> str:
    """The one wrong key that the demonstrations of a hard item keep repeating."""
    return random.Random(stable_seed("habit", HARD_SEED, item.id)).choice(wrong_keys(item))
