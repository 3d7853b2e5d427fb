"""Reads Moshi checkpoints as transformers saves them, and refuses what does not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import wavalign.torchaudio_guard  # noqa: F401  (transformers may look for torchaudio)
from wavalign.models import attention, loading
from wavalign.models.moshi_base import MoshiBase
from wavalign.models.moshi_codec import MimiCodec
from wavalign.models.moshi_columns import MoshiIds
from wavalign.models.moshi_family import MODEL_TYPE, PADDING, WORD_COMES, MoshiFamily
from wavalign.models.moshi_network import MoshiNetwork
from wavalign.models.parallel_model import ParallelModel
from wavalign.models.parallel_tokens import ParallelTokens, SpeechPieces
from wavalign.models.protocol import CheckpointError, Sampling
from wavalign.models.registry import read_json

_FIRST_FRAMES, _FRAMES = 3, 6
"""Frames of 80 ms that a stream waits for: at first, and then."""
_NO_WORDS = (PADDING, WORD_COMES, "<s>", "</s>")


def load_base(
    name: str,
    folder: Path,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> MoshiBase:
    """A base folder onto ``device`` (a GPU when there is one); ``dtype`` None: float32 on a CPU, as stored on a GPU.

    Mimi runs in float32 always. Nothing here needs remote code.

    Raises:
        CheckpointError: when a file is missing, broken, or does not fit the others.
    """
    folder = Path(folder)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    config = read_json(name, folder / "config.json")
    if config.get("model_type") != MODEL_TYPE:
        raise CheckpointError(f'Checkpoint "{name}" is of type {config.get("model_type")!r}, not {MODEL_TYPE}.')
    family = MoshiFamily.read(name, folder)
    for file in loading.weight_files(name, folder):
        loading.tensor_shapes(name, file)
    full, tokenizer = _read(name, folder, device, dtype)
    books, codes = full.config.num_codebooks, full.config.audio_vocab_size
    mimi = MimiCodec(full.audio_encoder, books)
    if books < 2 or codes != mimi.size:
        raise CheckpointError(
            f'Checkpoint "{name}" has {books} code books of {codes} codes, and its Mimi books of {mimi.size}; at least '
            "2 books of the same size are needed. Restore config.json."
        )
    padding, word_comes = (_mark(name, tokenizer, mark, full.config.vocab_size) for mark in (PADDING, WORD_COMES))
    pause = max(3, math.ceil(family.pause_seconds * mimi.frames_per_second))
    ids = MoshiIds(full.config.vocab_size, codes, books, padding, word_comes, pause)
    tokens = ParallelTokens.of(
        words=_words(tokenizer, ids.text_size),
        vocabulary_size=ids.user_start,
        speech_start=ids.speech_start,
        codes=codes,
        books=books,
        description=SpeechPieces(_FRAMES * books, ((1, _FIRST_FRAMES * books + 1),)),
    )
    network = MoshiNetwork(full, ids, mimi.silence(1)[0]).eval()
    return MoshiBase(name, full, network, tokenizer, tokens, family, mimi)


def attach(base: MoshiBase, name: str, folder: Path) -> str:
    """Attaches a PEFT folder to ``base`` unless it is attached already; returns the adapter's name there.

    Raises:
        CheckpointError: when the folder is broken, its tensors are not exactly those that this base needs, or it
            changes modules that cannot be adapted row by row.
    """
    weights = Path(folder) / loading.ADAPTER_WEIGHTS
    if weights.is_file():
        allowed = set(base.adaptable())
        for key in loading.tensor_shapes(name, weights):
            path = key.removeprefix("base_model.model.").split(".lora_")[0]
            if path not in allowed:
                raise CheckpointError(
                    f'Adapter "{name}" changes {path}, and in "{base.name}" only the linear modules of the two '
                    "transformers' layers can be adapted."
                )
    return loading.attach(base, name, Path(folder))


def open_model(base: MoshiBase, adapters: Mapping[str, str | None]) -> ParallelModel:
    """A model over checkpoints of one base: name -> its adapter there, None for the base itself."""
    return base.policy(adapters)


def default_sampling(folder: Path) -> Sampling:
    """What the family recommends, or ``parallel_streams.json`` beside the weights."""
    folder = Path(folder)
    return MoshiFamily.read(folder.name, folder).sampling


def _read(name: str, folder: Path, device: torch.device, dtype: torch.dtype | None) -> tuple:
    """The model and its tokenizer."""
    from transformers import AutoTokenizer, MoshiForConditionalGeneration
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        full, info = MoshiForConditionalGeneration.from_pretrained(
            str(folder),
            dtype=dtype or (torch.float32 if device.type == "cpu" else "auto"),
            device_map=None if device.type == "cpu" else {"": device},
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, in words
        )
    except Exception as error:  # transformers raises many kinds; each is about this folder
        raise CheckpointError(f'Checkpoint "{name}" cannot be loaded: {loading.reason(error)}') from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    loading.check_loaded(name, full, info)
    if not tokenizer.is_fast:
        raise CheckpointError(f'Checkpoint "{name}" is incomplete: tokenizer.json is missing. Restore the folder.')
    full.to(device)
    attention.settle(full.decoder)
    # They share its config, which takes them along. The depth transformer reads no mask, which eager would need to be
    # causal, and Mimi runs in float32.
    for part in (full.depth_decoder, full.audio_encoder):
        part.set_attn_implementation(attention.SDPA)
    return full.eval(), tokenizer


def _mark(name: str, tokenizer: Any, mark: str, text_size: int) -> int:
    found = tokenizer.get_vocab().get(mark)
    if found is None or found >= text_size:
        raise CheckpointError(
            f'Checkpoint "{name}": its tokenizer has no token "{mark}" for the text stream. Restore tokenizer.json.'
        )
    return found


def _words(tokenizer: Any, size: int) -> list[int]:
    special = set(tokenizer.all_special_ids)
    special |= {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    vocabulary = tokenizer.get_vocab()
    special |= {vocabulary[word] for word in _NO_WORDS if word in vocabulary}
    special |= {index for word, index in vocabulary.items() if word.startswith("<|") and word.endswith("|>")}
    return [index for index in vocabulary.values() if index < size and index not in special]
