"""The weights, vocoder and decoding parts that all checkpoints of one thinker-talker base share."""

from __future__ import annotations

import copy
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wavalign.models.protocol import CheckpointError
from wavalign.models.shared_rows import FlatScores, SharedRow
from wavalign.models.thinker_talker import ThinkerTalkerModel
from wavalign.models.thinker_talker_engine import OmniEngine, TalkerEngine, ThinkerEngine
from wavalign.models.thinker_talker_families import (
    DESCRIPTION_FILE,
    Family,
    OmniTokens,
    SpeechGrammar,
    TextGrammar,
)
from wavalign.models.thinker_talker_network import OmniNetwork
from wavalign.models.thinker_talker_prompting import OmniPrompter
from wavalign.models.thinker_talker_vocoder import OmniCodec

_BESIDE = ("spk_dict.pt", DESCRIPTION_FILE, "preprocessor_config.json", "generation_config.json")
_ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass
class OmniBase:
    """What all checkpoints of one base share; a ``TrainableBase``. ``full`` is the family's model of transformers.

    ``model`` is the network of thinker and talker, and becomes a PEFT model when the first adapter is attached.
    """

    name: str
    model: Any
    full: Any
    family: Family
    tokenizer: Any
    tokens: OmniTokens
    codec: OmniCodec
    prompter: OmniPrompter
    lock: threading.RLock = field(default_factory=threading.RLock)
    task_type: str | None = None

    def __post_init__(self) -> None:
        self.network: OmniNetwork = self.model
        self.context: int = self.network.text_config.max_position_embeddings
        self.talker_context: int = self.network.talker.model.config.max_position_embeddings
        self.engine = OmniEngine(self.model, self.network, self.lock)
        self.thinking, self.talking = ThinkerEngine(self.engine), TalkerEngine(self.engine)
        self.text_grammar, self.speech_grammar = TextGrammar(self.tokens), SpeechGrammar(self.tokens)
        self.decoders = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="vocoder")

    def adaptable(self) -> list[str]:
        """Paths of the linear modules that adapters may change: of the thinker's and talker's layers, row by row.

        Not the experts and what stands beside them, which see all rows as one, and nothing of the encoders.
        """
        stacks = {
            "thinker.model.language_model.layers.": self.network.language_model.layers,
            "talker.model.layers.": self.network.talker.model.layers,
        }
        if hasattr(self.network.talker, "code_predictor"):
            predictor = self.network.talker.code_predictor.model.layers
            stacks["talker.code_predictor.model.layers."] = predictor
        paths = []
        for prefix, layers in stacks.items():
            for path, module in layers.named_modules():
                module = getattr(module, "base_layer", module)
                last = path.rsplit(".", 1)[-1]
                if isinstance(module, nn.Linear) and last in _ADAPTED and "expert" not in path:
                    paths.append(prefix + path)
        return paths

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
                    f"The adapter's target modules {reached}; in {self.family.title} adapters change the thinker's and "
                    "the talker's layers. Leave tuning.targets empty, or name modules of those."
                )
            config.target_modules = injected  # exact names, so that no other model finds more of them
        with self.lock:
            self.model = self.engine.model = model

    def policy(self, adapters: Mapping[str, str | None]) -> ThinkerTalkerModel:
        return ThinkerTalkerModel(self, adapters)

    def score_rows(self, module: nn.Module, rows: Sequence[SharedRow], packed: bool) -> FlatScores:
        """Of the wanted tokens of ``rows``, which are never packed; see ``TrainableBase``."""
        single = [SharedRow(row.prompt, [completion]) for row in rows for completion in row.completions]
        wanted = sum(len(row.completions[0].wanted) for row in single)
        if wanted == 0:
            empty = torch.zeros(0, device=self.engine.device)
            return FlatScores(empty, empty)
        heard = [self.engine.heard(row.prompt) for row in single]
        logprobs, entropy = module(call="score", rows=single, heard=heard)
        return FlatScores(logprobs, entropy)

    def packs(self) -> bool:
        return False

    def weights_changed(self, adapter: str | None) -> None:
        self.engine.weights_changed(adapter)

    def frozen_copy(self) -> OmniBase:
        full = copy.deepcopy(self.full).eval().requires_grad_(False)
        network = copy.copy(self.network)
        network._modules = {"thinker": full.thinker, "talker": full.talker}
        return OmniBase(self.name, network, full, self.family, self.tokenizer, self.tokens, self.codec, self.prompter)

    def unfreeze(self) -> None:
        """The thinker's language model and the talker are trained; encoders and vocoder stay as they are."""
        network = self.network.float()
        for part in (network.language_model, network.thinker.lm_head, network.talker):
            part.requires_grad_(True)

    @property
    def exported(self) -> Any:
        return self.full

    def export(self, folder: Path, source: Path, state: Mapping[str, torch.Tensor] | None = None) -> None:
        self.full.save_pretrained(str(folder), state_dict=state)
        self.tokenizer.save_pretrained(str(folder))
        self.prompter.ears.extractor.save_pretrained(str(folder))
        for name in _BESIDE:
            if (source / name).is_file() and not (folder / name).exists():
                shutil.copyfile(source / name, folder / name)
