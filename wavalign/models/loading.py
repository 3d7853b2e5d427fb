"""Reads checkpoint folders into memory, and refuses what does not fit instead of filling gaps with noise or zeros."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

import wavalign.torchaudio_guard  # noqa: F401  (transformers may look for torchaudio)
from wavalign.codecs.loading import CodecError, open_codec
from wavalign.models import attention
from wavalign.models.backbones import BACKBONES, tokenizer_of
from wavalign.models.channel_adapters import CHANNELS_FILE, ChannelRanks
from wavalign.models.ears_code import settings_of
from wavalign.models.hearing import EARS, Heard, ears_class
from wavalign.models.interleaved import Base, InterleavedModel
from wavalign.models.layout import InterleavedDescription, LayoutError, resolve
from wavalign.models.protocol import CheckpointError, Sampling
from wavalign.models.registry import read_json

WEIGHTS = "model.safetensors"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_KEY_PREFIX = "base_model.model."


def load_base(
    name: str,
    folder: Path,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> Base:
    """A base folder onto ``device`` (a GPU when there is one); ``dtype`` None: float32 on a CPU, as stored on a GPU.

    ``trust_remote_code`` lets Python files that come with the checkpoint run; without it they are never imported.

    Raises:
        CheckpointError: when a file is missing, broken, or does not fit the others.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = read_json(name, folder / "config.json")
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise CheckpointError(f'Checkpoint "{name}" is incomplete: tokenizer.json is missing. Restore the folder.')
    for file in weight_files(name, folder):
        tensor_shapes(name, file)
    try:
        description = InterleavedDescription.read(folder)
    except LayoutError as error:
        raise CheckpointError(f'Checkpoint "{name}": {error}') from error
    # One sentence about what failed, in place of a table on the console.
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    settings = {
        "dtype": dtype or (torch.float32 if device.type == "cpu" else "auto"),
        "local_files_only": True,
        "trust_remote_code": trust_remote_code,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # refused below, in words
    }
    try:
        if description.backbone is None:
            tokenizer = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=trust_remote_code
            )
            model, info = AutoModelForCausalLM.from_pretrained(str(folder), **settings)
        else:
            tokenizer = tokenizer_of(folder)
            model, info = BACKBONES[description.backbone](folder, config, settings)
    except LayoutError as error:
        raise CheckpointError(f'Checkpoint "{name}": {error}') from error
    except Exception as error:  # transformers raises many kinds; each is about this folder
        raise CheckpointError(f'Checkpoint "{name}" cannot be loaded: {reason(error)}') from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    check_loaded(name, model, info)
    model.to(device)
    attention.settle(model)
    try:
        tokens = resolve(description, tokenizer, model.get_output_embeddings().weight.shape[0])
        codec = open_codec(description.codec, folder, device)
        heard, deaf = _hearing(name, folder, description, model, device, trust_remote_code)
    except (LayoutError, CodecError) as error:
        raise CheckpointError(f'Checkpoint "{name}": {error}') from error
    if codec.codebook_size != description.speech_count:
        raise CheckpointError(
            f'Checkpoint "{name}" has {description.speech_count} speech tokens, but its codec has '
            f"{codec.codebook_size} codes. Use the codec it was trained with."
        )
    return Base(name, model.eval(), tokenizer, tokens, codec, heard, deaf)


def source_of(folder: Path) -> str:
    """The hub id of a folder in the Hub's cache, else the folder itself: what a host names to let its code run."""
    kind, _, repo = folder.parent.parent.name.partition("--")
    cached = folder.parent.name == "snapshots" and kind == "models" and repo
    return repo.replace("--", "/", 1) if cached else str(folder)


def _hearing(
    name: str, folder: Path, description: InterleavedDescription, model: Any, device: torch.device, trusted: bool
) -> tuple[Heard | None, str | None]:
    """What hears a user's recordings by the checkpoint's own code, or why nothing does.

    Raises:
        LayoutError: when that code may run, and does not fit.
    """
    told = description.user_audio
    if told.kind != "features":
        return None, None
    if not trusted:
        return None, (
            f'"{name}" hears recordings only by Python code of its own, which the host has not allowed '
            f"(WAVALIGN_TRUST_REMOTE_CODE={source_of(folder)}). Type the question."
        )
    if told.ears not in EARS:
        raise LayoutError(f'The layout\'s ears "{told.ears}" are not known; known are: {", ".join(EARS)}.')
    ears = ears_class(told.ears).open(folder, settings_of(folder), device, model.dtype)
    return Heard(model.get_input_embeddings().num_embeddings, ears), None


