"""Moshi with random weights and a few hundred thousand parameters, in the folder of a real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import torch
from transformers import PreTrainedTokenizerFast

from evaluation.speed_gpu_moshi import TINY, build, make_tokenizer
from evaluation.speed_gpu_rows import hum
from wavalign.dialogue import Dialogue, Turn

CODES = TINY.mimi["codebook_size"]
BOOKS = TINY.books
TYPED = Dialogue((Turn("user", text="What is seven plus five?"),))
SPOKEN = Dialogue((Turn("user", speech=hum(0.7)),))


def make_assets(folder: Path) -> Path:
    """The base "moshi" and, on it, the adapter "tuned" in ``folder``; returns ``folder``."""
    make_tiny_moshi_adapter(folder / "tuned", make_tiny_moshi(folder / "moshi"))
    return folder


def make_moshi(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Any:
    """Transformers' model, in eval mode."""
    torch.manual_seed(seed)
    model = build(TINY)[0].eval()
    with torch.no_grad():  # the usual 0.02 would make every logit alike; errors would not show
        for part in (model.embed_tokens, model.decoder, model.depth_decoder):
            for name, parameter in part.named_parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.5 if "embed" in name else 0.15)
        for name, buffer in model.audio_encoder.named_buffers():
            if name.endswith("embed_sum"):
                buffer.normal_()
        for parameter in model.audio_encoder.decoder.decoder_seanet.layers[-1].parameters():
            parameter.mul_(0.02)  # samples between -1 and 1
        # How often random words pause is luck: with this they do, and come to an end after some.
        model.decoder.lm_head.weight[tokenizer.convert_tokens_to_ids("<pad>")].mul_(3)
    return model


def make_tiny_moshi(folder: Path, seed: int = 0, **description: object) -> Path:
    """A base in ``folder``; returns it. ``description`` goes into ``parallel_streams.json``."""
    folder = Path(folder)
    tokenizer = make_tokenizer()
    make_moshi(tokenizer, seed).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    sampling = {"temperature": 0.8, "speech_temperature": 0.8, "top_k": 0, "max_tokens": 70, "max_seconds": 1.6}
    told = {"pause_seconds": 0.24, "sampling": sampling, **description}
    (folder / "parallel_streams.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def make_tiny_moshi_adapter(folder: Path, base: Path, *, seed: int = 1, rank: int = 4) -> Path:
    """A PEFT LoRA folder for ``base`` whose B matrices are not zero, made as a run makes one."""
    from peft import LoraConfig, get_peft_model

    from wavalign.models.moshi_loading import load_base

    loaded = load_base(base.name, base)
    torch.manual_seed(seed)
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=loaded.policy({}).lora_targets())
    model = get_peft_model(loaded.model, settings)
    loaded.attached(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    model.peft_config["default"].base_model_name_or_path = base.name
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return Path(folder)
