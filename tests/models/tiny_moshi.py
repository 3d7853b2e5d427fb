"""Moshi with random weights and a few hundred thousand parameters, in the folder of a real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import MoshiConfig, MoshiForConditionalGeneration, PreTrainedTokenizerFast

TEXTS = ("zero one two three four five six seven eight nine ten", "what is plus")
MARKS = ("<unk>", "<s>", "</s>", "<pad>")
CODES = 64
BOOKS = 4


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Moshi's marks at Moshi's ids, then bytes and a few merges, so that every text can be read."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=list(MARKS), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2, show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([text for text in TEXTS for _ in range(9)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def make_config(vocabulary: int) -> MoshiConfig:
    return MoshiConfig(
        vocab_size=vocabulary, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, ffn_dim=128,
        max_position_embeddings=200, sliding_window=200, num_codebooks=BOOKS,
        audio_encoder_config={
            "model_type": "mimi", "hidden_size": 32, "num_filters": 4, "codebook_size": CODES, "codebook_dim": 16,
            "vector_quantization_hidden_dimension": 16, "num_quantizers": 8, "upsample_groups": 32,
            "num_hidden_layers": 2, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 2,
            "sliding_window": 12, "max_position_embeddings": 600,
        },
        depth_decoder_config={
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 64,
            "max_position_embeddings": BOOKS + 1, "sliding_window": BOOKS,
        },
    )  # fmt: skip


def make_moshi(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Any:
    """Transformers' model, in eval mode."""
    torch.manual_seed(seed)
    model = MoshiForConditionalGeneration(make_config(len(tokenizer))).eval()
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
