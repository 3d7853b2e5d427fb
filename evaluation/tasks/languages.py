"""Which of IFEval's thirty languages a text is in: by its script, then by letters and frequent words.

Made for whole replies that are supposed to be in one language: of short or mixed texts it can be wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_SCRIPTS = {
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "THAI": "th",
    "HEBREW": "he",
    "BENGALI": "bn",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "MALAYALAM": "ml",
    "CJK": "zh",
    "GREEK": "el",
}
"""Scripts (the first word of a letter's Unicode name) that name their language."""

_LETTERS = {
    "ARABIC": (("ur", "ٹڈڑںےہھ"), ("fa", "پچژگیک")),
    "CYRILLIC": (("uk", "іїєґ"), ("ru", "ыэё")),
}
"""Letters that only one of a script's languages has, in the order in which they are looked for."""
_OTHERWISE = {"ARABIC": "ar", "CYRILLIC": "ru"}
_BULGARIAN = frozenset({"е", "са", "че", "ще", "това", "със", "съм"})

_WORDS = {
    "LATIN": {
        "en": (
            "the of and to in is that it for was on are with as at be this have from or had by not but what "
            "all were when we there can an your which their if do will how about i you he she my no so out up "
            "they"
        ),
        "es": (
            "de la que el en y los se del las un por con no una su para es al lo como más pero sus le ya o "
            "este sí porque esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos "
            "está"
        ),
        "pt": (
            "de que o a e do da em um para com não uma os no se na por mais as dos como mas ao ele das à seu "
            "sua ou quando muito nos já eu também só pelo pela até isso ela entre depois sem você são"
        ),
        "fr": (
            "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont "
            "avec mais nous vous ou être cette je tu elle ils c'est aux comme son sa ses très bien l'on été"
        ),
        "de": (
            "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an "
            "werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über so zum war haben "
            "nur oder ich du"
        ),
        "it": (
            "di che e la il un a per in una mi sono non ho lo ma ti le ha si con i da della del gli nel alla "
            "più come anche io questo questa dei delle è ci perché se al quando molto loro essere"
        ),
        "pl": (
            "w i na z do nie się że jest to o a jak po ale od za co ze dla czy przez już tak być tego tym "
            "jego ich może oraz przy był jej pod są który które kiedy bardzo"
        ),
        "vi": (
            "và của là có cho không một được trong các với những người này để đã từ khi tôi bạn sẽ cũng như "
            "về ra vào hay rất"
        ),
        "fi": (
            "ja on ei että se oli hän mutta ovat kun tai joka myös olen minä sinä tämä sen niin kuin jos vain "
            "voi ole nyt mitä hänen he sitä siitä minun kanssa hyvin jotka"
        ),
        "sw": (
            "na ya wa kwa ni katika za la kuwa hii hiyo cha yake kama lakini au pia watu ili sana huo huu "
            "hizi hivyo ambao ambayo wake yangu mimi wewe sisi"
        ),
        "nl": (
            "de het een en van ik te dat die in is niet je zijn op aan met voor er maar om hem dan ook als wat nog bij"
        ),
        "sv": "och att det som en på är av för med till den har de inte om ett han men var jag sig från vi",
    },
    "DEVANAGARI": {
        "hi": "है हैं के का की में से और को पर यह नहीं कर था हो ही भी ने",
        "mr": "आहे आणि आहेत या ते ही आहेस मला नाही किंवा होते मी हे काय",
        "ne": "छ र मा को छन् थियो पनि हो लागि गर्न म हुन्छ यो तपाईं",
    },
}
"""Frequent words by script and language; Dutch and Swedish are there so that they are not taken for another one."""


def language_of(text: str) -> str | None:
    """ISO 639-1 code; None where no letters are there, or no word tells a script's languages apart."""
    scripts = Counter(_script(letter) for letter in text if letter.isalpha())
    if scripts["HIRAGANA"] or scripts["KATAKANA"]:
        scripts["HIRAGANA"] += scripts.pop("CJK", 0)
    if not scripts:
        return None
    script = scripts.most_common(1)[0][0]
    if script in _SCRIPTS:
        return _SCRIPTS[script]
    if script in _LETTERS:
        return _by_letters(text.lower(), script)
    return _by_words(text.lower(), script)


def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split()[0]


def _by_letters(text: str, script: str) -> str:
    for language, letters in _LETTERS[script]:
        if any(letter in text for letter in letters):
            return language
    if script == "CYRILLIC" and _BULGARIAN & set(re.findall(r"\w+", text)):
        return "bg"
    return _OTHERWISE[script]


def _by_words(text: str, script: str) -> str | None:
    words = Counter(re.findall(r"[^\s.,;:!?\"()\[\]*“”।]+", text))
    hits = {
        language: sum(words[word] for word in frequent.split()) for language, frequent in _WORDS.get(script, {}).items()
    }
    best = max(hits.values(), default=0)
    leaders = [language for language, count in hits.items() if count == best]
    return leaders[0] if best and len(leaders) == 1 else None
