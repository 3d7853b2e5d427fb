"""Speech as it comes from a service: base64 in pieces, raw samples or any container, at whatever rate."""

from __future__ import annotations

import base64
import binascii
import struct

import numpy as np
import soxr

from wavalign import audio
from wavalign.audio import AudioError, Waveform
from wavalign.models.protocol import GenerationError

_RATES = range(4_000, 192_001)
_HEADER = 4096
"""Bytes within which a wav file's samples begin."""
_COMPRESSED = {b"ID3": "mp3", b"OggS": "ogg", b"fLaC": "flac"}
_LARGEST = 64 * 2**20
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


class ReplyError(GenerationError):
    """An answer that cannot be used; the message is one sentence without the checkpoint's name."""


class SpeechDecoder:
    """Takes pieces of base64, gives waveforms at ``sample_rate``.

    Told by its first bytes, the speech is a wav file (whole, without an end, or a new file in every piece), a file of
    another kind (decoded when it is whole), or raw 16-bit samples. Every piece may be base64 of its own, or one text
    cut anywhere.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._text = ""
        self._bytes = b""
        self._size = 0
        self._kind = ""
        self._rate = sample_rate
        self._format: tuple[int, int, int] = (_PCM, 1, 16)  # tag, channels, bits of a sample
        self._resampler: soxr.ResampleStream | None = None
        self._resampled_from = sample_rate

    def add(self, data: str, rate: int | None = None) -> Waveform | None:
        """One more piece; ``rate`` is what the service says of raw samples. None when no sample is whole yet.

        Raises:
            ReplyError: when it is not base64, not audio, or has a rate that cannot be.
        """
        raw = self._decoded(data)
        self._size += len(raw)
        if self._size > _LARGEST:
            raise ReplyError("The service sent more speech than can be a reply.")
        if raw[:4] == b"RIFF" and self._kind in ("", "wav"):
            self._kind, self._bytes = "wav head", raw
        elif not self._kind:
            self._bytes += raw
            if len(self._bytes) < 4:
                return None
            self._kind = self._sniffed(self._bytes)
        else:
            self._bytes += raw
        if rate is not None and self._kind == "pcm":
            self._rate = _checked(rate)
        if self._kind == "wav head" and not self._read_head():
            return None
        if self._kind not in ("pcm", "wav"):
            return None
        return self._taken(last=False)

    def end(self) -> Waveform | None:
        """What is left when the reply is whole.

        Raises:
            ReplyError: when a file is broken off, or cannot be read.
        """
        if self._text:
            raise ReplyError("The service sent speech that is not base64.")
        if self._kind == "wav head" and not self._read_head():
            raise ReplyError("The service sent a wav file that breaks off in its header.")
        if self._kind in ("", "pcm", "wav"):
            return self._taken(last=True)
        try:
            whole = audio.read(self._bytes)
        except AudioError as error:
            raise ReplyError(f"The service sent speech as {self._kind} that cannot be read.") from error
        return whole.resampled(self.sample_rate)

    def _decoded(self, data: str) -> bytes:
        """Bytes of all whole groups of four characters; the rest waits for the next piece."""
        self._text += "".join(data.split())
        whole = len(self._text) - len(self._text) % 4
        groups, self._text = self._text[:whole], self._text[whole:]
        try:
            return base64.b64decode(groups, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ReplyError("The service sent speech that is not base64.") from error

    @staticmethod
    def _sniffed(start: bytes) -> str:
        if start[:4] == b"RIFF":
            return "wav head"
        for mark, kind in _COMPRESSED.items():
            if start.startswith(mark):
                return kind
        if start[0] == 0xFF and start[1] & 0xE6 == 0xE2:  # an MPEG frame of layer 3 without tags
            return "mp3"
        return "pcm"

    def _read_head(self) -> bool:
        """Reads up to the first sample of a wav file; False when more bytes are needed."""
        data, at = self._bytes, 12
        known = None
        if len(data) >= 12 and data[8:12] != b"WAVE":
            raise ReplyError("The service sent speech as a RIFF file that is not wav.")
        while at + 8 <= len(data):
            name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
            if name == b"fmt ":
                if at + 8 + 16 > len(data):
                    return False
                tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at + 8)
                if tag == _EXTENSIBLE and size >= 26:
                    if at + 8 + 26 > len(data):
                        return False
                    tag = struct.unpack_from("<H", data, at + 8 + 24)[0]
                known = (tag, channels, bits, rate)
            if name == b"data":
                if known is None:
                    raise ReplyError("The service sent a wav file without a format.")
                tag, channels, bits, rate = known
                if not channels or (tag, bits) not in ((_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32)):
                    raise ReplyError(f"The service sent wav samples of a kind ({tag}, {bits} bit) unknown here.")
                self._rate, self._format = _checked(rate), (tag, channels, bits)
                self._kind, self._bytes = "wav", data[at + 8 :]
                return True
            at += 8 + size + size % 2
            if at > _HEADER:
                break
        if len(data) > _HEADER:
            raise ReplyError("The service sent a wav file without samples.")
        return False

    def _taken(self, last: bool) -> Waveform | None:
        """All whole samples among the bytes, at ``sample_rate``."""
        tag, channels, bits = self._format
        frame = channels * bits // 8
        whole = len(self._bytes) - len(self._bytes) % frame
        data, self._bytes = self._bytes[:whole], self._bytes[whole:]
        samples = _samples(data, tag, bits)
        if channels > 1:
            samples = samples.reshape(-1, channels).mean(axis=1)
        parts = []
        if self._resampler is not None and (last or self._rate != self._resampled_from):
            same = self._rate == self._resampled_from
            parts.append(self._resampler.resample_chunk(samples if same else samples[:0], last=True))
            self._resampler = None
            samples = samples[:0] if same else samples
        if len(samples) and self._rate != self.sample_rate:
            if self._resampler is None:
                self._resampler = soxr.ResampleStream(self._rate, self.sample_rate, 1, dtype="float32")
                self._resampled_from = self._rate
            samples = self._resampler.resample_chunk(samples, last=last)
        parts.append(samples)
        joined = np.concatenate([part.reshape(-1).astype(np.float32) for part in parts])
        if not np.isfinite(joined).all():
            raise ReplyError("The service sent speech samples that are not numbers.")
        return Waveform(joined, self.sample_rate) if len(joined) else None


def _samples(data: bytes, tag: int, bits: int) -> np.ndarray:
    """Little-endian samples as float32 in -1..1."""
    if tag == _FLOAT:
        return np.frombuffer(data, "<f4").astype(np.float32)
    if bits == 24:
        triples = np.frombuffer(data, np.uint8).reshape(-1, 3)
        padded = np.concatenate([np.zeros((len(triples), 1), np.uint8), triples], axis=1)
        return padded.reshape(-1).view("<i4").astype(np.float32) / 2**31
    kind = "<i2" if bits == 16 else "<i4"
    return np.frombuffer(data, kind).astype(np.float32) / 2 ** (bits - 1)


def _checked(rate: object) -> int:
    if not isinstance(rate, int) or isinstance(rate, bool) or rate not in _RATES:
        raise ReplyError(f"The service sent speech at {str(rate)[:20]} Hz, which cannot be its sample rate.")
    return rate
