"""Stage ``tokens``: dialogues to rows of codes. User turns are rendered and encoded at once; replies are cached."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from wavalign.audio import Waveform
from wavalign.closedtalk.build.batches import equalised, warp_formants
from wavalign.closedtalk.build.clips import read_shard
from wavalign.closedtalk.build.render import SHARD, UNSEEN_VOICES, shards
from wavalign.closedtalk.dataset import DialogueRow, TurnRow, read_dialogues, write_dialogues
from wavalign.closedtalk.deliveries import Delivery, Tone
from wavalign.closedtalk.dialogues import DialogueSpec, TurnSpec, dialogue_spec, signature
from wavalign.closedtalk.synthesis import speak_assistant
from wavalign.closedtalk.users import Speaker, UserStudio
from wavalign.codecs.fsq_world import FsqWorldCodec
from wavalign.codecs.logmel import log_mel
from wavalign.training.world import World


@dataclass
class Encoder:
    """Renders and encodes. ``versions`` > 1 encodes each user turn again through other formants and microphones."""

    codec: FsqWorldCodec
    studio: UserStudio
    _replies: dict[tuple[str, Delivery], tuple[int, ...]] = field(default_factory=dict)

    def reply_codes(self, text: str, delivery: Delivery) -> tuple[int, ...]:
        key = (text, delivery)
        if key not in self._replies:
            self._replies[key] = tuple(self.codec.encode_reply(speak_assistant(text, delivery)))
        return self._replies[key]

    def speaker(self, spec: DialogueSpec) -> Speaker:
        texts = [turn.text for turn in spec.turns]
        plain = all(turn.tone is Tone.PLAIN for turn in spec.turns)
        return self.studio.speaker(spec.voice_seed, spec.split in UNSEEN_VOICES, texts, plain)

    def recording(self, spec: DialogueSpec, number: int) -> Waveform:
        """A user turn as the microphone delivers it."""
        turn, speaker = spec.turns[number], self.speaker(spec)
        return self.studio.recorded(self.studio.clean(turn.text, turn.tone, speaker, number), speaker, number)

    def rows(self, spec: DialogueSpec, versions: int = 1, mels: list[torch.Tensor] | None = None) -> list[DialogueRow]:
        """The dialogue as rows that differ in the user's codes only; a typed dialogue gives one.

        ``mels``: the turns' log-mels where they were rendered before.
        """
        if spec.typed:
            return [self._row(spec, "typed", "", [() for _ in spec.turns])]
        speaker = self.speaker(spec)
        mels = mels or [log_mel(self.recording(spec, number).samples) for number in range(len(spec.turns))]
        rows = [self._row(spec, speaker.source, speaker.voice, [self._codes(mel) for mel in mels])]
        rng = np.random.default_rng(spec.voice_seed)
        for _ in range(versions - 1):
            factor = float(rng.uniform(0.9, 1.12))
            changed = [equalised(warp_formants(mel, factor), rng) for mel in mels]
            rows.append(self._row(spec, speaker.source, speaker.voice, [self._codes(mel) for mel in changed]))
        return rows

    @torch.inference_mode()
    def _codes(self, mel: torch.Tensor) -> tuple[int, ...]:
        stacked = self.codec.stacked(mel.to(self.codec.mel_mean.device))
        return tuple(self.codec.codes_of(self.codec.forward_encode(stacked[None]))[0].tolist())

    def _row(self, spec: DialogueSpec, source: str, voice: str, codes: list[tuple[int, ...]]) -> DialogueRow:
        turns = tuple(self._turn(turn, user) for turn, user in zip(spec.turns, codes, strict=True))
        return DialogueRow(spec.split, spec.index, signature(spec), spec.phrasing, spec.typed, source, voice, turns)

    def _turn(self, turn: TurnSpec, user: tuple[int, ...]) -> TurnRow:
        return TurnRow(
            text=turn.text,
            tone=turn.tone.value,
            item=turn.item.id,
            family=turn.item.family,
            kind=turn.kind,
            requested=turn.requested.value if turn.requested else None,
            delivery=turn.delivery.value,
            answer=turn.answer,
            demonstration=turn.demonstration,
            user_codes=user,
            reply_codes=self.reply_codes(turn.demonstration, turn.delivery),
        )


def encode_split(
    encoder: Encoder, split: str, count: int, clips: Path, folder: Path, versions: int, world: World
) -> None:
    """Encodes the user turns that stage ``turns`` rendered under ``clips``, a file of rows for each of its shards.

    Files are shared out among processes, and those that exist are kept.
    """
    for start in tqdm(shards(count, world), desc=f"tokens {split}", unit="file", disable=world.rank > 0):
        path = folder / f"{split}-{start:06d}.parquet"
        if path.exists():
            continue
        mels: dict[int, list[torch.Tensor]] = {}
        for clip in read_shard(clips / f"{split}-{start:06d}.npz"):
            index = int(clip.key.split("/")[1])
            mels.setdefault(index, []).append(torch.as_tensor(clip.mel.astype(np.float32)))
        specs = (dialogue_spec(split, index) for index in range(start, min(count, start + SHARD)))
        write_dialogues(path, (row for spec in specs for row in encoder.rows(spec, versions, mels.get(spec.index))))


def read_split(folder: Path, split: str) -> Iterator[DialogueRow]:
    for path in sorted(folder.glob(f"{split}-*.parquet")):
        yield from read_dialogues(path)


def shuffled(rows: Iterable[DialogueRow], seed: int) -> list[DialogueRow]:
    ordered = list(rows)
    random.Random(seed).shuffle(ordered)
    return ordered
