"""What the decoding loop runs: the thinker over words, then the talker over codes, each row with its own adapter."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from wavalign.models.thinker_talker_families import OmniTokens
from wavalign.models.thinker_talker_network import Cue, OmniNetwork
from wavalign.models.thinker_talker_prompting import Prompt, Recording

_BASE = "__base__"  # PEFT's name for rows without an adapter


@dataclass(eq=False)
class Told:
    """A talker's prompt: the thinker's prompt and the words of the reply, their end included."""

    prompt: Sequence[int]
    text: Sequence[int]


class OmniEngine:
    """Runs the network, or the PEFT model around it; ``lock`` is held for every forward.

    Encoded recordings are remembered: no adapter reaches the encoder.
    """

    def __init__(self, model: Any, network: OmniNetwork, lock: threading.RLock) -> None:
        self.model = model
        self.network = network
        self.lock = lock
        self._heard: dict[bytes, torch.Tensor] = {}

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def tokens(self) -> OmniTokens:
        return self.network.tokens

    def weights_changed(self, adapter: str | None) -> None:
        """The model's own modules are what runs: there is nothing to forget."""

    def heard(self, prompt: Sequence[int]) -> list[torch.Tensor]:
        """The encoded recordings (n, H) of a prompt."""
        return [self._encoded(recording) for recording in getattr(prompt, "recordings", ())]

    def _encoded(self, recording: Recording) -> torch.Tensor:
        with self.lock:
            if recording.digest not in self._heard:
                with torch.inference_mode(False):  # training's graphs may hold it too
                    features = torch.from_numpy(recording.features).to(self.device)
                    self._heard[recording.digest] = self.network.encoded(features)
                while len(self._heard) > 64:
                    del self._heard[next(iter(self._heard))]
            return self._heard[recording.digest]

    def run(self, adapters: Sequence[str | None], call: str, **inputs: Any) -> Any:
        """A forward in which row i runs with ``adapters[i]``."""
        with self.lock:
            if self.model is self.network:
                return self.network(call=call, **inputs)
            return self.model(adapter_names=[each or _BASE for each in adapters], call=call, **inputs)


class ThinkerEngine:
    """An ``Engine`` over words."""

    def __init__(self, engine: OmniEngine) -> None:
        self.engine = engine
        self.weights_changed = engine.weights_changed

    @property
    def device(self) -> torch.device:
        return self.engine.device

    @torch.inference_mode()
    def start(
        self, prompts: Sequence[Prompt], adapters: Sequence[str | None], copies: int, room: int
    ) -> tuple[_Rows, torch.Tensor]:
        heard = [each for prompt in prompts for each in self.engine.heard(prompt)]
        embeds = self.engine.network.embedded(prompts, heard, left=True)
        session = ThinkerSession(self.engine, [len(prompt) for prompt in prompts], adapters)
        logits = session.forward("think", embeds=embeds)
        if copies > 1:
            session.repeat(copies)
            logits = logits.repeat_interleave(copies, 0)
        return session, logits


