"""What a reward model sees of a reply: what the frozen base makes of its words and its speech, and acoustic measures.

A reply is read as raters met it, words and recording, and encoded again: votes hold no tokens, and a reply sampled in
training must look like one that was voted on. Its words are read by themselves, where they end: the state there has
seen all of them, while a mean over them drowns the one that matters. Its speech is read in the base's own layout, as
the mean over its positions. States are taken halfway up the base and at its last layer. Raters hear both sides at one
loudness with silences of their own, so every recording is cut to its speech and brought to one level first, and no
level is measured. The user's turns are read as words where those are known: a question that was typed and the same one
spoken are then one question, and a base that mishears does not mislead the judge; how the user sounded is not judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch

from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.metrics.level import HOP_SECONDS, active_frames, frame_levels
from wavalign.metrics.measures import Measures, measure
from wavalign.models.interleaved import Base, InterleavedModel
from wavalign.models.layout import LayoutError
from wavalign.models.protocol import Channel

Block = Literal["text", "speech", "likelihood", "measures"]
BLOCKS: tuple[Block, ...] = ("text", "likelihood", "speech", "measures")
"""text: hidden states where the words end. likelihood: how likely the base finds the words. speech: means of hidden
states over the speech's positions, and how likely it is. measures: of the sound."""
SOUND: tuple[Block, ...] = ("speech", "measures")
"""Blocks that are read from the recording; the others are read from the words."""
LIKELIHOOD = ("mean_word", "least_likely_word")
"""Log-probabilities in nats."""
MEASURED = (
    "log_speech_seconds",
    "f0_median_semitones",
    "f0_sd_semitones",
    "f0_range_semitones",
    "energy_sd_db",
    "articulation_rate",
    "words_per_second",
    "letters_per_second",
    "pause_ratio",
    "voiced_share",
)
LEVEL_DBFS = -20.0
"""Of the active frames of every recording that is read."""
_BLINK_SECONDS = 0.05
_AT_ONCE = 16


@dataclass(frozen=True)
class Met:
    """One reply as a rater met it."""

    prompt: Dialogue
    text: str
    waveform: Waveform | None


