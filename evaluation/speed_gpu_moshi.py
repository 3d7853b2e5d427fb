"""Random-weight checkpoints of Moshi's architecture: its config at several sizes, and folders of them.

The tokenizer knows bytes and a few merges: a larger vocabulary has ids that no text uses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401  (transformers may look for torchaudio)

# isort: split
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import MoshiConfig, PreTrainedTokenizerFast

TEXTS = ("zero one two three four five six seven eight nine ten", "what is plus")
MARKS = ("<unk>", "<s>", "</s>", "<pad>")
_SPREAD = 0.02


@dataclass(frozen=True)
class MoshiShape:
    """``backbone`` and ``depth`` are fields of the two transformers' configs, ``mimi`` of the codec's."""

    backbone: Mapping[str, Any]
    depth: Mapping[str, Any]
    books: int = 8
    mimi: Mapping[str, Any] = field(default_factory=dict)


TINY = MoshiShape(
    backbone={
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 128,
        "max_position_embeddings": 200, "sliding_window": 200,
    },
    depth={"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 64},
    books=4,
    mimi={
        "hidden_size": 32, "num_filters": 4, "codebook_size": 64, "codebook_dim": 16,
        "vector_quantization_hidden_dimension": 16, "num_quantizers": 8, "upsample_groups": 32,
        "num_hidden_layers": 2, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 2,
        "sliding_window": 12, "max_position_embeddings": 600,
    },
)  # fmt: skip
_LONG = {"max_position_embeddings": 3000, "sliding_window": 3000, "vocab_size": 32000}
SHAPES: dict[str, dict[str, MoshiShape]] = {
    "tiny": {"moshi-tiny": TINY},
    "small": {
        "moshi-0.7b": MoshiShape(
            {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "ffn_dim": 5632, **_LONG},
            {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "ffn_dim": 2816},
        ),
    },
    "large": {
        "moshi-2b": MoshiShape(
            {"hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16, "ffn_dim": 11264, **_LONG},
            {"hidden_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 16, "ffn_dim": 5632},
        ),
    },
}
"""Size -> name -> shape: Moshi's proportions at a quarter and at half of its width, with Mimi as it is."""


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


def make_config(shape: MoshiShape, vocabulary: int) -> MoshiConfig:
    """``vocabulary``: of the text, where the shape does not say."""
    return MoshiConfig(
        **{"vocab_size": vocabulary, **shape.backbone},
        num_codebooks=shape.books,
        audio_vocab_size=shape.mimi.get("codebook_size", 2048),
        audio_encoder_config={"model_type": "mimi", **shape.mimi},
        depth_decoder_config={
            **shape.depth, "max_position_embeddings": shape.books + 1, "sliding_window": shape.books,
        },
    )  # fmt: skip


def build(shape: MoshiShape) -> tuple[Any, PreTrainedTokenizerFast]:
    """The model of transformers, with the weights that its class begins with, and its tokenizer."""
    from transformers import MoshiForConditionalGeneration

    tokenizer = make_tokenizer()
    return MoshiForConditionalGeneration(make_config(shape, len(tokenizer))), tokenizer


def make(folder: Path, shape: MoshiShape, dtype: torch.dtype) -> None:
    """A base in ``folder`` that the registry loads."""
    torch.manual_seed(0)
    model, tokenizer = build(shape)
    with torch.no_grad():  # the layers that each code book has of its own begin with 1, which overflows behind a few
        for part in (model.embed_tokens, model.decoder, model.depth_decoder):
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, _SPREAD)
    model.to(dtype).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    sampling = {"temperature": 0.8, "speech_temperature": 0.8, "top_k": 0}
    (folder / "parallel_streams.json").write_text(json.dumps({"sampling": sampling}), encoding="utf-8")
