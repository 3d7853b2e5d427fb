"""Who speaks to the model: a voice for every dialogue, and its turns as a microphone delivers them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wavalign.audio import Waveform
from wavalign.closedtalk import augment, other_voices, synthesis
from wavalign.closedtalk.deliveries import Tone
from wavalign.closedtalk.synthesis import SAMPLE_RATE, TONE_RANGES, VoiceSetting

# fmt: off
_TRAIN_VARIANTS = [
    "m1", "m2", "m4", "m5", "m6", "m8", "f1", "f2", "f3", "f4", "Alex", "Alicia", "Annie", "Andy", "Denis",
    "Gene", "Lee", "Michael", "Mike", "adam", "anika", "antonio", "aunty", "belinda", "benjamin", "boris",
    "caleb", "david", "ed", "grandma", "ian", "iven", "john", "linda", "marcelo", "max", "michel", "norbert",
    "pablo", "paul", "quincy", "rob", "robert", "sandro", "shelby", "steph2", "travis", "victor", "zac",
    "klatt", "klatt2", "klatt3",
]
_TRAIN_ACCENTS = [
    "en-us", "en-us", "en-us", "en", "en", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-gb-x-gbclan",
    "en-us-nyc",
]
# fmt: on
#: Variants and combinations that no training clip uses.
_HELD_OUT_VARIANTS = [
    "m7",
    "f5",
    "Andrea",
    "edward",
    "steph",
    "Hugo",
]
_HELD_OUT_ACCENTS = [
    "en-us",
    "en-gb-x-rp",
]

TRAIN_VOICES = tuple(f"{accent}+{variant}" for accent in sorted(set(_TRAIN_ACCENTS)) for variant in _TRAIN_VARIANTS)
HELD_OUT_VOICES = tuple(f"{accent}+{variant}" for accent in _HELD_OUT_ACCENTS for variant in _HELD_OUT_VARIANTS)

#: Shares of training dialogues by source; what is not named is espeak-ng's.
FLITE_SHARE = 0.10
HUMAN_SHARE = 0.35
DIGITS = frozenset(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
FLITE_VOICES = ("slt", "rms", "awb", "kal16")


@dataclass(frozen=True)
class Speaker:
    """``source``: espeak, flite, festival or human; ``voice`` within it; ``formant``: vocal-tract factor."""

    source: str
    voice: str
    formant: float
    seed: int


def pick_speaker(
    voice_seed: int, unseen: bool, texts: Sequence[str], human: bool, flite: bool, plain: bool = True
) -> Speaker:
    """The voice of a dialogue: a pure function of its arguments.

    A human speaker needs at least one digit word in the first turn; flite speaks only plain tones, which is all it can.
    """
    rng = random.Random(voice_seed)
    draw, formant = rng.random(), rng.uniform(0.9, 1.13)
    if unseen:
        return Speaker("espeak", rng.choice(HELD_OUT_VOICES), rng.uniform(0.95, 1.06), voice_seed)
    variant, accent = rng.choice(_TRAIN_VARIANTS), rng.choice(_TRAIN_ACCENTS)
    if plain and flite and draw < FLITE_SHARE:
        return Speaker("flite", rng.choice(FLITE_VOICES), formant, voice_seed)
    if human and draw > 1 - HUMAN_SHARE and DIGITS & set(texts[0].split()):
        return Speaker("human", f"{accent}+{variant}", formant, voice_seed)
    return Speaker("espeak", f"{accent}+{variant}", formant, voice_seed)


def espeak_setting(voice: str, tone: Tone, formant: float, rng: random.Random) -> VoiceSetting:
    """Settings of a tone, with the rate corrected for the formant shift that follows."""
    ranges = TONE_RANGES[tone]
    drawn = {name: rng.randint(low, high) for name, (low, high) in ranges.items()}
    return VoiceSetting(voice, int(drawn["rate"] / formant), drawn["pitch"], drawn["pitch_range"], drawn["volume"])


class UserStudio:
    """Renders user turns. ``human_folder``: the digits recordings, or None to do without."""

    def __init__(self, human_folder: Path | None = None, flite: bool = True) -> None:
        self.human = other_voices.HumanDigits(human_folder) if human_folder else None
        self.flite = flite

    def speaker(self, voice_seed: int, unseen: bool, texts: Sequence[str], plain: bool) -> Speaker:
        return pick_speaker(voice_seed, unseen, texts, self.human is not None, self.flite, plain)

    def clean(self, text: str, tone: Tone, speaker: Speaker, turn: int) -> Waveform:
        """One turn at 16 kHz, with silent margins, before the room and the microphone."""
        spoken = synthesis.trimmed(self._spoken(text, tone, speaker, turn))
        return augment.with_margins(spoken, np.random.default_rng([speaker.seed & 0xFFFFFFFF, turn, 1]))

    def _spoken(self, text: str, tone: Tone, speaker: Speaker, turn: int) -> Waveform:
        rng = random.Random(f"{speaker.seed}/{turn}")
        setting = espeak_setting(speaker.voice, tone, speaker.formant, rng)
        if speaker.source == "flite":
            stretch = rng.uniform(0.85, 1.2)
            spoken = other_voices.flite_speech(text, speaker.voice, duration_stretch=stretch)
        elif speaker.source == "festival":
            spoken = other_voices.festival_speech(text, speaker.voice)
        elif speaker.source == "human" and self.human is not None:
            name = self.human.training_speakers[speaker.seed % len(self.human.training_speakers)]
            return self.human.splice(text, lambda words: synthesis.speak(words, setting), name, rng).resampled(
                SAMPLE_RATE
            )
        else:
            spoken = synthesis.speak(text, setting)
        return augment.shift_formants(spoken, speaker.formant).resampled(SAMPLE_RATE)

    def recorded(self, clean: Waveform, speaker: Speaker, turn: int) -> Waveform:
        """The turn as the microphone delivers it."""
        return augment.through_microphone(clean, np.random.default_rng([speaker.seed & 0xFFFFFFFF, turn]))
