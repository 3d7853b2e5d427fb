"""Speech by espeak-ng, through the library of the ``espeakng-loader`` wheel. Builds data and serves tests only.

The library is driven through ctypes: no process per utterance (about 10 ms each), and the pitch range is reachable.
It keeps state between utterances (flutter and wave phase run on), so it is loaded afresh for each one: speech is a pure
function of text and setting, which is what lets a small language model learn its tokens.
"""

from __future__ import annotations

import _ctypes
import ctypes
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wavalign.audio import Waveform
from wavalign.closedtalk.deliveries import Delivery, Tone

SAMPLE_RATE = 16_000
SAMPLES_PER_TOKEN = 640

ASSISTANT_VOICE = "en-us+m3"

_SYNCHRONOUS = 2
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_UTF8 = 1


class SynthesisError(RuntimeError):
    """The synthesiser is missing or refused; the message says which and what to do."""


@dataclass(frozen=True)
class VoiceSetting:
    """espeak-ng's knobs: ``rate`` in words a minute, ``pitch``, ``pitch_range`` 0-100, ``volume`` 0-200."""

    voice: str
    rate: int
    pitch: int
    pitch_range: int
    volume: int


#: The one assistant voice in its five deliveries.
ASSISTANT_SETTINGS: dict[Delivery, VoiceSetting] = {
    Delivery.NEUTRAL: VoiceSetting(ASSISTANT_VOICE, 165, 42, 50, 90),
    Delivery.HAPPY: VoiceSetting(ASSISTANT_VOICE, 185, 68, 80, 115),
    Delivery.SAD: VoiceSetting(ASSISTANT_VOICE, 125, 22, 15, 50),
    Delivery.EXCITED: VoiceSetting(ASSISTANT_VOICE, 220, 92, 95, 150),
    Delivery.CALM: VoiceSetting(ASSISTANT_VOICE, 140, 48, 15, 70),
}

#: How a user's tone moves rate (words a minute) and pitch: disjoint ranges, so that a tone can be told.
TONE_RANGES: dict[Tone, dict[str, tuple[int, int]]] = {
    Tone.PLAIN: {"rate": (145, 185), "pitch": (38, 62), "pitch_range": (35, 65), "volume": (75, 115)},
    Tone.SLOW_LOW: {"rate": (92, 115), "pitch": (8, 24), "pitch_range": (5, 25), "volume": (50, 85)},
    Tone.FAST_HIGH: {"rate": (225, 265), "pitch": (76, 97), "pitch_range": (70, 99), "volume": (100, 140)},
}


class _Espeak:
    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise SynthesisError(
                "espeak-ng is not installed; synthesis needs it only for building data: pip install espeakng-loader."
            ) from error
        self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        data = str(Path(espeakng_loader.get_data_path()).parent)
        self.sample_rate = self._lib.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), 0)
        if self.sample_rate <= 0:
            raise SynthesisError(f"espeak-ng could not start with its data in {data}; reinstall espeakng-loader.")
        self._pieces: list[np.ndarray] = []
        callback_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = callback_type(self._collect)
        self._lib.espeak_SetSynthCallback(self._callback)

    def close(self) -> None:
        """Unloads the library; only that clears its state."""
        self._lib.espeak_Terminate()
        _ctypes.dlclose(self._lib._handle)

    def _collect(self, samples, count: int, _events) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, shape=(count,)).astype(np.float32) / 32768.0)
        return 0

    def speak(self, text: str, setting: VoiceSetting) -> np.ndarray:
        if self._lib.espeak_SetVoiceByName(setting.voice.encode()) != 0:
            raise SynthesisError(f"espeak-ng has no voice named {setting.voice!r}.")
        for parameter, value in (
            (_RATE, setting.rate),
            (_VOLUME, setting.volume),
            (_PITCH, setting.pitch),
            (_RANGE, setting.pitch_range),
        ):
            self._lib.espeak_SetParameter(parameter, int(value), 0)
        self._pieces = []
        encoded = text.encode()
        status = self._lib.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
        if status != 0 or not self._pieces:
            raise SynthesisError(f"espeak-ng could not speak {text!r} (status {status}).")
        return np.concatenate(self._pieces)


_lock = threading.Lock()


def speak(text: str, setting: VoiceSetting) -> Waveform:
    """Text in one voice at espeak-ng's own rate (22 050 Hz), untrimmed. The same arguments give the same samples.

    Raises:
        SynthesisError: when the library is missing or the voice unknown.
    """
    with _lock:
        espeak = _Espeak()
        try:
            return Waveform(espeak.speak(text, setting), espeak.sample_rate)
        finally:
            espeak.close()


def trimmed(waveform: Waveform, lead_seconds: float = 0.025, tail_seconds: float = 0.05) -> Waveform:
    """Cuts the silence around speech, keeping small margins."""
    loud = np.flatnonzero(np.abs(waveform.samples) > 0.003)
    if not len(loud):
        return waveform
    start = max(0, loud[0] - int(lead_seconds * waveform.sample_rate))
    stop = loud[-1] + int(tail_seconds * waveform.sample_rate)
    return Waveform(waveform.samples[start:stop], waveform.sample_rate)


def padded_to_tokens(waveform: Waveform, samples_per_token: int = SAMPLES_PER_TOKEN) -> Waveform:
    missing = -len(waveform.samples) % samples_per_token
    return Waveform(np.pad(waveform.samples, (0, missing)), waveform.sample_rate)


def speak_assistant(text: str, delivery: Delivery) -> Waveform:
    """The reference rendering: the assistant's voice at 16 kHz, deterministic, a whole number of speech tokens long."""
    spoken = trimmed(speak(text, ASSISTANT_SETTINGS[delivery]).resampled(SAMPLE_RATE))
    return padded_to_tokens(spoken)
