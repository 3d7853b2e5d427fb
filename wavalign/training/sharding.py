"""Weights that are shared out among the processes of a run (FSDP2), through Accelerate's plugin.

Between forwards each process holds its share of weights, gradients and optimiser state. A training forward gathers one
layer at a time. Sampling and measuring read the weights thousands of times in a row, and not equally often in every
process: ``gathered`` brings them together once, and no forward inside it talks to anybody.

What is saved is whole: the same files as one process writes, so that a run goes on with any number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from wavalign.training.config import ConfigError, TrainConfig

_LAUNCHED = "ACCELERATE_USE_FSDP"
"""What ``accelerate launch --use_fsdp`` sets, and each of its choices beside it as FSDP_*."""


def accelerator_of(config: TrainConfig) -> Accelerator:
    """The processes that a launcher started, as ``config.parallel`` wants them.

    Raises:
        ConfigError: when weights were to be shared out in a way that the loop cannot carry out.
    """
    launched = os.environ.get(_LAUNCHED, "false").lower() == "true"
    cpu = not torch.cuda.is_available()
    if config.parallel == "ddp" and launched:
        raise ConfigError("parallel is ddp, but accelerate was launched with FSDP; use parallel=auto.")
    if PartialState(cpu=cpu).num_processes == 1 or not (launched or config.parallel == "fsdp2"):
        return Accelerator(cpu=cpu)
    if launched:
        plugin = FullyShardedDataParallelPlugin()
        if plugin.fsdp_version != 2:
            raise ConfigError("Only version 2 of FSDP is supported: launch with --fsdp_version 2.")
        if plugin.cpu_ram_efficient_loading:
            raise ConfigError("FSDP must not load weights in the first process alone; set it to false.")
    else:
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
        )
    accelerator = Accelerator(cpu=cpu, fsdp_plugin=plugin)
    if cpu:
        # Accelerate shards on accelerators only, though torch does on processors as well.
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP  # where it is read again and again
    return accelerator


def check_layout(name: str, layout: str, hears: bool) -> None:
    """Refuses what reads weights past the layers that gather them. ``hears``: the base has an encoder of its own.

    Raises:
        ConfigError: for bases other than those of one stream of tokens.
    """
    if layout != "interleaved" or hears:
        raise ConfigError(
            f"parallel fsdp2 is for bases of one stream of tokens; {name} has parts that are run by themselves. "
            "Use parallel=ddp."
        )


def prepare(
    accelerator: Accelerator, model: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """``model`` as training's forwards run through it, and its optimiser."""
    if is_sharding(accelerator):
        accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = _layers(model)
    prepared = accelerator.prepare(model, optimiser)
    if is_sharding(accelerator):
        _settle(model)
    return prepared


def share_out(accelerator: Accelerator, frozen: nn.Module) -> None:
    """Does the same to a model that is not trained."""
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    if is_sharding(accelerator):
        _settle(fsdp2_prepare_model(accelerator, frozen))


def is_sharding(accelerator: Accelerator) -> bool:
    return accelerator.num_processes > 1 and accelerator.distributed_type == DistributedType.FSDP


@contextmanager
def gathered(*models: nn.Module) -> Iterator[None]:
    """Inside, every process has all weights, and forwards (without gradients) exchange nothing. All must enter."""
    parts = [module for model in models for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part not in models, recurse=False)
            part.reshard()


def _settle(model: FSDPModule) -> None:
    """Decides what torch otherwise decides at the first forward, wherever that comes from.

    ``model`` is the root: sampling may begin with a part of it. Whole parameters are made at the first gathering, and
    learn there which of them are trained.
    """
    model._get_fsdp_state()._lazy_init()
    with gathered(model):
        pass


def own(value: torch.Tensor) -> torch.Tensor:
    """This process's share of a tensor, or all of it where it is not shared out."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: torch.Tensor) -> torch.Tensor:
    """A tensor that may be shared out, whole, in every process. All must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def is_shared_out(model: nn.Module) -> bool:
    return isinstance(model, FSDPModule)


def trained_state(model: nn.Module, keep: bool) -> dict[str, torch.Tensor]:
    """The trained parameters alone, as ``whole_state`` gives all."""
    trained = [(name, whole(p.detach())) for name, p in model.named_parameters() if p.requires_grad]
    return {name: value.cpu() for name, value in trained} if keep else {}


def whole_state(model: nn.Module, keep: bool) -> dict[str, torch.Tensor]:
    """``model.state_dict()`` with whole tensors on the CPU where ``keep``, else empty. All must ask.

    What is tied stays tied: two names, one tensor.
    """
    tensors: dict[int, torch.Tensor] = {}
    names: dict[str, int] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        names[name] = id(value)
        if id(value) not in tensors:
            together = whole(value.detach())
            tensors[id(value)] = together.cpu() if keep else torch.empty(0)
    return {name: tensors[place] for name, place in names.items()} if keep else {}


def untied(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each tensor once, under the first of its names: what safetensors can hold."""
    first: dict[int, str] = {}
    for name in sorted(state):
        first.setdefault(id(state[name]), name)
    return {name: state[name].contiguous() for name in first.values()}


def set_weights(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Gives parameters and buffers of ``model`` these values, whole tensors by name."""
    own = model.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(_like(tensor, own[name]))


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """``optimiser.state_dict()`` with whole tensors."""
    state = optimiser.state_dict()
    return {**state, "state": {key: {n: _plain(v) for n, v in each.items()} for key, each in state["state"].items()}}


def set_optimiser_state(
    optimiser: torch.optim.Optimizer, state: Mapping[str, Any], parameters: Sequence[nn.Parameter]
) -> None:
    """Loads what ``optimiser_state`` gave, for ``parameters`` in the optimiser's order."""
    shared = {
        key: {
            name: _like(value, parameters[key]) if torch.is_tensor(value) and value.dim() else value
            for name, value in each.items()
        }
        for key, each in state["state"].items()
    }
    optimiser.load_state_dict({**state, "state": shared})


def _plain(value: Any) -> Any:
    return whole(value) if torch.is_tensor(value) else value


def _like(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """``tensor`` shared out as ``parameter`` is."""
    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return tensor


def _layers(model: nn.Module) -> list[str]:
    """Names of the classes of the layers that are gathered one at a time, as the networks themselves say."""
    present = {type(module).__name__ for module in model.modules()}
    named = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    return sorted(named & present)
