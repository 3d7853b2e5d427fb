"""A spoken dialogue model of the thinker-talker layout: an LM over words, and a second one that says them in codes.

Words are drawn first, for all rows together, then the codes; both by the shared decoding loop. What the layout adds is
the cue: the thinker's hidden states that the talker speaks from, the same in generation and in scoring, so that the
likelihood of speech reaches both.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Reply, ReplyChunk
from wavalign.models.decoding import Completion, Row, Step, decode
from wavalign.models.protocol import GenerationError, Request, Rollout, Sampling, Scores
from wavalign.models.scoring import active
from wavalign.models.shared_rows import Scored, SharedRow
from wavalign.models.streaming import ReplyBuilder
from wavalign.models.thinker_talker_engine import Told
from wavalign.models.thinker_talker_families import OmniTokens
from wavalign.models.thinker_talker_network import OmniNetwork
from wavalign.models.thinker_talker_vocoder import OmniCodec

if TYPE_CHECKING:
    from wavalign.models.thinker_talker_base import OmniBase

_SPEECH_STREAM = 1 << 63  # tells the random numbers of a row's codes from those of its words


class ThinkerTalkerModel:
    """A ``SpokenDialogueModel`` and ``TrainablePolicy`` over one base and some of its checkpoints.

    ``adapters`` maps a checkpoint's name to the name of its PEFT adapter, or None for the base itself.
    """

    def __init__(self, base: OmniBase, adapters: Mapping[str, str | None]) -> None:
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
        return self.base.family.sampling

    @property
    def tokens(self) -> OmniTokens:
        return self.base.tokens

    @property
    def tokenizer(self) -> Any:
        return self.base.tokenizer

    @property
    def codec(self) -> OmniCodec:
        return self.base.codec

    @property
    def network(self) -> OmniNetwork:
        """Thinker and talker, without what adapters wrap around them."""
        return self.base.network

    @property
    def speech_in_order(self) -> bool:
        return True

    @property
    def text_end(self) -> int:
        """The token that closes a reply's text."""
        return self.base.tokens.text_end

    def text_of(self, tokens: Sequence[int]) -> str:
        """The words of a completion."""
        return self.base.tokenizer.decode(self.base.tokens.text_ids(tokens), clean_up_tokenization_spaces=False)

    def well_formed(self, tokens: Sequence[int], whole: bool) -> bool:
        """Whether a completion follows the layout; a ``whole`` one must also reach its end."""
        return self.base.tokens.well_formed(tokens, whole)

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
        ends = {base.tokens.text_size + base.tokens.place_of(end) for end in base.tokens.talker_ends}
        try:
            with closing(self._completions(rows, False, stop)) as steps:
                while True:
                    try:
                        step = next(steps)
                    except StopIteration as end:
                        completions: list[Completion] = end.value
                        break
                    for row, token in zip(step.rows, step.tokens, strict=True):
                        builders[row].add(token)
                        if token in ends:
                            builders[row].end(True)
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
        completions = _finished(self._completions([self._row(request) for request in requests], False, stop))
        return [
            Reply(self.text_of(c.tokens), self.decode_speech(c.tokens), tuple(c.tokens), c.finished)
            for c in completions
        ]

    def encode_prompt(self, dialogue: Dialogue, room: int | None = None) -> list[int]:
        """Ids up to and including the assistant mark, with the recordings they stand for. ``room``: for the reply."""
        room = self.default_sampling.max_tokens if room is None else room
        return self.base.prompter.encode(dialogue, min(room, self.base.context // 2))

    def encode_target(self, text: str, speech: Waveform | Sequence[int]) -> list[int]:
        """The completion that says ``text`` with ``speech``, the talker's codes frame by frame.

        Raises:
            GenerationError: when speech is a recording (no encoder was published), or not codes of this model.
        """
        base, tokens = self.base, self.base.tokens
        codes = base.codec.encode_reply(speech) if isinstance(speech, Waveform) else list(speech)
        words = base.prompter.text_ids(text)
        if not words or not codes or len(codes) % tokens.books:
            raise GenerationError(
                f"A spoken target needs words and whole frames of {tokens.books} codes; got {len(words)} text tokens "
                f"and {len(codes)} codes."
            )
        base.codec.frames_of(codes)
        return [*words, tokens.text_end, *(tokens.speech_start + code for code in codes), tokens.turn_end]

    def say(
        self,
        prompts: Sequence[Sequence[int]],
        texts: Sequence[str],
        sampling: Sampling,
        *,
        checkpoint: str | None = None,
        stop: threading.Event | None = None,
        numbers: Sequence[int] | None = None,
    ) -> list[Rollout]:
        """Completions of these words, spoken as this checkpoint speaks; their log-probabilities are of the codes.

        ``numbers`` tell the rows' draws apart; their places when None.
        """
        adapter = self._adapter(checkpoint or self.names[0])
        written = [Completion([*self.base.prompter.text_ids(text), self.text_end], [], True) for text in texts]
        rows = [
            Row(prompt, sampling, adapter, number << 32, self._speech_limit(sampling))
            for number, prompt in zip(numbers or range(len(prompts)), prompts, strict=True)
        ]
        spoken = _finished(self._spoken(rows, written, True, stop))
        return [Rollout(tuple(c.tokens), np.array(c.logprobs, np.float32), c.finished) for c in spoken]

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
            self._check_room(prompt)
            rows += [Row(prompt, sampling, adapter, (index << 32) + k, limit, cut[k]) for k in range(group_size)]
        completions = _finished(self._completions(rows, True, stop))
        rollouts = [Rollout(tuple(c.tokens), np.array(c.logprobs, np.float32), c.finished) for c in completions]
        return [rollouts[start : start + group_size] for start in range(0, len(rollouts), group_size)]

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        *,
        checkpoint: str | None = None,
    ) -> Scores:
        """Teacher-forced log-probabilities and entropies of words (the thinker) and codes (the talker)."""
        adapter = self._adapter(checkpoint or self.names[0])
        rows = [
            SharedRow(prompt, [Scored(completion, range(len(completion)))])
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        with self.base.lock, active(self.base.model, adapter):
            flat = self.base.score_rows(self.base.model, rows, False)
        lengths = [len(completion) for completion in completions]
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        mask = mask.to(flat.logprobs.device)
        empty = torch.zeros(mask.shape, device=mask.device)
        return Scores(empty.masked_scatter(mask, flat.logprobs), empty.masked_scatter(mask, flat.entropy), mask)

    def channel_of(self, ids: Sequence[int] | np.ndarray | torch.Tensor) -> np.ndarray:
        """``Channel`` values, int8, of the shape of ``ids``."""
        return self.base.tokens.channel_of(ids)

    def decode_speech(self, ids: Sequence[int]) -> Waveform:
        """The waveform of the speech tokens among ``ids``."""
        return self.base.codec.decode(self.base.tokens.codes_of(ids))

    def lora_targets(self) -> list[str]:
        """Full paths of the linear modules of the thinker's and the talker's layers."""
        return self.base.adaptable()

    def _completions(
        self, rows: Sequence[Row], logprobs: bool, stop: threading.Event | None
    ) -> Generator[Step, None, list[Completion]]:
        """Words of all rows, then their codes, as steps over whole completions."""
        base = self.base
        with closing(decode(base.thinking, base.text_grammar, self._fitted(rows), logprobs=logprobs, stop=stop)) as s:
            written = yield from s
        return (yield from self._spoken(rows, written, logprobs, stop))

    def _spoken(
        self, rows: Sequence[Row], written: list[Completion], logprobs: bool, stop: threading.Event | None
    ) -> Generator[Step, None, list[Completion]]:
        """Goes on with the codes of the rows whose words are ``written`` to their end."""
        base = self.base
        asked, second = [], []
        for index, (row, words) in enumerate(zip(rows, written, strict=True)):
            room = row.sampling.max_tokens - len(words.tokens)
            # The opening holds the prompt, a few marks and the first word.
            room = min(room, (base.talker_context - len(row.prompt) - 16) * base.tokens.books)
            if row.text_only or not words.finished:
                continue
            words.finished = False
            if room < 1 or (stop is not None and stop.is_set()):
                continue
            asked.append(index)
            told = Told(row.prompt, words.tokens)
            sampling = replace(row.sampling, max_tokens=room)
            second.append(Row(told, sampling, row.adapter, row.stream | _SPEECH_STREAM, row.speech_limit))
        start = base.tokens.text_size
        with closing(decode(base.talking, base.speech_grammar, second, logprobs=logprobs, stop=stop)) as steps:
            while True:
                try:
                    step = next(steps)
                except StopIteration as end:
                    spoken: list[Completion] = end.value
                    break
                yield Step([asked[row] for row in step.rows], [start + token for token in step.tokens])
        for index, speech in zip(asked, spoken, strict=True):
            words = written[index]
            words.tokens += [start + token for token in speech.tokens]
            words.logprobs += speech.logprobs
            words.finished = speech.finished
        return written

    def _adapter(self, checkpoint: str) -> str | None:
        if checkpoint not in self.adapters:
            raise GenerationError(f'Checkpoint "{checkpoint}" is not loaded; loaded are: {", ".join(self.names)}.')
        return self.adapters[checkpoint]

    def _row(self, request: Request) -> Row:
        prompt = self.encode_prompt(request.dialogue, request.sampling.max_tokens)
        limit = self._speech_limit(request.sampling)
        return Row(prompt, request.sampling, self._adapter(request.checkpoint), 0, limit)

    def _check_room(self, prompt: Sequence[int]) -> None:
        if len(prompt) >= self.base.context:
            raise GenerationError(f"The prompt has {len(prompt)} tokens and the model holds {self.base.context}.")

    def _fitted(self, rows: Sequence[Row]) -> list[Row]:
        """The same rows with no more words than the thinker has room for."""
        fitted = []
        for row in rows:
            room = self.base.context - len(row.prompt)
            few = row.sampling.max_tokens <= room
            fitted.append(row if few else replace(row, sampling=replace(row.sampling, max_tokens=room)))
        return fitted

    def _speech_limit(self, sampling: Sampling) -> int:
        frames = max(1, int(sampling.max_seconds * self.base.codec.vocoder.frames_per_second))
        return frames * self.base.tokens.books


def _finished(steps: Generator[Step, None, list[Completion]]) -> list[Completion]:
    """Runs the steps to their end and gives what they return."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
