"""What a reward model sees of a reply: what the frozen base makes of its words and its speech, and acoustic measures.

A reply is read as raters met it, words and recording, and encoded again: votes hold no tokens, and a reply sampled in
training must look like one that was voted on. Raters hear both sides at one loudness with silences of their own, so
every recording is cut to its speech and brought to one level first, and no level is measured. The user's turns are read
as words where those are known: a question that was typed and the same one spoken are then one question, and a base
that mishears does not mislead the judge; how the user sounded is not judged.
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
BLOCKS: tuple[Block, ...] = ("text", "speech", "likelihood", "measures")
"""text, speech: means of hidden states over the words' and over the speech's positions. likelihood: how likely the base
finds the reply. measures: of the sound."""
LIKELIHOOD = ("mean_word", "least_likely_word", "mean_speech")
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

    ``layer``: after which of the base's layers hidden states are taken, 1 to all of them.
    """

    def __init__(self, base: Base, blocks: Sequence[Block] = BLOCKS, layer: int | None = None) -> None:
        self.base = base
        self.blocks = tuple(block for block in BLOCKS if block in blocks)
        self.layers: int = base.network.config.num_hidden_layers
        self.layer = self.layers if layer is None else layer
        self.policy = InterleavedModel(base, {})
        if not self.blocks or not 1 <= self.layer <= self.layers:
            raise ValueError(f"There is nothing to read: blocks {self.blocks}, layer {self.layer} of {self.layers}.")

    @property
    def needs_audio(self) -> bool:
        return not {"speech", "measures"}.isdisjoint(self.blocks)

    @property
    def sizes(self) -> dict[Block, int]:
        """Features of each block, in their order."""
        hidden = self.base.network.config.hidden_size
        every: dict[Block, int] = {"text": hidden, "speech": hidden}
        every |= {"likelihood": len(LIKELIHOOD), "measures": len(MEASURED)}
        return {block: every[block] for block in self.blocks}

    def readable(self, reply: Met) -> bool:
        """Whether there are words, and sound where sound is read."""
        heard = reply.waveform is not None and bool(active_frames(frame_levels(reply.waveform)).any())
        return bool(reply.text.strip()) and (heard or not self.needs_audio)

    def features(self, replies: Sequence[Met]) -> np.ndarray:
        """float64 (n, sum of sizes); NaN where something cannot be measured."""
        found = np.full((len(replies), sum(self.sizes.values())), np.nan)
        for start in range(0, len(replies), _AT_ONCE):
            batch = [self._prepared(reply) for reply in replies[start : start + _AT_ONCE]]
            rows = [np.zeros((len(batch), 0))]
            if self.blocks != ("measures",):
                made = self._made_of(batch)
                rows += [made[block] for block in self.blocks if block in made]
            if "measures" in self.blocks:
                rows.append(np.array([_measured(reply) for reply in batch]))
            found[start : start + len(batch)] = np.concatenate(rows, axis=1)
        return found

    def _prepared(self, reply: Met) -> Met:
        sounds = self.needs_audio and reply.waveform is not None
        return Met(reply.prompt, reply.text, as_heard(reply.waveform) if sounds else None)

    def _made_of(self, replies: Sequence[Met]) -> dict[Block, np.ndarray]:
        """What the base makes of replies, each block float64 (n, size)."""
        prompts = [self.policy.encode_prompt(as_words(reply.prompt)) for reply in replies]
        completions = []
        for prompt, reply in zip(prompts, replies, strict=True):
            completions.append(self._completion(reply)[: self.base.context - len(prompt)])
        found: dict[Block, list[torch.Tensor]] = {"text": [], "speech": [], "likelihood": []}
        for (states, logprobs), tokens in zip(self._forward(prompts, completions), completions, strict=True):
            channels = torch.from_numpy(self.policy.channel_of(tokens))
            words, sounds = channels == int(Channel.TEXT), channels == int(Channel.SPEECH)
            found["text"].append(states[words].mean(0))
            found["speech"].append(states[sounds].mean(0))
            least = logprobs[words].min() if words.any() else torch.tensor(math.nan)
            found["likelihood"].append(torch.stack([logprobs[words].mean(), least, logprobs[sounds].mean()]))
        return {block: torch.stack(rows).double().numpy() for block, rows in found.items()}

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
    def _forward(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each row, float32: hidden states (T, hidden) of the completion, and its log-probabilities (T,)."""
        rows = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
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
                found.append((output.hidden_states[self.layer][place, first:last].float().cpu(), logprobs.cpu()))
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
