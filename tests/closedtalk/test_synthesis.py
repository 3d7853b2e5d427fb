import numpy as np
import pytest

from wavalign.closedtalk.deliveries import Delivery

pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel builds the data")

from wavalign.closedtalk.synthesis import (
    ASSISTANT_SETTINGS,
    SAMPLES_PER_TOKEN,
    SynthesisError,
    VoiceSetting,
    speak,
    speak_assistant,
)
from wavalign.metrics.measures import measure


def test_the_same_words_sound_the_same_whatever_was_said_before() -> None:
    first = speak_assistant("seven plus five is twelve", Delivery.HAPPY)
    speak("hello there", VoiceSetting("en-us+klatt", 200, 80, 80, 100))
    again = speak_assistant("seven plus five is twelve", Delivery.HAPPY)
    assert np.array_equal(first.samples, again.samples)


def test_a_reply_is_a_whole_number_of_tokens_long() -> None:
    spoken = speak_assistant("the cow says moo", Delivery.SAD)
    assert spoken.sample_rate == 16_000
    assert len(spoken.samples) % SAMPLES_PER_TOKEN == 0


def test_excited_is_higher_faster_and_louder_than_sad() -> None:
    text = "the capital of france is paris"
    excited, sad = (measure(speak_assistant(text, d), text) for d in (Delivery.EXCITED, Delivery.SAD))
    assert excited.f0_median_hz > 1.5 * sad.f0_median_hz
    assert excited.letters_per_second > 1.3 * sad.letters_per_second
    assert excited.energy_db > sad.energy_db + 6


def test_an_unknown_voice_is_one_sentence() -> None:
    with pytest.raises(SynthesisError, match="no voice named"):
        speak("hello", VoiceSetting("xx-nowhere", 165, 50, 50, 90))
    assert len(ASSISTANT_SETTINGS) == len(Delivery)
