"""Qwen2.5-Omni and Qwen3-Omni with random weights and a few hundred thousand parameters, in the folders of real ones.

Saved by ``save_pretrained``, with the files beside the weights that it does not write.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import torch
from transformers import AutoConfig, PreTrainedTokenizerFast, WhisperFeatureExtractor

from evaluation import speed_gpu_omni as omni

MARKS = {
    "qwen2_5_omni": omni.MARKS,
    "qwen3_omni_moe": ("<|audio_start|>", "<|audio_pad|>", "<|audio_end|>", "<|image_pad|>", "<|video_pad|>"),
}
CODES = omni.TINY.codes
BOOKS = 4


def _settings(kind: str, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    if kind == "qwen2_5_omni":
        return omni.settings(tokenizer, omni.TINY)
    ids = tokenizer.convert_tokens_to_ids
    begin, audio, _, image, video = map(ids, MARKS[kind])
    pad, text_begin, text_end = map(ids, omni.SPOKEN)
    user, assistant = (tokenizer(role)["input_ids"][0] for role in ("user", "assistant"))
    text, hears = omni.text_settings(tokenizer, omni.TINY), omni.audio_settings(omni.TINY)
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    return {
        "thinker_config": {
            "text_config": text | experts | {"head_dim": 16},
            "audio_config": hears | {"n_window": 50, "n_window_infer": 400, "downsample_hidden_size": 16},
            "vision_config": {
                "depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64,
                "deepstack_visual_indexes": [],
            },
            "audio_token_id": audio, "image_token_id": image, "video_token_id": video,
            "audio_start_token_id": begin, "user_token_id": user, "vision_start_token_id": image,
        },
        "talker_config": {
            "text_config": {
                "vocab_size": CODES + 1024, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 1024,
                "shared_expert_intermediate_size": 32, **experts,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
            },
            "code_predictor_config": {
                "vocab_size": CODES, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
                "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "num_code_groups": BOOKS,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
            },
            "num_code_groups": BOOKS, "thinker_hidden_size": 64, "accept_hidden_layer": 1, "spatial_merge_size": 2,
            "codec_pad_id": CODES + 100, "codec_bos_id": CODES + 101, "codec_eos_token_id": CODES + 102,
            "codec_nothink_id": CODES + 103, "codec_think_bos_id": CODES + 104, "codec_think_eos_id": CODES + 105,
            "speaker_id": {"ethan": CODES + 110, "chelsie": CODES + 111},
            "audio_token_id": audio, "image_token_id": image, "video_token_id": video, "audio_start_token_id": begin,
        },
        "code2wav_config": {
            "codebook_size": CODES, "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2,
            "intermediate_size": 48, "num_hidden_layers": 1, "num_quantizers": BOOKS, "decoder_dim": 64,
            "sliding_window": 8,
        },
        "im_start_token_id": ids("<|im_start|>"), "im_end_token_id": ids("<|im_end|>"),
        "tts_pad_token_id": pad, "tts_bos_token_id": text_begin, "tts_eos_token_id": text_end,
        "system_token_id": tokenizer("system")["input_ids"][0], "user_token_id": user,
        "assistant_token_id": assistant,
    }  # fmt: skip


def make_omni(kind: str, tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Any:
    """The family's model of transformers, in eval mode; ``kind`` is its model_type."""
    import transformers

    from wavalign.models.thinker_talker_families import FAMILIES

    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **_settings(kind, tokenizer))
    model = getattr(transformers, FAMILIES[kind].model_class)(config).eval()
    with torch.no_grad():  # the usual 0.02 would make every logit alike; errors would not show
        for part in (model.thinker, model.talker):
            for name, parameter in part.named_parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.5 if "embed" in name else 0.2)
        # Ids that are neither codes nor an end are never the likeliest.
        ends = (CODES, CODES + 2, CODES + 102)
        unused = [i for i in range(CODES, model.talker.codec_head.out_features) if i not in ends]
        model.talker.codec_head.weight[unused] = 0
        for end in ends:
            if end < model.talker.codec_head.out_features:
                model.talker.codec_head.weight[end].mul_(0.5)
        # How long random words go on is luck: with this they end after a few.
        model.thinker.lm_head.weight[tokenizer.convert_tokens_to_ids("<|im_end|>")].mul_(4)
    return model


def make_tiny_omni(folder: Path, kind: str = "qwen2_5_omni", seed: int = 0, **description: object) -> Path:
    """A base in ``folder``; returns it. ``description`` goes into ``thinker_talker.json``."""
    folder = Path(folder)
    tokenizer = omni.make_tokenizer(MARKS[kind])
    model = make_omni(kind, tokenizer, seed)
    model.save_pretrained(str(folder))
    if kind == "qwen2_5_omni":
        omni.save_beside(folder, tokenizer)
    else:
        tokenizer.save_pretrained(str(folder))
        WhisperFeatureExtractor(feature_size=128).save_pretrained(str(folder))
    sampling = {"temperature": 0.8, "speech_temperature": 0.8, "top_k": 0, "top_p": 1.0, "repetition_window": 0}
    sampling |= {"repetition_penalty": 1.0, "max_tokens": 70}
    sampling["max_seconds"] = 0.5 if kind == "qwen2_5_omni" else 1.0  # a second is 50 frames, or 12
    told = {"sampling": sampling, **description}
    (folder / "thinker_talker.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def make_tiny_omni_adapter(folder: Path, base: Path, *, seed: int = 1, rank: int = 4) -> Path:
    """A PEFT LoRA folder for ``base`` whose B matrices are not zero, made as a run makes one."""
    from peft import LoraConfig, get_peft_model

    from wavalign.models.thinker_talker_loading import load_base

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
