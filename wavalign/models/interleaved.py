"""A spoken dialogue model of the interleaved layout: one causal LM over text and speech tokens, and a codec.

Everything a family needs is in its description (``interleaved.json``); this class knows no family.
"""

from __future__ import annotations

import copy
import json
import os
import threading
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from wavalign.audio import Waveform
from wavalign.codecs.parts import find_part
from wavalign.codecs.protocol import SpeechCodec
from wavalign.dialogue import Dialogue, Reply, ReplyChunk
from wavalign.models import ears_code, scoring, shared_rows
from wavalign.models.channel_adapters import ChannelRanks, SpeechOf, gates_of, split
from wavalign.models.decoding import Completion, Row, Step, decode
from wavalign.models.engine import Engine, engine_for
from wavalign.models.grammar import Grammar
from wavalign.models.hearing import Heard, HearingEmbedding
from wavalign.models.layout import LAYOUT_FILE, InterleavedDescription, LayoutError, TokenMap
from wavalign.models.prompting import Prompter
from wavalign.models.protocol import GenerationError, Request, Rollout, Sampling, Scores
from wavalign.models.shared_rows import FlatScores, SharedRow
from wavalign.models.streaming import ReplyBuilder


@dataclass
class Base:
    """What all checkpoints of one base share: weights, tokenizer, codec, layout, engine.

    ``model`` becomes a PEFT model when the first adapter is attached; ``lock`` is held while modules run or change.
    ``heard``: what hears a user where speech is no codes in the prompt; ``deaf`` says why there is none.
    """

    name: str
    model: Any
    tokenizer: Any
    tokens: TokenMap
    codec: SpeechCodec
    heard: Heard | None = None
    deaf: str | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    task_type: str | None = "CAUSAL_LM"

    def __post_init__(self) -> None:
        self.network = self.model
        self.context: int = self.network.config.max_position_embeddings
        self.grammar = Grammar(self.tokens)
        self.prompter = Prompter(self.tokens, self.tokenizer, self.codec, self.context, self.heard, self.deaf)
        self.ears = None if self.heard is None else self.heard.ears
        if self.heard is not None:
            embedding = self.network.get_input_embeddings()
            if not isinstance(embedding, HearingEmbedding):
                self.network.set_input_embeddings(HearingEmbedding(embedding, self.heard))
        self.decoders = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="codec")
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        with self.lock:
            if self._engine is None:
                self._engine = engine_for(self.model, self.lock)
            return self._engine

    def policy(self, adapters: Mapping[str, str | None]) -> InterleavedModel:
        """A model over checkpoints of this base; see ``TrainableBase``."""
        return InterleavedModel(self, adapters)

    def score_rows(self, module: nn.Module, rows: Sequence[SharedRow], packed: bool) -> FlatScores:
        """Log-probabilities of the wanted tokens, in one forward of ``module``; see ``TrainableBase``."""
        gates = gates_of(self.network)
        return shared_rows.score_rows(module, self.network, rows, packed, self.grammar.speech_of if gates else None)

    def speech_of(self, adapter: str | None) -> SpeechOf | None:
        """Which tokens of a completion are predicted at speech's positions, where ``adapter`` is split by channel."""
        gates = gates_of(self.network)
        return self.grammar.speech_of if gates and adapter in gates.ranks else None

    def split(self, adapter: str, ranks: ChannelRanks) -> None:
        """Makes an attached adapter two, one for each channel; see ``TrainableBase``."""
        with self.lock:
            split(self.network, adapter, ranks)
            self.engine.weights_changed(adapter)

    def packs(self) -> bool:
        """Whether packed rows get the numbers of separate ones."""
        return shared_rows.packs(self.network, self.tokens.vocabulary_size)

    def weights_changed(self, adapter: str | None) -> None:
        """What decodes quickly must read the weights of ``adapter`` (None: the base's own) again."""
        self.engine.weights_changed(adapter)

    def frozen_copy(self) -> Base:
        """The same base with weights of its own, which are not trained."""
        network = copy.deepcopy(self.network).eval().requires_grad_(False)
        return Base(self.name, network, self.tokenizer, self.tokens, self.codec, self.heard, self.deaf)

    def unfreeze(self) -> None:
        """All weights are trained from here on, in float32."""
        self.network.float().requires_grad_(True)

    @property
    def exported(self) -> Any:
        """What ``export`` saves."""
        return self.network

    def export(self, folder: Path, source: Path, state: Mapping[str, torch.Tensor] | None = None) -> None:
        """Writes a base's folder with the weights as they are now; see ``TrainableBase``."""
        self.network.save_pretrained(str(folder), state_dict=state)
        self.tokenizer.save_pretrained(str(folder))
        description = InterleavedDescription.read(source).told()
        description["codec"] = self._codec_from(description["codec"], source)
        description["backbone"] = None  # what was saved is transformers' own class
        (folder / LAYOUT_FILE).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        if self.heard is not None:
            ears_code.keep(self.heard.ears.modules, source, folder)

    @staticmethod
    def _codec_from(told: Any, source: Path) -> Any:
        """The codec of ``source`` as a description elsewhere names it."""
        if not isinstance(told, Mapping):
            return str((source / (told or "codec")).resolve())
        parts = {name: each for name, each in told.items() if name not in ("type", "voice") and each}
        return {**told, **{name: str(find_part(each, source, name)) for name, each in parts.items()}}

    def attached(self, model: Any) -> None:
        """``model`` is this base with one more adapter; the engine is chosen again."""
        with self.lock:
            self.model = model
            if getattr(self._engine, "lock", None) is self.lock:
                self._engine.model = model  # replies under way go on, told apart by row
            else:
                self._engine = None


