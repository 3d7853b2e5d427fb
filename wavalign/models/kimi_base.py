"""The weights, codec and encoder that all checkpoints of one Kimi-Audio base share."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wavalign.audio import Waveform
from wavalign.codecs.protocol import SpeechCodec
from wavalign.dialogue import Dialogue
from wavalign.models.kimi_description import DESCRIPTION_FILE, KimiDescription
from wavalign.models.kimi_engine import KimiEngine
from wavalign.models.kimi_network import KimiNetwork
from wavalign.models.kimi_prompting import Ears, KimiPrompter, WhisperFeatures, target_of
from wavalign.models.kimi_tokens import KimiTokenizer, Streams, grammar_of
from wavalign.models.parallel_base import ParallelBase

TITLE = "Kimi-Audio"
_ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_BESIDE = ("*.py", "tokenizer*", "special_tokens_map.json", "*.model", "vocab*", "merges.txt", "generation_config.json")
"""Files of a base's folder that its weights are useless without and ``save_pretrained`` does not write."""


class KimiBase(ParallelBase):
    """A ``TrainableBase``. ``full`` is the checkpoint's own model, of which ``network`` is made; ``places`` says where
    its codec and its encoder were found."""

    def __init__(
        self,
        name: str,
        full: Any,
        tokenizer: KimiTokenizer,
        streams: Streams,
        codec: SpeechCodec,
        features: WhisperFeatures | None,
        description: KimiDescription,
    ) -> None:
        network = KimiNetwork(full).eval()
        network.streams = streams
        grammar = grammar_of(streams)
        super().__init__(name, TITLE, network, tokenizer, streams.tokens, grammar, codec, description.sampling)
        self.full = full
        self.streams = streams
        self.description = description
        self.context: int = full.config.max_position_embeddings
        self.features = features
        self.encoder = None if features is None else features.encoder
        self.prompter = KimiPrompter(
            streams, tokenizer, Ears(codec, streams.tokens.speech_start, features), self.context
        )
        self.engine = KimiEngine(self)

    def encode_prompt(self, dialogue: Dialogue, room: int) -> list[int]:
        # Each step holds at least one token of the reply, but for those of the delay.
        return self.prompter.encode(dialogue, min(room + self.streams.delay, self.context // 2))

    def encode_target(self, text: str, speech: Waveform | Sequence[int]) -> list[int]:
        return target_of(self.prompter, text, speech)

    def room(self, prompt_length: int) -> int:
        return self.context - prompt_length // 2 - self.streams.delay

    def speech_tokens(self, seconds: float) -> int:
        return int(seconds * self.codec.tokens_per_second)

    def adaptable(self) -> list[str]:
        """Of the shared layers and of the audio's own; not the heads, the embeddings and the projected recordings."""
        paths = []
        for prefix, layers in (("layers", self.network.model.layers), ("mimo_layers", self.network.model.mimo_layers)):
            for path, module in layers.named_modules():
                module = getattr(module, "base_layer", module)
                if isinstance(module, nn.Linear) and path.rsplit(".", 1)[-1] in _ADAPTED:
                    paths.append(f"model.{prefix}.{path}")
        return paths

    def unfreeze(self) -> None:
        """All of the network is trained; codec and encoder stay as they are."""
        self.network.float().requires_grad_(True)

    def frozen_copy(self) -> KimiBase:
        full = copy.deepcopy(self.full).eval().requires_grad_(False)
        copied = KimiBase(self.name, full, self.tokenizer, self.streams, self.codec, self.features, self.description)
        copied.network.gradient_checkpointing_disable()
        return copied

    def export(self, folder: Path, source: Path, state: Mapping[str, torch.Tensor] | None = None) -> None:
        """Weights as they are now, with the Python files and the tokenizer of ``source``; codec and encoder are named
        where they are, not copied."""
        self.full.save_pretrained(str(folder), state_dict=state)
        for pattern in _BESIDE:
            for file in source.glob(pattern):
                if file.is_file():
                    shutil.copyfile(file, folder / file.name)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        told = json.loads((source / "config.json").read_text(encoding="utf-8"))
        config |= {key: told[key] for key in ("auto_map", "architectures", "model_type") if key in told}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        written = json.dumps(self.description.placed(), indent=1)
        (folder / DESCRIPTION_FILE).write_text(written + "\n", encoding="utf-8")