class Reader:
    """Features of replies by one base with every adapter switched off. Thread-safe.

    ``layers``: after which of the base's layers hidden states are taken, from 1 on; by default halfway and at the last.
    """

    def __init__(self, base: Base, blocks: Sequence[Block] = BLOCKS, layers: Sequence[int] | None = None) -> None:
        self.base = base
        self.blocks = tuple(block for block in BLOCKS if block in blocks)
        count: int = base.network.config.num_hidden_layers
        self.layers = tuple(sorted(set(layers if layers is not None else (max(1, count // 2), count))))
        self.policy = InterleavedModel(base, {})
        if not self.blocks or not self.layers or not all(1 <= layer <= count for layer in self.layers):
            raise ValueError(f"There is nothing to read: blocks {self.blocks}, layers {self.layers} of {count}.")

    @property
    def needs_audio(self) -> bool:
        return not set(SOUND).isdisjoint(self.blocks)

    @property
    def sizes(self) -> dict[str, int]:
        """Features of each part, in their order; a part's name begins with its block's."""
        hidden = self.base.network.config.hidden_size
        states = {block: {f"{block} {layer}": hidden for layer in self.layers} for block in ("text", "speech")}
        every: dict[Block, dict[str, int]] = {
            "text": states["text"],
            "likelihood": {"likelihood": len(LIKELIHOOD)},
            "speech": {**states["speech"], "speech likelihood": 1},
            "measures": {"measures": len(MEASURED)},
        }
        return {part: size for block in self.blocks for part, size in every[block].items()}

    def readable(self, reply: Met) -> bool:
        """Whether there are words, and sound where sound is read."""
        heard = reply.waveform is not None and bool(active_frames(frame_levels(reply.waveform)).any())
        return bool(reply.text.strip()) and (heard or not self.needs_audio)

    def features(self, replies: Sequence[Met]) -> np.ndarray:
        """float64 (n, sum of sizes); NaN where something cannot be measured."""
        found = np.full((len(replies), sum(self.sizes.values())), np.nan)
        for start in range(0, len(replies), _AT_ONCE):
            batch = [self._prepared(reply) for reply in replies[start : start + _AT_ONCE]]
            blocks: dict[Block, np.ndarray] = {}
            if not {"text", "likelihood"}.isdisjoint(self.blocks):
                blocks |= self._of_words(batch)
            if "speech" in self.blocks:
                blocks |= self._of_speech(batch)
            if "measures" in self.blocks:
                blocks["measures"] = np.array([_measured(reply) for reply in batch])
            found[start : start + len(batch)] = np.concatenate([blocks[block] for block in self.blocks], axis=1)
        return found

    def _prepared(self, reply: Met) -> Met:
        sounds = self.needs_audio and reply.waveform is not None
        return Met(reply.prompt, reply.text, as_heard(reply.waveform) if sounds else None)

    def _of_words(self, replies: Sequence[Met]) -> dict[Block, np.ndarray]:
        """The words by themselves, without the sound between them: the same with a recording and without."""
        tokens, prompter = self.base.tokens, self.base.prompter
        words = [prompter.text_ids(reply.text) for reply in replies]
        end = [] if tokens.text_end is None else [tokens.text_end]
        states, likelihood = [], []
        for told, (hidden, logprobs) in zip(words, self._read(replies, [[*each, *end] for each in words]), strict=True):
            said = logprobs[: len(told)]
            # An empty mean is NaN: a prompt that fills the context leaves nothing of the reply to be read.
            states.append(hidden[:, -1:].mean(1).flatten())
            likelihood.append(torch.stack([said.mean(), said.min() if len(said) else said.mean()]))
        return {"text": _numbers(states), "likelihood": _numbers(likelihood)}

    def _of_speech(self, replies: Sequence[Met]) -> dict[Block, np.ndarray]:
        rows = [self._completion(reply) for reply in replies]
        found = []
        for row, (hidden, logprobs) in zip(rows, self._read(replies, rows), strict=True):
            channels = torch.from_numpy(self.policy.channel_of(row[: len(logprobs)]))
            sounds = channels == int(Channel.SPEECH)
            found.append(torch.cat([hidden[:, sounds].mean(1).flatten(), logprobs[sounds].mean(0, keepdim=True)]))
        return {"speech": _numbers(found)}

    def _completion(self, reply: Met) -> list[int]:
        """The reply's tokens in the base's layout; words, then sounds, where there is too little sound for it."""
        tokens, prompter = self.base.tokens, self.base.prompter
        words = prompter.text_ids(reply.text)
        codes = [] if reply.waveform is None else prompter.speech_codes(reply.waveform, reply=True)
        try:
            return tokens.pack(words, codes)
        except LayoutError:
            end = [] if tokens.text_end is None else [tokens.text_end]
            return [*words, *end, *tokens.speech_ids(codes)]

    @torch.no_grad()
    def _read(
        self, replies: Sequence[Met], completions: Sequence[Sequence[int]]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each reply, float32: hidden states (layers, T, hidden) of its completion, as much of it as the base's
        context holds, and its log-probabilities (T,)."""
        prompts = [self.policy.encode_prompt(as_words(reply.prompt)) for reply in replies]
        rows = [[*prompt, *tokens][: self.base.context] for prompt, tokens in zip(prompts, completions, strict=True)]
        longest = max(map(len, rows))
        network = self.base.network
        device = next(network.parameters()).device
        # Right-padded: a causal network does not see what comes after.
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
        found = []
        with self.base.lock, _without_adapters(self.base.model):
            output = network.get_decoder()(input_ids=ids, use_cache=False, output_hidden_states=True)
            head = network.get_output_embeddings()
            for place, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
                first, last = len(prompt), len(row)
                logits = head(output.last_hidden_state[place, first - 1 : last - 1]).float()
                logprobs = logits.log_softmax(-1).gather(1, ids[place, first:last, None])[:, 0]
                states = torch.stack([output.hidden_states[layer][place, first:last] for layer in self.layers])
                found.append((states.float().cpu(), logprobs.cpu()))
        return found


def as_words(dialogue: Dialogue) -> Dialogue:
    """The user's turns as words where they are known, else as they were spoken."""
    return Dialogue(
        tuple(Turn("user", text=turn.text) if turn.role == "user" and turn.text else turn for turn in dialogue.turns)
    )


def as_heard(waveform: Waveform) -> Waveform:
    """What is speech, with a blink of silence around it, at one level. Silence stays as it is."""
    levels = frame_levels(waveform)
    active = active_frames(levels)
    if not active.any():
        return waveform
    places = np.flatnonzero(active) * HOP_SECONDS * waveform.sample_rate
    speech = waveform.samples[round(places[0]) : round(places[-1]) + 1]
    level = 10 * math.log10(float(np.mean(10 ** (levels[active] / 10))))
    silence = np.zeros(round(_BLINK_SECONDS * waveform.sample_rate), np.float32)
    speech = speech * np.float32(10 ** ((LEVEL_DBFS - level) / 20))
    return Waveform(np.concatenate([silence, speech, silence]), waveform.sample_rate)


def _numbers(rows: Sequence[torch.Tensor]) -> np.ndarray:
    return torch.stack(list(rows)).double().numpy()


def _measured(reply: Met) -> list[float]:
    measures = Measures(0.0) if reply.waveform is None else measure(reply.waveform, reply.text)
    known = {name: math.nan if value is None else float(value) for name, value in asdict(measures).items()}
    known["log_speech_seconds"] = math.log(known["speech_seconds"])
    known["f0_median_semitones"] = 12 * math.log2(known["f0_median_hz"] / 100)
    return [known[name] for name in MEASURED]


@contextmanager
def _without_adapters(model: torch.nn.Module) -> Iterator[None]:
    if hasattr(model, "peft_config"):
        with model.disable_adapter():
            yield
    else:
        yield