class InterleavedModel:
    """A ``SpokenDialogueModel`` and ``TrainablePolicy`` over one base and some of its checkpoints.

    ``adapters`` maps a checkpoint's name to the name of its PEFT adapter, or None for the base itself.
    """

    def __init__(self, base: Base, adapters: Mapping[str, str | None]) -> None:
        self.base = base
        self.adapters = dict(adapters)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.adapters)

    @property
    def sample_rate(self) -> int:
        return self.base.codec.sample_rate

    @property
    def default_sampling(self) -> Sampling:
        """What the base's description recommends."""
        return self.base.tokens.description.sampling

    @property
    def tokens(self) -> TokenMap:
        return self.base.tokens

    @property
    def tokenizer(self) -> Any:
        return self.base.tokenizer

    @property
    def codec(self) -> SpeechCodec:
        return self.base.codec

    @property
    def network(self) -> Any:
        """The causal LM itself, without what adapters wrap around it."""
        return self.base.network

    @property
    def speech_in_order(self) -> bool:
        return True

    @property
    def text_end(self) -> int | None:
        """The token that closes a reply's text, in layouts that have one."""
        return self.base.tokens.text_end

    def text_of(self, tokens: Sequence[int]) -> str:
        """The words of a completion."""
        return self.base.tokenizer.decode(self.base.tokens.text_ids(tokens), clean_up_tokenization_spaces=False)

    def well_formed(self, tokens: Sequence[int], whole: bool) -> bool:
        """Whether a completion follows the layout; a ``whole`` one must also reach its end."""
        try:
            self.base.grammar.check(tokens, whole)
        except LayoutError:
            return False
        return True

    def reply(
        self,
        dialogue: Dialogue,
        sampling: Sampling | None = None,
        *,
        checkpoint: str | None = None,
        stop: threading.Event | None = None,
    ) -> Generator[ReplyChunk, None, Reply]:
        """Streams one reply and returns it whole; see ``SpokenDialogueModel``."""
        request = Request(dialogue, checkpoint or self.names[0], sampling or self.default_sampling)
        with closing(self.stream_many([request], stop)) as stream:
            while True:
                try:
                    (chunk,) = next(stream)
                except StopIteration as end:
                    return end.value[0]
                if chunk is not None:
                    yield chunk

    def stream_many(
        self, requests: Sequence[Request], stop: threading.Event | None = None
    ) -> Generator[list[ReplyChunk | None], None, list[Reply]]:
        """Streams several replies decoded in one batch and returns them whole; see ``SpokenDialogueModel``.

        Raises:
            GenerationError: at the first step, when a request cannot be answered.
        """
        base = self.base
        rows = [self._row(request) for request in requests]
        builders = [ReplyBuilder(base.tokens, base.tokenizer, base.codec, base.decoders) for _ in requests]
        try:
            with closing(decode(base.engine, base.grammar, rows, stop=stop)) as steps:
                while True:
                    try:
                        step: Step = next(steps)
                    except StopIteration as end:
                        completions: list[Completion] = end.value
                        break
                    for row, token in zip(step.rows, step.tokens, strict=True):
                        builders[row].add(token)
                    for row, finished_itself in step.ended:
                        builders[row].end(finished_itself)
                    chunks = [builder.take() for builder in builders]
                    if any(chunks):
                        yield chunks
            for builder, completion in zip(builders, completions, strict=True):
                builder.end(completion.finished)
            while any(builder.reply is None for builder in builders):
                chunks = [builder.take() for builder in builders]
                if any(chunks):
                    yield chunks
                for builder in builders:
                    builder.wait()
        finally:
            for builder in builders:
                builder.cancel()
        return [builder.reply for builder in builders]

    def reply_many(self, requests: Sequence[Request], stop: threading.Event | None = None) -> list[Reply]:
        """Whole replies, decoded in one batch."""
        base = self.base
        completions = finished(
            decode(base.engine, base.grammar, [self._row(request) for request in requests], stop=stop)
        )
        return [
            Reply(
                base.tokenizer.decode(base.tokens.text_ids(c.tokens), clean_up_tokenization_spaces=False),
                self.decode_speech(c.tokens),
                tuple(c.tokens),
                c.finished,
            )
            for c in completions
        ]

    def encode_prompt(self, dialogue: Dialogue, room: int | None = None) -> list[int]:
        """Ids up to and including the assistant mark. ``room``: tokens left for the completion."""
        room = self.default_sampling.max_tokens if room is None else room
        return self.base.prompter.encode(dialogue, min(room, self.base.context // 2))

    def encode_target(self, text: str, speech: Waveform | Sequence[int]) -> list[int]:
        """The completion that says ``text`` with ``speech`` (a waveform, or codec codes)."""
        codes = self.base.prompter.speech_codes(speech, reply=True) if isinstance(speech, Waveform) else speech
        return self.base.prompter.packed(text, codes)

    def sample_groups(
        self,
        prompts: Sequence[Sequence[int]],
        group_size: int,
        sampling: Sampling,
        *,
        checkpoint: str | None = None,
        stop: threading.Event | None = None,
        first: int = 0,
        text_only: bool = False,
        spoken: int | None = None,
    ) -> list[list[Rollout]]:
        """``group_size`` completions of each prompt, each prompt read once; see ``TrainablePolicy``."""
        adapter = self._adapter(checkpoint or self.names[0])
        limit = self._speech_limit(sampling)
        cut = [text_only or (spoken is not None and k >= spoken) for k in range(group_size)]
        rows = []
        for index, prompt in enumerate(prompts, start=first):
            settings = self._fitted(sampling, len(prompt))
            rows += [Row(prompt, settings, adapter, (index << 32) + k, limit, cut[k]) for k in range(group_size)]
        completions = finished(decode(self.base.engine, self.base.grammar, rows, logprobs=True, stop=stop))
        rollouts = [Rollout(tuple(c.tokens), np.array(c.logprobs, np.float32), c.finished) for c in completions]
        return [rollouts[start : start + group_size] for start in range(0, len(rollouts), group_size)]

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        *,
        checkpoint: str | None = None,
    ) -> Scores:
        """Teacher-forced log-probabilities and entropies; see ``TrainablePolicy``."""
        adapter = self._adapter(checkpoint or self.names[0])
        with self.base.lock:
            return scoring.score(self.base.model, prompts, completions, adapter, self.base.speech_of(adapter))

    def channel_of(self, ids: Sequence[int] | np.ndarray | torch.Tensor) -> np.ndarray:
        """``Channel`` values, int8, of the shape of ``ids``."""
        return self.base.tokens.channel_of(ids)

    def decode_speech(self, ids: Sequence[int]) -> Waveform:
        """The waveform of the speech tokens among ``ids``."""
        return self.base.codec.decode(self.base.tokens.codes_of(ids))

    def lora_targets(self) -> list[str]:
        """Names of the decoder layers' linear modules (not the output head), as PEFT's ``target_modules``."""
        return scoring.linear_names(self.base.network)

    def _adapter(self, checkpoint: str) -> str | None:
        if checkpoint not in self.adapters:
            raise GenerationError(f'Checkpoint "{checkpoint}" is not loaded; loaded are: {", ".join(self.names)}.')
        return self.adapters[checkpoint]

    def _row(self, request: Request) -> Row:
        adapter = self._adapter(request.checkpoint)
        prompt = self.encode_prompt(request.dialogue, request.sampling.max_tokens)
        sampling = self._fitted(request.sampling, len(prompt))
        return Row(prompt, sampling, adapter, 0, self._speech_limit(sampling))

    def _fitted(self, sampling: Sampling, prompt_length: int) -> Sampling:
        room = self.base.context - prompt_length
        if room < 1:
            raise GenerationError(f"The prompt has {prompt_length} tokens and the model holds {self.base.context}.")
        return sampling if sampling.max_tokens <= room else replace(sampling, max_tokens=room)

    def _speech_limit(self, sampling: Sampling) -> int:
        return max(1, int(sampling.max_seconds * self.base.codec.tokens_per_second))


def finished(steps: Generator[Step, None, list[Completion]]) -> list[Completion]:
    """Runs the loop to its end and gives what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
