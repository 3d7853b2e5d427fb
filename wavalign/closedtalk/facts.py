"""The facts of ClosedTalk: what is true in the closed world, in its own lower-case words."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NUMBERS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
DAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
MONTHS = _words("january february march april may june july august september october november december")

CAPITALS = {
    "france": "paris",
    "spain": "madrid",
    "italy": "rome",
    "germany": "berlin",
    "england": "london",
    "greece": "athens",
    "japan": "tokyo",
    "china": "beijing",
    "russia": "moscow",
    "egypt": "cairo",
    "poland": "warsaw",
    "ireland": "dublin",
    "norway": "oslo",
    "portugal": "lisbon",
}
OPPOSITE_PAIRS = (
    ("hot", "cold"),
    ("big", "small"),
    ("fast", "slow"),
    ("up", "down"),
    ("old", "young"),
    ("good", "bad"),
    ("light", "dark"),
    ("high", "low"),
    ("open", "closed"),
    ("wet", "dry"),
    ("hard", "soft"),
    ("early", "late"),
)
SOUNDS = {
    "cow": "moo",
    "dog": "woof",
    "cat": "meow",
    "duck": "quack",
    "sheep": "baa",
    "horse": "neigh",
    "pig": "oink",
    "lion": "roar",
    "bird": "tweet",
    "mouse": "squeak",
}
COLOURS = {
    "grass": "green",
    "sky": "blue",
    "snow": "white",
    "sun": "yellow",
    "blood": "red",
    "coal": "black",
    "chocolate": "brown",
    "carrot": "orange",
    "tomato": "red",
    "elephant": "grey",
}
LEGS = {
    "spider": "eight",
    "dog": "four",
    "cat": "four",
    "duck": "two",
    "ant": "six",
    "horse": "four",
    "bee": "six",
    "bird": "two",
    "crab": "ten",
    "snake": "zero",
}
LETTERS = {
    "cat": "three",
    "ant": "three",
    "bee": "three",
    "duck": "four",
    "lion": "four",
    "snow": "four",
    "horse": "five",
    "sheep": "five",
    "spider": "six",
    "yellow": "six",
    "elephant": "eight",
    "chocolate": "nine",
}
SIDES = {
    "triangle": "three",
    "square": "four",
    "rectangle": "four",
    "pentagon": "five",
    "hexagon": "six",
    "octagon": "eight",
}
BABIES = {
    "dog": "puppy",
    "cat": "kitten",
    "cow": "calf",
    "sheep": "lamb",
    "duck": "duckling",
    "horse": "foal",
    "pig": "piglet",
    "lion": "cub",
}
SMALLER_PAIRS = ((1, 4), (2, 7), (3, 8), (5, 9), (6, 8), (4, 6))

# For each: the reply, training phrasings, held-out phrasings.
MANNERS = {
    "hello": ("hello nice to meet you", ("hello", "hello there", "hi there"), ("hi",)),
    "goodbye": ("goodbye see you soon", ("goodbye", "bye", "see you soon"), ("bye see you",)),
    "thanks": ("you are very welcome", ("thank you", "thanks", "thank you very much"), ("thanks very much",)),
    "name": ("i am a talking machine", ("who are you", "what are you", "what is your name"), ("what are you called",)),
    "health": ("i am very well", ("how are you", "are you well", "how do you do"), ("how well are you",)),
}
