"""Random-weight checkpoints of Qwen2.5-Omni's architecture: its config at several sizes, and folders of them.

Only what a reply's words and codes go through has a real size; the eyes and the vocoder stay tiny. The tokenizer knows
bytes and a few merges: a larger vocabulary has ids that no text uses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401  (transformers may look for torchaudio)

# isort: split
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = ("user\n", "assistant\n", "system\n", "zero one two three four five six seven eight nine ten", "what is plus")
MARKS = ("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>", "<|IMAGE|>", "<|VIDEO|>")
SPOKEN = ("<tts_pad>", "<tts_text_bos>", "<tts_text_eod>")
_MARKS_BEHIND_CODES = 8


@dataclass(frozen=True)
class OmniShape:
    """``text`` and ``talker`` are fields of the two language models' configs, ``hears`` of the audio encoder's;
    ``codes`` is how many the talker draws from. ``mrope`` tells how each shares out its rotations."""

    text: Mapping[str, Any]
    hears: Mapping[str, Any]
    talker: Mapping[str, Any]
    codes: int
    mrope: tuple[tuple[int, ...], tuple[int, ...]]


_TALKER = {
    "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 8192,
}  # fmt: skip
"""Of Qwen2.5-Omni-3B."""
TINY = OmniShape(
    text={
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 1024,
    },
    hears={"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 48},
    talker={
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 1024,
    },
    codes=96,
    mrope=((2, 3, 3), (1, 1, 2)),
)  # fmt: skip
SHAPES: dict[str, dict[str, OmniShape]] = {
    "tiny": {"omni-tiny": TINY},
    "small": {
        "omni-1b": OmniShape(
            text={
                "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
                "num_key_value_heads": 2, "max_position_embeddings": 8192, "vocab_size": 151936,
            },
            hears={"d_model": 768, "encoder_layers": 12, "encoder_attention_heads": 12, "encoder_ffn_dim": 3072},
            talker=_TALKER,
            codes=8192,
            mrope=((8, 12, 12), (8, 12, 12)),
        ),
    },
    "large": {
        "omni-3b": OmniShape(
            text={
                "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
                "num_key_value_heads": 2, "max_position_embeddings": 8192, "vocab_size": 151936,
            },
            hears={"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120},
            talker=_TALKER,
            codes=8192,
            mrope=((16, 24, 24), (8, 12, 12)),
        ),
    },
}  # fmt: skip
"""Size -> name -> shape: thinkers of the widths and depths of Qwen2.5-0.5B and -1.5B under the talker of a 3B one."""


def make_tokenizer(marks: tuple[str, ...] = MARKS) -> PreTrainedTokenizerFast:
    """Bytes and a few merges, so that every text can be read, and the family's marks behind them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, min_frequency=2, show_progress=False)
    tokenizer.train_from_iterator([text for text in TEXTS for _ in range(9)], trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *marks, *SPOKEN]})
    return made


def text_settings(tokenizer: PreTrainedTokenizerFast, shape: OmniShape) -> dict[str, Any]:
    """The config of the thinker's language model."""
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": list(shape.mrope[0])}
    whole = -(-len(tokenizer) // 8) * 8
    return {"vocab_size": whole, "rope_parameters": rope, "tie_word_embeddings": False, **shape.text}


def audio_settings(shape: OmniShape) -> dict[str, Any]:
    """The config of the encoder of recordings."""
    return {"num_mel_bins": 128, "output_dim": shape.text["hidden_size"], **shape.hears}


def settings(tokenizer: PreTrainedTokenizerFast, shape: OmniShape) -> dict[str, Any]:
    """The fields of the whole checkpoint's config."""
    ids = tokenizer.convert_tokens_to_ids
    begin, audio, end, image, video = map(ids, MARKS)
    pad, text_begin, text_end = map(ids, SPOKEN)
    width, codes = shape.text["hidden_size"], shape.codes
    marks = {
        "audio_token_index": audio, "image_token_index": image, "video_token_index": video,
        "audio_start_token_id": begin, "audio_end_token_id": end,
    }  # fmt: skip
    return {
        "thinker_config": {
            "text_config": text_settings(tokenizer, shape),
            "audio_config": audio_settings(shape) | {"n_window": 100},
            "vision_config": {
                "depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": width,
                "fullatt_block_indexes": [0],
            },
            **marks, "user_token_id": tokenizer("user")["input_ids"][0], "vision_start_token_id": image,
        },
        "talker_config": {
            "vocab_size": codes + _MARKS_BEHIND_CODES,
            "tts_codec_pad_token_id": codes, "tts_codec_start_token_id": codes + 1,
            "tts_codec_end_token_id": codes + 2, "tts_codec_mask_token_id": codes + 4,
            "tts_text_start_token_id": text_begin, "tts_text_end_token_id": text_end, "tts_text_pad_token_id": pad,
            **marks, "embedding_size": width, **shape.talker,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": list(shape.mrope[1])},
        },
        "token2wav_config": {
            "dit_config": {
                "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16, "emb_dim": 16,
                "num_embeds": codes + 1, "mel_dim": 80, "enc_emb_dim": 32, "enc_dim": 16,
                "enc_channels": [16, 16, 16, 16, 48], "enc_attention_channels": 8, "enc_se_channels": 8,
                "look_ahead_layers": [1], "look_backward_layers": [0], "block_size": 8,
            },
            "bigvgan_config": {
                "mel_dim": 80, "upsample_initial_channel": 64, "resblock_kernel_sizes": [3],
                "resblock_dilation_sizes": [[1, 3, 5]],
            },
        },
    }  # fmt: skip


def save_beside(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """What stands in a real folder beside the weights and ``save_pretrained`` of the model does not write."""
    from transformers import WhisperFeatureExtractor

    tokenizer.save_pretrained(str(folder))
    WhisperFeatureExtractor(feature_size=128).save_pretrained(str(folder))
    begin = tokenizer.convert_tokens_to_ids(SPOKEN[1])
    voice = {"bos_token": begin, "cond": torch.randn(1, 32), "ref_mel": torch.randn(1, 30, 80)}
    torch.save({"Chelsie": voice, "Ethan": voice}, folder / "spk_dict.pt")


def build(shape: OmniShape) -> tuple[Any, PreTrainedTokenizerFast]:
    """The model of transformers, with the weights that its class begins with, and its tokenizer."""
    from transformers import Qwen2_5OmniConfig, Qwen2_5OmniForConditionalGeneration

    tokenizer = make_tokenizer()
    config = Qwen2_5OmniConfig(**settings(tokenizer, shape))
    return Qwen2_5OmniForConditionalGeneration(config), tokenizer


def make(folder: Path, shape: OmniShape, dtype: torch.dtype) -> None:
    """A base in ``folder`` that the registry loads."""
    torch.manual_seed(0)
    model, tokenizer = build(shape)
    model.to(dtype).save_pretrained(str(folder))
    save_beside(folder, tokenizer)
    sampling = {"temperature": 0.8, "speech_temperature": 0.8, "repetition_penalty": 1.0}
    (folder / "thinker_talker.json").write_text(json.dumps({"sampling": sampling}), encoding="utf-8")
