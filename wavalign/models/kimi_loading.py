"""Reads Kimi-Audio checkpoints, whose modelling code comes with them, and refuses what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import wavalign.torchaudio_guard  # noqa: F401  (transformers may look for torchaudio)
from wavalign.codecs.loading import CodecError, open_codec
from wavalign.codecs.protocol import SpeechCodec
from wavalign.models import kimi_compat, loading
from wavalign.models.kimi_base import TITLE, KimiBase
from wavalign.models.kimi_description import KimiDescription
from wavalign.models.kimi_prompting import WhisperFeatures
from wavalign.models.kimi_tokens import KimiTokenizer, Streams, marks_of, tokens_of
from wavalign.models.parallel_model import ParallelModel
from wavalign.models.parallel_tokens import SpeechPieces
from wavalign.models.protocol import CheckpointError, Sampling
from wavalign.models.registry import read_json

_PARTS = ("embed_tokens", "layers", "norm", "mimo_layers", "mimo_norm")
_SETTINGS = ("kimia_token_offset", "kimia_mimo_audiodelaytokens")


def load_base(
    name: str,
    folder: Path,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> KimiBase:
    """A base folder onto ``device`` (a GPU when there is one); ``dtype`` None: float32 on a CPU, as stored on a GPU.

    Raises:
        CheckpointError: when its Python files may not run, or a file is missing, broken, or does not fit the others.
    """
    folder = Path(folder)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    config = read_json(name, folder / "config.json")
    if not trust_remote_code:
        raise CheckpointError(
            f'"{name}" brings Python code of its own, which runs only when the host allows it: start the app with '
            f"WAVALIGN_TRUST_REMOTE_CODE={folder}, after reading that code."
        )
    absent = [each for each in _SETTINGS if not isinstance(config.get(each), int)]
    if absent:
        raise CheckpointError(f'Checkpoint "{name}": config.json lacks {absent[0]}. Restore it.')
    description = KimiDescription.read(name, folder)
    for file in loading.weight_files(name, folder):
        loading.tensor_shapes(name, file)
    full, tokenizer = _read(name, folder, device, dtype)
    codec = _codec(name, folder, description, device)
    marks = marks_of(name, tokenizer, full.config)
    chunk = max(1, round(codec.tokens_per_second * 2.4))  # 30 of the family's, as its own detokenizer takes them
    tokens = tokens_of(name, tokenizer, marks, full.config, codec.codebook_size, SpeechPieces(chunk))
    streams = Streams(tokens, marks, int(full.config.kimia_mimo_audiodelaytokens))
    features = _features(name, description, full, device)
    return KimiBase(name, full, tokenizer, streams, codec, features, description)


def attach(base: KimiBase, name: str, folder: Path) -> str:
    """Attaches a PEFT folder to ``base`` unless it is attached already; returns the adapter's name there.

    Raises:
        CheckpointError: when the folder is broken, its tensors are not exactly those that this base needs, or it
            changes modules that cannot be adapted.
    """
    weights = Path(folder) / loading.ADAPTER_WEIGHTS
    if weights.is_file():
        allowed = set(base.adaptable())
        for key in loading.tensor_shapes(name, weights):
            path = key.removeprefix("base_model.model.").split(".lora_")[0]
            if path not in allowed:
                raise CheckpointError(
                    f'Adapter "{name}" changes {path}, and in "{base.name}" only the linear modules of model.layers '
                    "and model.mimo_layers can be adapted."
                )
    return loading.attach(base, name, Path(folder))


def open_model(base: KimiBase, adapters: Mapping[str, str | None]) -> ParallelModel:
    """A model over checkpoints of one base: name -> its adapter there, None for the base itself."""
    return base.policy(adapters)


def default_sampling(folder: Path) -> Sampling:
    """What the family recommends, or ``kimi_audio.json`` beside the weights."""
    return KimiDescription.read(Path(folder).name, Path(folder)).sampling


def _read(name: str, folder: Path, device: torch.device, dtype: torch.dtype | None) -> tuple[Any, KimiTokenizer]:
    """The model, made by its own code, and its tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    here = {"local_files_only": True, "trust_remote_code": True}
    try:
        config = kimi_compat.prepare_config(AutoConfig.from_pretrained(str(folder), **here))
        tokenizer = KimiTokenizer(kimi_compat.open_tokenizer(folder))
        full, info = AutoModelForCausalLM.from_pretrained(
            str(folder),
            config=config,
            dtype=dtype or (torch.float32 if device.type == "cpu" else "auto"),
            device_map=None if device.type == "cpu" else {"": device},
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, in words
            **here,
        )
        kimi_compat.finish_model(full)
    except Exception as error:  # code that is not ours raises anything; each is about this folder
        raise CheckpointError(f'Checkpoint "{name}" cannot be loaded: {loading.reason(error)}') from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    loading.check_loaded(name, full, info)
    parts = [part for part in _PARTS if not hasattr(getattr(full, "model", None), part)]
    parts += [head for head in ("lm_head", "mimo_output") if not hasattr(full, head)]
    if parts:
        raise CheckpointError(
            f'Checkpoint "{name}": its model, {type(full).__name__}, has no {parts[0]}, so it is not {TITLE}.'
        )
    return full.to(device).eval(), tokenizer


def _codec(name: str, folder: Path, description: KimiDescription, device: torch.device) -> SpeechCodec:
    try:
        return open_codec(description.codec, folder, device)
    except CodecError as error:
        raise CheckpointError(f'Checkpoint "{name}": {error}') from error


def _features(name: str, description: KimiDescription, full: Any, device: torch.device) -> WhisperFeatures | None:
    """None where the model takes speech tokens alone."""
    if not getattr(full.config, "use_whisper_feature", True):
        return None
    from transformers import WhisperModel

    place = description.whisper
    if not (place / "config.json").is_file():
        raise CheckpointError(
            f'Checkpoint "{name}" is incomplete: {place} is missing, the Whisper encoder that {TITLE} hears through. '
            'Restore that folder, or name another ("whisper" in kimi_audio.json).'
        )
    try:
        whisper = WhisperModel.from_pretrained(str(place), local_files_only=True, dtype=next(full.parameters()).dtype)
    except Exception as error:  # transformers raises many kinds; each is about this folder
        raise CheckpointError(f'Checkpoint "{name}": {place} cannot be loaded: {loading.reason(error)}') from error
    encoder = whisper.encoder.to(device)
    group, rest = divmod(int(full.config.kimia_adaptor_input_dim), encoder.config.d_model)
    if rest or group < 1:
        raise CheckpointError(
            f'Checkpoint "{name}" takes features of {full.config.kimia_adaptor_input_dim} numbers, which are no whole '
            f"frames of its Whisper encoder ({encoder.config.d_model}). Restore both from one place."
        )
    return WhisperFeatures(encoder, group)
