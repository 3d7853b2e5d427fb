"""Kimi-Audio with random weights, in the folder of a real one: its own Python files, two heads, a Whisper encoder.

The codec is the embedded one's class, beside the folder, named by ``kimi_audio.json``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import torch
from transformers import WhisperConfig, WhisperModel
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from tests.codecs.tiny_codecs import make_glm4_tokenizer
from tests.tiny import CODES, make_tiny_codec
from wavalign.models.kimi_compat import finish_model, prepare_config
from wavalign.models.kimi_tokens import MARKS

CODE = Path(__file__).with_name("tiny_kimi_code")
OFFSET = 320
DELAY = 6
_RESERVED = [f"<|reserved_token_{index}|>" for index in range(OFFSET - 256 - len(MARKS) - 1)]
NAMES = ["[PAD]", *MARKS.values(), *_RESERVED]
_AUTO = {
    "AutoConfig": "configuration_moonshot_kimia.KimiAudioConfig",
    "AutoModelForCausalLM": "modeling_moonshot_kimia.MoonshotKimiaForCausalLM",
}
SETTINGS: dict[str, Any] = {
    "vocab_size": OFFSET + CODES,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "kimia_mimo_layers": 2,
    "kimia_mimo_audiodelaytokens": DELAY,
    "kimia_mimo_transformer_from_layer_index": 1,
    "kimia_token_offset": OFFSET,
    "kimia_adaptor_input_dim": 32,
    "kimia_media_begin": 256 + NAMES.index(MARKS["media_begin"]),
    "kimia_media_end": 256 + NAMES.index(MARKS["media_end"]),
}


DETOKENIZER = """
import torch


class Part:
    pass


class PrefixStreamingFlowMatchingDetokenizer:
    def __init__(self):
        self.semantic_fm = Part()
        self.semantic_fm.ode_wrapper = Part()
        self.semantic_fm.scheduler = Part()
        self.semantic_fm.scheduler.neural_ode = None
        self.clear_states()

    def clear_states(self):
        self.semantic_fm.ode_wrapper.kept = None

    def detokenize_streaming(self, semantic_token, is_final=False, upsample_factor=1):
        scheduler = self.semantic_fm.scheduler
        if scheduler.neural_ode is None:
            scheduler.neural_ode = self.semantic_fm.ode_wrapper
        codes = semantic_token[0].repeat_interleave(480 * upsample_factor) / 64
        made = torch.sin(torch.arange(len(codes)) * 0.1) * codes + 0.01 * torch.randn(len(codes))
        kept = scheduler.neural_ode.kept
        both = made if kept is None else torch.cat([kept, made])
        if is_final:
            self.clear_states()
            return both[None]
        scheduler.neural_ode.kept = both[-len(made) // 2 :]
        return both[None, : -len(made) // 2]


def get_audio_detokenizer(model_path):
    return PrefixStreamingFlowMatchingDetokenizer()
"""
"""Takes the calls of the published one and keeps what it keeps: half of a block until the next, in a part that another
holds on to once it was used. Noise is drawn."""


def make_checkout(folder: Path) -> Path:
    """What WAVALIGN_KIMI_AUDIO names; returns it."""
    place = folder / "kimia_infer" / "models" / "detokenizer"
    place.mkdir(parents=True)
    for package in (place, place.parent, place.parent.parent):
        (package / "__init__.py").touch()
    (place / "__init__.py").write_text(DETOKENIZER, encoding="utf-8")
    return folder


def make_published(folder: Path) -> Path:
    """As on the Hub: no description, the detokenizer's weights in the folder, and the tokenizer put there too."""
    make_tiny_kimi(folder, group=4)
    (folder / "kimi_audio.json").unlink()
    for name in ("audio_detokenizer/config.yaml", "audio_detokenizer/model.pt", "vocoder/config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("-", encoding="utf-8")
    (folder / "vocoder" / "model.pt").write_text("-", encoding="utf-8")
    make_glm4_tokenizer(folder / "glm-4-voice-tokenizer", CODES)
    return folder


def make_tiny_kimi(folder: Path, seed: int = 0, group: int = 2, **description: object) -> Path:
    """A base in ``folder``, its codec in ``tiny-codec`` beside it; returns ``folder``.

    ``group``: frames of the Whisper encoder (50 a second) to a speech token; ``description`` goes into
    ``kimi_audio.json``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder.parent / "tiny-codec" / "config.json").exists():
        make_tiny_codec(folder.parent / "tiny-codec")
    for file in CODE.glob("*.py"):
        shutil.copyfile(file, folder / file.name)
    (folder / "marks.model").write_text(json.dumps(NAMES), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "TikTokenTokenizer",
                "auto_map": {"AutoTokenizer": ["tokenization_kimia.TikTokenTokenizer", None]},
            }
        ),
        encoding="utf-8",
    )
    kind = get_class_from_dynamic_module(_AUTO["AutoModelForCausalLM"], str(folder))
    torch.manual_seed(seed)
    model = kind(_config(kind)).eval()
    with torch.no_grad():  # the usual 0.02 would make every logit alike; errors would not show
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.4 if "embed" in name else 0.2)
        model.lm_head.weight[128:256] = 0  # bytes that are no characters are never the likeliest
        # How long random replies go on is luck: with these they end after a few words and codes.
        model.lm_head.weight[256 + NAMES.index(MARKS["text_end"])].mul_(5)
        model.mimo_output.weight[256 + NAMES.index(MARKS["msg_end"])].mul_(2)
    finish_model(model)
    model.save_pretrained(str(folder))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"auto_map": _AUTO, "architectures": ["MoonshotKimiaForCausalLM"], "model_type": "kimi_audio"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    small = {
        "d_model": 32 // group,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
    }
    small |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 64, "num_mel_bins": 16}
    small |= {"max_source_positions": 100, "max_target_positions": 8, "pad_token_id": 0, "decoder_start_token_id": 1}
    small |= {"bos_token_id": 1, "eos_token_id": 2}
    WhisperModel(WhisperConfig(**small)).save_pretrained(str(folder / "whisper-large-v3"))
    sampling = {"temperature": 0.8, "speech_temperature": 0.8, "top_k": 0, "max_seconds": 2.0, "max_tokens": 90}
    told = {"codec": "../tiny-codec", "sampling": sampling, **description}
    (folder / "kimi_audio.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def _config(kind: Any) -> Any:
    module = sys.modules[kind.__module__]
    return prepare_config(module.KimiAudioConfig(**SETTINGS))


def make_tiny_kimi_adapter(folder: Path, base: Path, *, seed: int = 1, rank: int = 4) -> Path:
    """A PEFT LoRA folder for ``base`` whose B matrices are not zero, made as a run makes one."""
    from peft import LoraConfig, get_peft_model

    from wavalign.models.kimi_loading import load_base

    loaded = load_base(base.name, base, trust_remote_code=True)
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
