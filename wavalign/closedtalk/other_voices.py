"""User voices that are not espeak-ng's: flite, festival, and recorded human digits. Needed to build the data only.

Flite and the recorded digits of three people are for training and validation; festival and the fourth person are kept
for probes, so that what they show is how unheard kinds of voices are understood.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from wavalign.audio import Waveform, read
from wavalign.closedtalk.facts import NUMBERS

FLITE_VOICES = ("slt", "rms", "awb", "kal16", "kal")
#: This voice's recordings fix its pitch; flite ignores a shift.
FLITE_FIXED_PITCH = ("rms",)
FESTIVAL_VOICES = ("kal_diphone", "cmu_us_slt_arctic_hts")

DIGITS = NUMBERS[:10]
#: Never trained on: the person whose recordings are the human probe.
PROBE_SPEAKER = "yweweler"
HUMAN_SAMPLE_RATE = 8000
SPLICED_SAMPLE_RATE = 16000
CROSSFADE_SECONDS = 0.012
PAUSE_SECONDS = (0.0, 0.07)
# RMS of a digit when there is no carrier to match: about -23 dBFS, an ordinary speaking level.
LEVEL_ALONE = 0.07


class OtherVoiceError(RuntimeError):
    """A voice that cannot be had; the message is one sentence that says what to install or pass."""


def flite_speech(text: str, voice: str, duration_stretch: float = 1.0, f0_shift: float = 1.0) -> Waveform:
    """Speech of flite at the voice's own rate (16 kHz; ``kal`` 8 kHz).

    ``duration_stretch`` multiplies durations, ``f0_shift`` the pitch (1 for voices in ``FLITE_FIXED_PITCH``).

    Raises:
        OtherVoiceError: when flite is missing or fails, or does not know the voice or cannot shift its pitch.
    """
    if voice not in FLITE_VOICES:
        raise OtherVoiceError(f"Flite's voices here are {', '.join(FLITE_VOICES)}, not {voice!r}.")
    if voice in FLITE_FIXED_PITCH and f0_shift != 1:
        raise OtherVoiceError(f"Flite's voice {voice} has a fixed pitch; leave f0_shift at 1 instead of {f0_shift:g}.")
    program = _program("flite", "install flite")
    settings = ["--setf", f"duration_stretch={duration_stretch:.4f}", "--setf", f"f0_shift={f0_shift:.4f}"]
    return _spoken(lambda path: [program, "-voice", voice, *settings, "-t", text, "-o", str(path)], None)


def festival_speech(text: str, voice: str) -> Waveform:
    """Speech of festival at the voice's own rate (``kal_diphone`` 16 kHz, ``cmu_us_slt_arctic_hts`` 32 kHz).

    Raises:
        OtherVoiceError: when festival or the voice is missing, or festival fails.
    """
    if voice not in FESTIVAL_VOICES:
        raise OtherVoiceError(f"Festival's voices here are {', '.join(FESTIVAL_VOICES)}, not {voice!r}.")
    program = _program("text2wave", "install festival with festvox-kallpc16k and festvox-us-slt-hts")
    return _spoken(lambda path: [program, "-eval", f"(voice_{voice})", "-o", str(path)], text)


def _program(name: str, remedy: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise OtherVoiceError(f"The program {name} was not found; {remedy}, or build without these voices.")
    return path


def _spoken(command: Callable[[Path], list[str]], standard_input: str | None) -> Waveform:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        arguments = command(path)
        done = subprocess.run(arguments, input=standard_input, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not path.exists() or path.stat().st_size == 0:
            reason = (done.stderr.strip().splitlines() or ["it wrote no audio"])[-1]
            raise OtherVoiceError(f"{Path(arguments[0]).name} could not speak: {reason}")
        return read(path)


class HumanDigits:
    """Recordings of people saying zero to nine, in a folder of ``{digit}_{speaker}_{take}.wav`` files at 8 kHz.

    That is the layout of the Free Spoken Digit Dataset (CC BY-SA 4.0, github.com/Jakobovski/free-spoken-digit-dataset).
    ``training_speakers`` are all but ``PROBE_SPEAKER``.
    """

    _NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")

    def __init__(self, folder: str | Path) -> None:
        """
        Raises:
            OtherVoiceError: when the folder is missing, or some speaker lacks a digit.
        """
        self.folder = Path(folder)
        self._takes: dict[str, dict[str, list[Path]]] = {}
        for path in sorted(self.folder.rglob("*.wav")) if self.folder.is_dir() else ():
            if match := self._NAME.fullmatch(path.name):
                digit, speaker, _ = match.groups()
                self._takes.setdefault(speaker, {}).setdefault(DIGITS[int(digit)], []).append(path)
        if not self._takes:
            raise OtherVoiceError(
                f"{self.folder} holds no recordings named like 7_george_0.wav; pass the folder of the spoken digits."
            )
        for speaker, takes in self._takes.items():
            if missing := [digit for digit in DIGITS if digit not in takes]:
                raise OtherVoiceError(f"The recordings of {speaker} in {self.folder} lack {', '.join(missing)}.")
        self.speakers = tuple(sorted(self._takes))
        self.training_speakers = tuple(speaker for speaker in self.speakers if speaker != PROBE_SPEAKER)

    def say(self, digit: str, speaker: str, rng: random.Random) -> Waveform:
        """One take of a digit word, 16 kHz.

        Raises:
            OtherVoiceError: for a speaker or a word that was not recorded.
        """
        if speaker not in self._takes:
            raise OtherVoiceError(f"There is no speaker {speaker!r}; the speakers are {', '.join(self.speakers)}.")
        if digit not in self._takes[speaker]:
            raise OtherVoiceError(f"Only the words zero to nine were recorded, not {digit!r}.")
        return _read_digit(rng.choice(self._takes[speaker][digit]))

    def splice(
        self, text: str, carrier_speech: Callable[[str], Waveform], speaker: str, rng: random.Random
    ) -> Waveform:
        """A sentence at 16 kHz whose digit words are the speaker's and whose other words are the carrier's.

        Everything is limited to the recordings' 4 kHz band; each digit has the carrier's level, and the parts meet in
        short crossfades after a pause of up to 70 ms.
        """
        runs = _runs(text)
        carriers = {run: _telephone_band(carrier_speech(run)) for run, is_digit in runs if not is_digit}
        level = _level(np.concatenate([_without_margins(c) for c in carriers.values()])) if carriers else LEVEL_ALONE
        parts = []
        for run, is_digit in runs:
            if is_digit:
                samples = self.say(run, speaker, rng).samples
                parts.append(samples * (level / max(_level(samples), 1e-4)))
            else:
                parts.append(_without_margins(carriers[run]))
        return Waveform(_joined(parts, rng), SPLICED_SAMPLE_RATE)


@cache
def _read_digit(path: Path) -> Waveform:
    recording = read(path)
    centred = Waveform(recording.samples - recording.samples.mean(), recording.sample_rate)
    return Waveform(_without_margins(centred.resampled(SPLICED_SAMPLE_RATE).samples), SPLICED_SAMPLE_RATE)


def _runs(text: str) -> list[tuple[str, bool]]:
    """The text as digit words, each alone (True), and runs of other words (False)."""
    runs: list[tuple[str, bool]] = []
    for word in text.split():
        if word in DIGITS:
            runs.append((word, True))
        elif runs and not runs[-1][1]:
            runs[-1] = (f"{runs[-1][0]} {word}", False)
        else:
            runs.append((word, False))
    return runs


def _telephone_band(waveform: Waveform) -> np.ndarray:
    return waveform.resampled(HUMAN_SAMPLE_RATE).resampled(SPLICED_SAMPLE_RATE).samples


def _without_margins(samples: np.ndarray, margin_seconds: float = 0.015) -> np.ndarray:
    """Samples (n,) at 16 kHz without what is below 2 % of the peak at both ends, but for a short margin."""
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max(initial=1e-6))
    if len(loud) == 0:
        return samples
    margin = int(margin_seconds * SPLICED_SAMPLE_RATE)
    return samples[max(loud[0] - margin, 0) : loud[-1] + margin]


def _level(samples: np.ndarray) -> float:
    """RMS of the louder half of 20 ms frames, so that pauses inside do not count."""
    frame = SPLICED_SAMPLE_RATE // 50
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    if len(frames) == 0:
        return float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0
    power = np.sort(np.mean(np.square(frames), axis=1))
    return float(np.sqrt(power[len(power) // 2 :].mean()))


def _joined(parts: list[np.ndarray], rng: random.Random) -> np.ndarray:
    """The parts one after the other, faded at every seam, with short random pauses between."""
    fade = int(CROSSFADE_SECONDS * SPLICED_SAMPLE_RATE)
    whole = np.zeros(0, dtype=np.float32)
    for part in parts:
        part = _faded(part, fade)
        if len(whole) == 0:
            whole = part
            continue
        # The overlap of the two fades is the crossfade; the pause pushes them apart.
        start = max(len(whole) - fade + int(rng.uniform(*PAUSE_SECONDS) * SPLICED_SAMPLE_RATE), 0)
        longer = np.zeros(max(start + len(part), len(whole)), dtype=np.float32)
        longer[: len(whole)] += whole
        longer[start : start + len(part)] += part
        whole = longer
    return whole


def _faded(samples: np.ndarray, fade: int) -> np.ndarray:
    fade = min(fade, len(samples) // 2)
    ramp = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32)) ** 2
    faded = samples.astype(np.float32, copy=True)
    faded[:fade] *= ramp
    faded[len(faded) - fade :] *= ramp[::-1]
    return faded
