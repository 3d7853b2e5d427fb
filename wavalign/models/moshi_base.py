"""The weights, codec and decoding parts that all checkpoints of one Moshi share."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue
from wavalign.models.moshi_codec import DrawnCodec, MimiCodec
from wavalign.models.moshi_columns import MoshiIds, grammar_of
from wavalign.models.moshi_depth import stacked
from wavalign.models.moshi_engine import MoshiEngine
from wavalign.models.moshi_family import DESCRIPTION_FILE, TITLE, MoshiFamily
from wavalign.models.moshi_network import MoshiNetwork
from wavalign.models.moshi_prompting import MoshiPrompter
from wavalign.models.parallel_base import ParallelBase
from wavalign.models.parallel_tokens import ParallelTokens

_BESIDE = (DESCRIPTION_FILE, "preprocessor_config.json", "generation_config.json")


class MoshiBase(ParallelBase):
    """``full`` is transformers' model, with the depth transformer unstacked; ``mimi`` its codec."""

    speech_in_order = False  # the first codebook of a frame is drawn a column before the others

    def __init__(
        self,
        name: str,
        full: Any,
        network: MoshiNetwork,
        tokenizer: Any,
        tokens: ParallelTokens,
        family: MoshiFamily,
        mimi: MimiCodec,
    ) -> None:
        ids: MoshiIds = network.ids
        grammar = grammar_of(ids, tokens)
        super().__init__(name, TITLE, network, tokenizer, tokens, grammar, DrawnCodec(mimi, ids), family.sampling)
        self.full = full
        self.family = family
        self.ids = ids
        self.mimi = mimi
        config = full.config
        # One position is taken by what stands before the first frame.
        self.context = min(config.max_position_embeddings, config.sliding_window or config.max_position_embeddings) - 1
        self.prompter = MoshiPrompter(ids, tokens, grammar, tokenizer, mimi, self.context)
        self.engine = MoshiEngine(network, tokens, self.lock)

    def encode_prompt(self, dialogue: Dialogue, room: int) -> list[int]:
        columns = -(-room // self.ids.column_width)
        return self.prompter.encode(dialogue, min(columns, self.context // 2))

    def encode_target(self, text: str, speech: Waveform | Sequence[int]) -> list[int]:
        return self.prompter.target(text, speech)

    def room(self, prompt_length: int) -> int:
        columns = self.context - prompt_length // self.ids.prompt_width
        return 2 + (columns - 1) * self.ids.column_width if columns > 0 else 0

    def speech_tokens(self, seconds: float) -> int:
        frames = max(1, int(seconds * self.mimi.frames_per_second))
        return frames * self.ids.books + 1

    def adaptable(self) -> list[str]:
        """Paths of the linear modules of both transformers' layers: attention and MLP, and of each code book its own.

        Not the heads and the projections between the transformers, and nothing of Mimi.
        """
        stacks = {"decoder.model.layers.": self.network.decoder.model.layers}
        stacks["depth_decoder.layers."] = self.network.depth_decoder.layers
        return [
            prefix + path
            for prefix, layers in stacks.items()
            for path, module in layers.named_modules()
            if isinstance(getattr(module, "base_layer", module), nn.Linear)
            and ".lora_" not in path
            and not path.endswith(".base_layer")
        ]

    def attached(self, model: Any) -> None:
        super().attached(model)
        self.engine.model = model

    def unfreeze(self) -> None:
        """Both transformers with their embeddings and heads are trained; Mimi stays as it is."""
        self.network.float().requires_grad_(True)

    def frozen_copy(self) -> MoshiBase:
        full = copy.deepcopy(self.full).eval().requires_grad_(False)
        network = copy.copy(self.network)
        network._modules = {name: getattr(full, name) for name in self.network._modules}
        mimi = MimiCodec(full.audio_encoder, self.ids.books)
        return MoshiBase(self.name, full, network, self.tokenizer, self.tokens, self.family, mimi)

    def export(self, folder: Path, source: Path, state: Mapping[str, torch.Tensor] | None = None) -> None:
        weights = self.full.state_dict() if state is None else state
        self.full.save_pretrained(str(folder), state_dict=stacked(weights))
        self.tokenizer.save_pretrained(str(folder))
        for name in _BESIDE:
            if (source / name).is_file() and not (folder / name).exists():
                shutil.copyfile(source / name, folder / name)
