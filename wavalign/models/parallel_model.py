"""A spoken dialogue model of the parallel layout: in every step of time a token of text and codes of speech.

A completion is flat, in the order in which it is drawn, so it is one stream for the shared decoding loop as in the
interleaved layout: streaming, batches and rollouts are those of ``InterleavedModel``. What differs is asked of the
base: what there is room for, how a target is written, and scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue
from wavalign.models.interleaved import InterleavedModel
from wavalign.models.protocol import GenerationError, Sampling, Scores
from wavalign.models.scoring import active
from wavalign.models.shared_rows import Scored, SharedRow

if TYPE_CHECKING:
    from wavalign.models.parallel_base import ParallelBase


class ParallelModel(InterleavedModel):
    """A ``SpokenDialogueModel`` and ``TrainablePolicy`` over one base and some of its checkpoints.

    ``text_only`` rollouts draw their codes too, because words depend on the codes before them; a completion ends where
    no word can follow.
    """

    base: ParallelBase

    @property
    def speech_in_order(self) -> bool:
        return self.base.speech_in_order

    @property
    def default_sampling(self) -> Sampling:
        return self.base.sampling

    def encode_prompt(self, dialogue: Dialogue, room: int | None = None) -> list[int]:
        """The streams before the reply, flat. ``room``: tokens left for the completion."""
        return self.base.encode_prompt(dialogue, self.default_sampling.max_tokens if room is None else room)

    def encode_target(self, text: str, speech: Waveform | Sequence[int]) -> list[int]:
        """The completion that says ``text`` with ``speech`` (a waveform, or the codec's codes frame by frame).

        Raises:
            GenerationError: when they cannot be one reply of this model.
        """
        return self.base.encode_target(text, speech)

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        *,
        checkpoint: str | None = None,
    ) -> Scores:
        """Teacher-forced log-probabilities and entropies of text and codes; see ``TrainablePolicy``."""
        adapter = self._adapter(checkpoint or self.names[0])
        rows = [
            SharedRow(prompt, [Scored(completion, range(len(completion)))])
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        with self.base.lock, active(self.base.model, adapter):
            flat = self.base.score_rows(self.base.model, rows, False)
        lengths = torch.tensor([len(completion) for completion in completions])
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).to(flat.logprobs.device)
        empty = torch.zeros(mask.shape, device=mask.device)
        return Scores(empty.masked_scatter(mask, flat.logprobs), empty.masked_scatter(mask, flat.entropy), mask)

    def lora_targets(self) -> list[str]:
        """Full paths of the linear modules that adapters may change."""
        return self.base.adaptable()

    def _fitted(self, sampling: Sampling, prompt_length: int) -> Sampling:
        room = self.base.room(prompt_length)
        if room < 1:
            raise GenerationError(
                f"The prompt has {prompt_length} tokens, which leaves this model no room for a reply. Shorten it."
            )
        return sampling if sampling.max_tokens <= room else replace(sampling, max_tokens=room)

    def _speech_limit(self, sampling: Sampling) -> int:
        return max(1, self.base.speech_tokens(sampling.max_seconds))
