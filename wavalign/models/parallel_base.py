"""What the checkpoints of one base with parallel streams share, as far as the families are alike."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wavalign.audio import Waveform
from wavalign.codecs.protocol import SpeechCodec
from wavalign.dialogue import Dialogue
from wavalign.models.engine import Engine
from wavalign.models.parallel_grammar import CompiledGrammar
from wavalign.models.parallel_model import ParallelModel
from wavalign.models.parallel_tokens import ParallelTokens
from wavalign.models.protocol import CheckpointError, Sampling
from wavalign.models.shared_rows import FlatScores, SharedRow


class ParallelBase(ABC):
    """A ``TrainableBase``. ``model`` is ``network``, and becomes a PEFT model when the first adapter is attached.

    ``network(call="score", rows=...)`` gives log-probabilities and entropies of the wanted tokens, in order;
    ``codec`` decodes the speech tokens of a completion in their order; ``engine`` is set by the family.
    """

    engine: Engine
    full: Any
    """The model of transformers that the network is a part of."""
    task_type: str | None = None
    speech_in_order = True

    def __init__(
        self,
        name: str,
        title: str,
        network: nn.Module,
        tokenizer: Any,
        tokens: ParallelTokens,
        grammar: CompiledGrammar,
        codec: SpeechCodec,
        sampling: Sampling,
    ) -> None:
        self.name = name
        self.title = title
        self.network = network
        self.model: Any = network
        self.tokenizer = tokenizer
        self.tokens = tokens
        self.grammar = grammar
        self.codec = codec
        self.sampling = sampling
        self.lock = threading.RLock()
        self.decoders = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="codec")

    # -- what a family says --------------------------------------------------------------------------------------------

    @abstractmethod
    def encode_prompt(self, dialogue: Dialogue, room: int) -> list[int]:
        """Leaves ``room`` tokens for the reply, or half of what the model holds where that is less."""

    @abstractmethod
    def encode_target(self, text: str, speech: Waveform | Sequence[int]) -> list[int]:
        """See ``TrainablePolicy``."""

    @abstractmethod
    def room(self, prompt_length: int) -> int:
        """Completion tokens that fit behind a prompt of so many ids."""

    @abstractmethod
    def speech_tokens(self, seconds: float) -> int:
        """Speech tokens of so many seconds."""

    @abstractmethod
    def adaptable(self) -> list[str]:
        """Paths of the linear modules that adapters may change, row by row."""

    @abstractmethod
    def unfreeze(self) -> None:
        """See ``TrainableBase``."""

    @abstractmethod
    def frozen_copy(self) -> ParallelBase:
        """See ``TrainableBase``."""

    @abstractmethod
    def export(self, folder: Path, source: Path, state: Mapping[str, torch.Tensor] | None = None) -> None:
        """See ``TrainableBase``."""

    # -- what is alike -------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def exported(self) -> Any:
        return self.full

    def policy(self, adapters: Mapping[str, str | None]) -> ParallelModel:
        return ParallelModel(self, adapters)

    def attached(self, model: Any) -> None:
        """``model`` is this base with one more adapter; where adapters reach is checked.

        Raises:
            CheckpointError: when one reaches a module that cannot be adapted.
        """
        allowed = set(self.adaptable())
        for name, config in model.peft_config.items():
            injected = {
                path
                for path, module in self.network.named_modules()
                if name in getattr(module, "lora_A", {}) and hasattr(module, "base_layer")
            }
            wrong = sorted(injected - allowed)
            if wrong or not injected:
                reached = f"reach {wrong[0]}" if wrong else "reach nothing"
                raise CheckpointError(
                    f"The adapter's target modules {reached}; in {self.title} adapters change the layers of its "
                    "transformers. Leave tuning.targets empty, or name modules of those."
                )
            config.target_modules = injected  # exact names, so that no other model finds more of them
        with self.lock:
            self.model = model

    def score_rows(self, module: nn.Module, rows: Sequence[SharedRow], packed: bool) -> FlatScores:
        """Of the wanted tokens of ``rows``, which are never packed; see ``TrainableBase``."""
        single = [SharedRow(row.prompt, [completion]) for row in rows for completion in row.completions]
        if not any(len(row.completions[0].wanted) for row in single):
            empty = torch.zeros(0, device=self.device)
            return FlatScores(empty, empty)
        return FlatScores(*module(call="score", rows=single))

    def packs(self) -> bool:
        return False

    def weights_changed(self, adapter: str | None) -> None:
        """The network's own modules are what runs."""
        self.engine.weights_changed(adapter)