class _Rows:
    """A cache of left-padded rows."""

    def __init__(self, engine: OmniEngine, lengths: Sequence[int], adapters: Sequence[str | None], config: Any) -> None:
        self.engine = engine
        self.adapters = list(adapters)
        self.length = 0
        longest = max(lengths)
        self.pads = torch.tensor([longest - length for length in lengths], device=engine.device)
        self.cache = DynamicCache(config=config)

    def forward(self, call: str, **inputs: torch.Tensor) -> torch.Tensor:
        """``inputs`` has one tensor (B, L, D), which is added to what the cache holds."""
        (embeds,) = inputs.values()
        slots = torch.arange(self.length, self.length + embeds.shape[1], device=embeds.device)
        self.length += embeds.shape[1]
        positions = (slots - self.pads[:, None]).clamp(min=0)
        mask = None
        if bool(self.pads.any()):
            mask = (torch.arange(self.length, device=embeds.device) >= self.pads[:, None]).long()
        return self.engine.run(self.adapters, call, **inputs, positions=positions, mask=mask, cache=self.cache)

    def keep(self, rows: torch.Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.pads = self.pads[rows]
        self.adapters = [self.adapters[row] for row in rows.tolist()]

    def repeat(self, copies: int) -> None:
        self.cache.batch_repeat_interleave(copies)
        self.pads = self.pads.repeat_interleave(copies)
        self.adapters = [adapter for adapter in self.adapters for _ in range(copies)]


class ThinkerSession(_Rows):
    """A ``Session`` over words."""

    def __init__(self, engine: OmniEngine, lengths: Sequence[int], adapters: Sequence[str | None]) -> None:
        super().__init__(engine, lengths, adapters, engine.network.text_config)

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.forward("think", embeds=self.engine.network.language_model.embed_tokens(tokens[:, None]))

    keep = torch.inference_mode()(_Rows.keep)


class TalkerEngine:
    """An ``Engine`` over places behind the words; its prompts are ``Told``, each read by the thinker in one forward."""

    def __init__(self, engine: OmniEngine) -> None:
        self.engine = engine
        self.weights_changed = engine.weights_changed

    @property
    def device(self) -> torch.device:
        return self.engine.device

    @torch.inference_mode()
    def start(
        self, prompts: Sequence[Told], adapters: Sequence[str | None], copies: int, room: int
    ) -> tuple[TalkerSession, torch.Tensor]:
        engine, network = self.engine, self.engine.network
        rows = [[*told.prompt, *told.text] for told in prompts]
        heard = [each for told in prompts for each in engine.heard(told.prompt)]
        read = engine.run(adapters, "read", embeds=network.embedded(rows, heard))
        with engine.lock:  # what the cue is made of is never adapted
            cues = [network.cue(read, i, told.prompt, len(told.text) - 1) for i, told in enumerate(prompts)]
        cues = [cue for cue in cues for _ in range(copies)]
        adapters = [adapter for adapter in adapters for _ in range(copies)]
        session = TalkerSession(engine, cues, adapters)
        return session, session.open(cues)


class TalkerSession(_Rows):
    """A ``Session``; all rows are at the same book of the same frame, because frames are never left out."""

    def __init__(self, engine: OmniEngine, cues: Sequence[Cue], adapters: Sequence[str | None]) -> None:
        super().__init__(engine, [len(cue.opening) for cue in cues], adapters, engine.network.talker.model.config)
        self.lines = pad_sequence([cue.lines for cue in cues], batch_first=True)
        self.last = torch.tensor([len(cue.lines) - 1 for cue in cues], device=engine.device)
        self.frame: list[torch.Tensor] = []
        self.frames = 0
        self.hidden: torch.Tensor | None = None
        self.detail: DynamicCache | None = None

    def open(self, cues: Sequence[Cue]) -> torch.Tensor:
        longest = max(len(cue.opening) for cue in cues)
        opening = [torch.nn.functional.pad(cue.opening, (0, 0, longest - len(cue.opening), 0)) for cue in cues]
        return self._first_book(torch.stack(opening))

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        self.frame.append(tokens)
        if len(self.frame) < self.engine.tokens.books:
            return self._later_book()
        line = self.lines[torch.arange(len(tokens), device=tokens.device), self.last.clamp(max=self.frames)]
        codes = self.engine.network.code_embeds(torch.stack(self.frame, -1))
        self.frame, self.detail = [], None
        self.frames += 1
        return self._first_book((codes + line)[:, None])

    @torch.inference_mode()
    def keep(self, rows: torch.Tensor) -> None:
        super().keep(rows)
        self.lines, self.last, self.hidden = self.lines[rows], self.last[rows], self.hidden[rows]
        self.frame = [codes[rows] for codes in self.frame]
        if self.detail is not None:
            self.detail.batch_select_indices(rows)

    def _first_book(self, inputs: torch.Tensor) -> torch.Tensor:
        self.hidden = self.forward("talk", inputs=inputs)[:, -1]
        return self.engine.tokens.spread(self.engine.network.talker.codec_head(self.hidden).float())

    def _later_book(self) -> torch.Tensor:
        """Logits of the book after those that ``frame`` holds."""
        network, tokens, book = self.engine.network, self.engine.tokens, len(self.frame)
        made = network.book_embeds(torch.stack(self.frame, -1))
        if self.detail is None:
            self.detail = DynamicCache(config=network.talker.code_predictor.model.config)
            made = torch.cat([self.hidden[:, None], made], 1)
        else:
            made = made[:, -1:]
        hidden = self.engine.run(self.adapters, "detail", inputs=made, cache=self.detail)[:, -1]
        logits = network.talker.code_predictor.lm_head[book - 1](hidden).float()
        spread = logits.new_full((len(logits), tokens.speech_size), -torch.inf)
        spread[:, book * tokens.codes : (book + 1) * tokens.codes] = logits[:, : tokens.codes]
        return spread
