"""The model being trained: its adapter (or all its weights), the frozen reference beside it, and their scores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from wavalign.models import attention
from wavalign.models.channel_adapters import ChannelRanks
from wavalign.models.loading import ADAPTER_WEIGHTS, tensor_shapes
from wavalign.models.protocol import Checkpoint, CheckpointError, TrainableBase
from wavalign.models.registry import Registry
from wavalign.models.registry_code import may_run_code_in
from wavalign.models.registry_layouts import layout_at
from wavalign.models.shared_rows import FlatScores
from wavalign.training import sharding
from wavalign.training.batch import Unit
from wavalign.training.config import ConfigError, LoraTuning, TrainConfig

POLICY, REFERENCE = "policy", "reference"
_ADAPTER, _START = "default", "start"
PROVENANCE = "provenance.json"


class Trainee:
    """One base with what is trained on it.

    ``policy`` samples and encodes; its checkpoints are "policy" and "reference". ``module`` is what forwards run
    through: the model, or what Accelerate wrapped around it (set it after preparing).
    """

    def __init__(self, config: TrainConfig, registry: Registry, device: torch.device, needs_reference: bool) -> None:
        self.config = config
        self.origin: Checkpoint = registry.checkpoint(config.base)
        self.base: TrainableBase = _own_base(self.origin, device)
        attention.settle_for_training(self.base.network)
        torch.manual_seed(config.seed)
        self.frozen: TrainableBase | None = None
        self.ranks: ChannelRanks | None = None
        if isinstance(config.tuning, LoraTuning):
            self._adapt(config.tuning)
            names = {POLICY: _ADAPTER, REFERENCE: _START if self.origin.adapter else None}
            self.policy = self.sampled_reference = self.base.policy(names)
        else:
            if self.origin.adapter is not None:
                raise ConfigError(f'tuning.kind full starts from a base, and "{config.base}" is an adapter.')
            self.base.unfreeze()
            self.policy = self.base.policy({POLICY: None})
            if needs_reference:
                self.frozen = self.base.frozen_copy()
                self.sampled_reference = self.frozen.policy({REFERENCE: None})
        self.module: nn.Module = self.base.model
        self.precision = _precision(config, device)
        self.packed = self._packing(config)
        if config.gradient_checkpointing:
            self.network.gradient_checkpointing_enable({"use_reentrant": False})

    @property
    def network(self) -> nn.Module:
        return self.base.network

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained, in a fixed order."""
        return [p for p in self.base.model.parameters() if p.requires_grad]

    def logprobs(self, units: Sequence[Unit]) -> FlatScores:
        """Of the wanted tokens of ``units`` under the policy; where gradients are on, as training sees it (dropout)."""
        learning = torch.is_grad_enabled()
        self.base.model.train(learning)
        # Without gradients no process waits for another: measuring may take one of them more forwards.
        module = self.module if learning else self.base.model
        try:
            with self._autocast():
                return self.base.score_rows(module, [unit.row for unit in units], self.packed)
        finally:
            self.base.model.eval()

    @torch.no_grad()
    def reference_logprobs(self, units: Sequence[Unit]) -> torch.Tensor:
        """Of the same tokens under the reference: the adapter switched off, or the frozen copy; (N,)."""
        rows = [unit.row for unit in units]
        with self._autocast():
            if self.frozen is not None:
                return self.frozen.score_rows(self.frozen.model, rows, self.packed).logprobs
            with self._reference():
                return self.base.score_rows(self.base.model, rows, self.packed).logprobs

    def stepped(self) -> None:
        """The optimiser has changed the weights: what decodes quickly must read them again."""
        self.base.weights_changed(_ADAPTER if isinstance(self.config.tuning, LoraTuning) else None)

    def gathered(self) -> AbstractContextManager[None]:
        """Inside, sampling and scoring without gradients need no other process, where weights are shared out."""
        return sharding.gathered(self.base.model, *([self.frozen.model] if self.frozen else []))

    def snapshot(self) -> list[torch.Tensor]:
        """A copy of what this process holds of the trained weights."""
        return [sharding.own(p).detach().clone() for p in self.parameters]

    @contextmanager
    def at(self, weights: Sequence[torch.Tensor]) -> Iterator[None]:
        """Inside, the policy has the trained weights of an earlier ``snapshot``; not for forwards with gradients."""
        now = self.snapshot()
        self._set(weights)
        try:
            yield
        finally:
            self._set(now)

    @torch.no_grad()
    def _set(self, weights: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, weights, strict=True):
            sharding.own(parameter).copy_(value)
        self.stepped()

    def state(self, keep: bool, exporting: bool = False) -> dict[str, torch.Tensor] | None:
        """The weights for ``save_state``, or for ``export``, gathered where they are shared out: all processes must
        ask, and those that ``keep`` them get them. None where they are whole anyway."""
        if not self.sharded:
            return None
        if isinstance(self.config.tuning, LoraTuning):
            return sharding.trained_state(self.base.model, keep)
        return sharding.whole_state(self.base.exported if exporting else self.network, keep)

    @property
    def sharded(self) -> bool:
        """Whether this process holds only its share of the weights."""
        return sharding.is_shared_out(self.base.model)

    def save_state(self, folder: Path, state: Mapping[str, torch.Tensor] | None = None) -> None:
        """The trained weights, exactly, into ``folder``."""
        if isinstance(self.config.tuning, LoraTuning):
            self.base.model.save_pretrained(
                str(folder), selected_adapters=[_ADAPTER], save_embedding_layers=False, state_dict=state
            )
            if self.ranks is not None:
                self.ranks.write(folder)
        elif state is None:
            save_model(self.network, str(folder / "model.safetensors"))
        else:
            save_file(sharding.untied(state), str(folder / "model.safetensors"))

    def load_state(self, folder: Path) -> None:
        """What ``save_state`` wrote, exactly."""
        if isinstance(self.config.tuning, LoraTuning):
            tensors = load_file(str(folder / ADAPTER_WEIGHTS))
            if self.sharded:
                named = {key.replace(".weight", f".{_ADAPTER}.weight"): value for key, value in tensors.items()}
                sharding.set_weights(self.base.model, named)
            else:
                from peft import set_peft_model_state_dict

                set_peft_model_state_dict(self.base.model, tensors, adapter_name=_ADAPTER)
        elif self.sharded:
            sharding.set_weights(self.network, load_file(str(folder / "model.safetensors")))
        else:
            load_model(self.network, str(folder / "model.safetensors"))
        self.stepped()

    def export(
        self, folder: Path, provenance: Mapping[str, Any], state: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        """A checkpoint that the registry loads: a plain PEFT folder, or after full fine-tuning a base's folder."""
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        if isinstance(self.config.tuning, LoraTuning):
            self.save_state(temporary, state)
        else:
            self.base.export(temporary, Path(self.origin.base), state)
        (temporary / PROVENANCE).write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)

    def _adapt(self, tuning: LoraTuning) -> None:
        from peft import LoraConfig, PeftModel, get_peft_model

        base = self.base
        self.ranks = self._shares(tuning)
        adapters = [_ADAPTER]
        if self.origin.adapter is not None:
            tensor_shapes(self.origin.name, self.origin.adapter / ADAPTER_WEIGHTS)
            model = PeftModel.from_pretrained(
                base.model, str(self.origin.adapter), adapter_name=_ADAPTER, is_trainable=True
            )
            model.load_adapter(str(self.origin.adapter), adapter_name=_START, is_trainable=False)
            model.set_adapter(_ADAPTER)
            adapters.append(_START)
        else:
            both = 2 if tuning.per_channel else 1  # the scale, alpha / rank, stays what it is for each
            settings = LoraConfig(
                r=both * tuning.rank,
                lora_alpha=both * tuning.alpha,
                lora_dropout=tuning.dropout,
                target_modules=list(tuning.targets or base.policy({}).lora_targets()),
                task_type=base.task_type,
            )
            try:
                model = get_peft_model(base.model, settings, adapter_name=_ADAPTER)
            except ValueError as error:
                reason = str(error).split("\n")[0]
                raise ConfigError(f"tuning.targets does not fit {base.name}: {reason}") from error
        model.peft_config[_ADAPTER].base_model_name_or_path = base.name
        base.attached(model.eval())
        if self.ranks is not None:
            for adapter in adapters:
                base.split(adapter, self.ranks)

    def _shares(self, tuning: LoraTuning) -> ChannelRanks | None:
        """How the adapter's ranks are shared out between the channels; None where it is one for both.

        Raises:
            ConfigError: when what is asked for does not fit the checkpoint or its layout.
        """
        if self.origin.adapter is not None:
            known = ChannelRanks.read(self.origin.name, self.origin.adapter)
            if tuning.per_channel and known is None:
                raise ConfigError(
                    f'tuning.per_channel: "{self.origin.name}" is one adapter for both channels; start from its base.'
                )
        else:
            known = ChannelRanks(tuning.rank, tuning.rank) if tuning.per_channel else None
        if known is not None and self.origin.layout != "interleaved":
            raise ConfigError(
                "tuning.per_channel is for layouts with words and speech in one stream; "
                f"{self.base.name} is {self.origin.layout}."
            )
        if known is not None and self.config.gradient_checkpointing:
            raise ConfigError("gradient_checkpointing does not go with adapters split by channel; switch it off.")
        return known

    @contextmanager
    def _reference(self) -> Iterator[None]:
        model = self.base.model
        if self.origin.adapter is None:
            with model.disable_adapter():
                yield
            return
        model.set_adapter(_START)
        try:
            yield
        finally:
            model.set_adapter(_ADAPTER)

    def _autocast(self) -> Any:
        if self.precision is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)

    def _packing(self, config: TrainConfig) -> bool:
        if config.packing == "off":
            return False
        able = self.base.packs()
        if config.packing == "on" and not able:
            raise ConfigError(f"packing is on, but {self.base.name} gives packed rows other numbers; use auto or off.")
        return able


def _own_base(origin: Checkpoint, device: torch.device) -> TrainableBase:
    """A base that nothing else uses, as its layout loads it."""
    folder = Path(origin.base)
    dtype = None if origin.dtype == "auto" else getattr(torch, origin.dtype)
    loader = layout_at(origin.base_name, folder).opened()
    return loader.load_base(origin.base_name, folder, device, dtype, may_run_code_in(folder))


def _precision(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    if config.precision == "auto":
        return torch.bfloat16 if _multiplies_bfloat16(device) else None
    return torch.bfloat16 if config.precision == "bfloat16" else None


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 are faster than of float32: emulation in software is slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    probes = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(probe is not None and probe() for probe in probes)


def registry_of(config: TrainConfig, assets: Path, home: Path | None) -> Registry:
    """Raises:
    CheckpointError: when there is no such folder of checkpoints.
    """
    folder = config.assets or assets
    if not folder.is_dir():
        raise CheckpointError(f"There is no folder of checkpoints {folder}; name it with assets=... or --assets.")
    return Registry(folder, home)
