"""Random-weight checkpoints of a few kilobytes in exactly the folders that the shipped ones use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

import wavalign.torchaudio_guard  # noqa: F401
from wavalign.closedtalk.build import tokenizer
from wavalign.closedtalk.build.tokenizer import DESCRIPTION
from wavalign.codecs import world
from wavalign.codecs.fsq_world import FsqWorldCodec

WORDS = """
    zero one two three four five six seven eight nine ten is what plus minus the a and of capital opposite
    hello happy sad calm excited please say in voice paris spain france red blue dog cat
""".split()  # noqa: SIM905
LEVELS = (4, 4, 4)
CODES = 64


def interleaved_description(**changes: object) -> dict:
    """The embedded model's ``interleaved.json`` with the tiny codec's number of codes."""
    tiny = {"speech_count": CODES, "codec": "../tiny-codec"}
    return {**DESCRIPTION, **tiny, "sampling": {"temperature": 0.8, "max_tokens": 60, "max_seconds": 2.0}, **changes}


def make_tokenizer(codes: int = CODES) -> PreTrainedTokenizerFast:
    """The embedded model's tokenizer with a small lexicon."""
    return tokenizer.make_tokenizer(WORDS, codes)


def make_model(vocabulary: int, architecture: str = "llama", context: int = 512, seed: int = 0) -> torch.nn.Module:
    """A causal LM with a hidden size of 32, in eval mode; ``architecture`` is a transformers model type."""
    sizes = {"vocab_size": vocabulary, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 64, "max_position_embeddings": context, "bos_token_id": 1, "eos_token_id": 9}
    sizes |= {"pad_token_id": 0, "tie_word_embeddings": architecture != "gpt_neox"}
    if architecture == "llama":
        sizes["num_key_value_heads"] = 4
    elif architecture in ("qwen2", "mistral", "gemma"):
        sizes["num_key_value_heads"] = 2
    if architecture == "gemma":
        sizes["head_dim"] = 8
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **sizes)).eval()
    with torch.no_grad():  # the usual 0.02 would make every logit alike; errors would not show
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def make_tiny_codec(folder: Path) -> Path:
    """The embedded codec's class with 64 codes and random weights."""
    torch.manual_seed(1)
    small = {f"{part}_channels": 16 for part in ("encoder", "reply", "decoder", "reader")}
    codec = FsqWorldCodec(levels=LEVELS, encoder_blocks=1, reply_blocks=1, **small)
    clock = np.arange(16_000) / 16_000
    vowel = 0.1 * sum(np.sin(2 * np.pi * 120 * harmonic * clock) / harmonic for harmonic in range(1, 20))
    features = world.analyse(vowel.astype(np.float32))[20:-20]
    codec.world_mean.copy_(torch.from_numpy(features.mean(0)))  # a buzz at 120 Hz that the random decoder modulates
    codec.world_std.fill_(0.2)
    codec.save_pretrained(str(folder))
    return folder


def make_tiny_checkpoint(
    folder: Path, *, architecture: str = "llama", context: int = 512, seed: int = 0, **description: object
) -> Path:
    """A base in ``folder`` and, beside it, its codec in ``tiny-codec``; returns ``folder``.

    ``description`` changes fields of ``interleaved.json``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder.parent / "tiny-codec" / "config.json").exists():
        make_tiny_codec(folder.parent / "tiny-codec")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(str(folder))
    make_model(len(tokenizer), architecture, context, seed).save_pretrained(str(folder))
    (folder / "interleaved.json").write_text(json.dumps(interleaved_description(**description)), encoding="utf-8")
    return folder


def make_tiny_adapter(folder: Path, base: Path, *, seed: int = 1, rank: int = 4, base_name: str | None = None) -> Path:
    """A PEFT LoRA folder for ``base`` whose B matrices are not zero, so that it changes what is said."""
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(str(base))
    targets = (
        ["query_key_value"]
        if model.config.model_type == "gpt_neox"
        else ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
    )
    torch.manual_seed(seed)
    peft_model = get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    peft_model.peft_config["default"].base_model_name_or_path = base_name or Path(base).name
    peft_model.save_pretrained(str(folder))
    return Path(folder)