def attach(base: Base, name: str, folder: Path) -> str:
    """Attaches a PEFT folder to ``base`` unless it is attached already; returns the adapter's name there.

    Raises:
        CheckpointError: when the folder is broken, or its tensors are not exactly those that this base needs.
    """
    from peft import PeftConfig, PeftModel

    adapter = name.replace(".", "_")  # PEFT keeps adapters as modules, whose names have no dots
    with base.lock:
        if adapter in getattr(base.model, "peft_config", {}):
            return adapter
        read_json(name, folder / "adapter_config.json")
        try:
            config = PeftConfig.from_pretrained(str(folder))
        except (TypeError, ValueError, KeyError, OSError) as error:
            raise CheckpointError(f'Adapter "{name}" is broken: adapter_config.json is not a PEFT config.') from error
        if config.peft_type != "LORA":
            raise CheckpointError(f'Adapter "{name}" is of type {config.peft_type}; only LoRA adapters are supported.')
        if not (folder / ADAPTER_WEIGHTS).is_file():
            raise CheckpointError(f'Adapter "{name}" is incomplete: {ADAPTER_WEIGHTS} is missing. Restore the folder.')
        _check_fit(base, name, config, tensor_shapes(name, folder / ADAPTER_WEIGHTS))
        ranks = ChannelRanks.read(name, folder)
        if ranks is not None and (ranks.whole != config.r or config.rank_pattern):
            raise CheckpointError(
                f'Adapter "{name}" has rank {config.r}, but its {CHANNELS_FILE} shares out {ranks.text} + '
                f"{ranks.speech}. Restore both from one place."
            )
        if not all(bool(torch.isfinite(tensor).all()) for tensor in load_file(folder / ADAPTER_WEIGHTS).values()):
            raise CheckpointError(f'Adapter "{name}" holds weights that are not numbers. Its training diverged.')
        try:
            if hasattr(base.model, "peft_config"):
                base.model.load_adapter(str(folder), adapter_name=adapter, is_trainable=False)
                model = base.model
            else:
                model = PeftModel.from_pretrained(base.model, str(folder), adapter_name=adapter, is_trainable=False)
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f'Adapter "{name}" cannot be attached to "{base.name}": {reason(error)}') from error
        base.attached(model.eval())
        if ranks is not None:
            base.split(adapter, ranks)
    return adapter


def open_model(base: Base, adapters: Mapping[str, str | None]) -> InterleavedModel:
    """A model over checkpoints of one base: name -> its adapter there, None for the base itself."""
    return InterleavedModel(base, adapters)


def default_sampling(folder: Path) -> Sampling:
    """What the layout description recommends.

    Raises:
        LayoutError: when it is missing or wrong.
    """
    return InterleavedDescription.read(folder).sampling


def check_loaded(name: str, model: Any, info: Mapping[str, Any]) -> None:
    """``info`` is what transformers says of the loading.

    Raises:
        CheckpointError: when a tensor is missing, has another shape than the config asks for, or is not finite.
    """
    for tensor, stored, wanted in info["mismatched_keys"]:
        raise CheckpointError(
            f'Checkpoint "{name}" does not fit its config.json: {tensor} has the shape {tuple(stored)}, but the '
            f"config asks for {tuple(wanted)}. Restore both from one place."
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise CheckpointError(
            f'Checkpoint "{name}" lacks {len(missing)} of its tensors ({missing[0]}, ...). Restore its weights.'
        )
    if not all(bool(torch.isfinite(tensor).all()) for tensor in model.parameters()):
        raise CheckpointError(f'Checkpoint "{name}" holds weights that are not numbers. Its training diverged.')


def reason(error: Exception) -> str:
    """What an exception says, in one line: its first, and the next where that only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:300]


def tensor_shapes(name: str, file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a safetensors file; its length is checked against its header."""
    try:
        with safe_open(str(file), framework="pt") as tensors:
            return {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f'Checkpoint "{name}" is broken: {file.name} is truncated or not a safetensors file. Restore it.'
        ) from error


def weight_files(name: str, folder: Path) -> list[Path]:
    index = folder / f"{WEIGHTS}.index.json"
    if not index.is_file():
        files = [folder / WEIGHTS]
    else:
        try:
            files = [folder / file for file in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
        except (ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f'Checkpoint "{name}" is broken: {index.name} is not an index of weights.') from error
    for file in files:
        if not file.is_file():
            raise CheckpointError(f'Checkpoint "{name}" is incomplete: {file.name} is missing. Restore the folder.')
    return files


def _check_fit(base: Base, name: str, config: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """Every module the adapter's config targets has its two matrices, in its own shape, and nothing is left over."""
    from peft.tuners.tuners_utils import check_target_module_exists

    wrong = f'Adapter "{name}" was made for another base than "{base.name}"'
    expected: dict[str, tuple[int | None, int | None]] = {}
    for path, module in base.network.named_modules():
        inside = ".lora_" in path or path.endswith(".base_layer")
        module = getattr(module, "base_layer", module)
        if inside or not isinstance(module, nn.Linear) or not check_target_module_exists(config, path):
            continue
        rank = None if config.rank_pattern else config.r
        expected[f"{_KEY_PREFIX}{path}.lora_A.weight"] = (rank, module.in_features)
        expected[f"{_KEY_PREFIX}{path}.lora_B.weight"] = (module.out_features, rank)
    if not expected:
        raise CheckpointError(f"{wrong}: none of its target modules is there.")
    extra_modules = tuple(config.modules_to_save or ())
    for key, shape in shapes.items():
        if key not in expected:
            if any(f".{module}." in key for module in extra_modules) or "lora_magnitude_vector" in key:
                continue
            raise CheckpointError(f"{wrong}: it holds {key}, which that base has no place for.")
        if len(shape) != 2 or any(want not in (None, have) for want, have in zip(expected[key], shape, strict=True)):
            raise CheckpointError(f"{wrong}, or its config is not its own: {key} has the shape {tuple(shape)}.")
    absent = next((key for key in expected if key not in shapes), None)
    if absent is not None:
        raise CheckpointError(f'Adapter "{name}" lacks {absent}, which its config asks for. Restore its weights.')
