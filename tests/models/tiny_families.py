"""VITA-Audio-Plus, GLM-4-Voice and Step-Audio 2 with random weights, in the folders that their real ones have.

Configs, names of tensors, special tokens and the interfaces of the Python files that come with them are the families'
own; sizes are tiny and there are 64 codes.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GlmConfig, GlmForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

TEXTS = ("user\n", "assistant\n", "zero one two three four five six seven eight nine ten one", "what is plus")
CODES = 64
WIDTH = 32
QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_OF = {"image": "begin end context", "video": "begin end context", "patch": "begin end context"}
_OF |= {"audio": "begin end context", "quad": "begin end", "ref": "begin end", "box": "begin end"}
VITA = (
    *(f"<|{word}_of_{kind}|>" for kind, words in _OF.items() for word in words.split()),
    "<|image|>", "<|video|>", "<|audio|>",
)  # fmt: skip
STEP = ("<|BOT|>", "<|EOT|>", "<audio_start>", "<audio_end>", "<audio_patch>", "<tts_start>", "<tts_end>", "<tts_pad>")
GLM = (
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>",
    "<|observation|>", "<|begin_of_audio|>", "<|end_of_audio|>",
)  # fmt: skip

SENSEVOICE = '''
import torch
from torch import nn


class Frontend:
    """A frame of 560 numbers for each 60 ms."""

    def __call__(self, samples, lengths):
        frames = samples[:, : samples.shape[1] // 960 * 960].reshape(1, -1, 960)[..., :560]
        return frames, lengths // 960


class AudioEncoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        assert "_name_or_path" in config and config.hidden_size
        self.model, self.kwargs = nn.Linear(560, 24), {"frontend": Frontend()}

    def forward(self, audios):
        padded = nn.utils.rnn.pad_sequence(audios, batch_first=True).to(torch.bfloat16)
        encoded = self.model(nn.functional.pad(padded, (0, 0, 4, 0), value=0.5))
        return encoded, torch.as_tensor([len(x) + 4 for x in audios])
'''
PROJECTOR = """
from torch import nn


class ResamplerProjector(nn.Module):
    def __init__(self, proj_input_size, hidden_size):
        super().__init__()
        self.pre_proj_layernorm = nn.LayerNorm(proj_input_size)
        self.mlp = nn.Sequential(nn.Linear(proj_input_size, hidden_size, bias=False), nn.GELU())

    def forward(self, x):
        return self.mlp(self.pre_proj_layernorm(x))
"""
STEP_CODE = """
import torch
from torch import nn
from transformers import PreTrainedModel


def log_mel_spectrogram(audio, n_mels=128, padding=479, device=None):
    audio = nn.functional.pad(audio, (0, padding))
    power = torch.stft(audio, 400, 160, window=torch.hann_window(400), return_complex=True)[..., :-1].abs() ** 2
    return (power[:n_mels].clamp(min=1e-10).log10() + 4.0) / 4.0


class AudioEncoder(nn.Module):
    def __init__(self, n_mels, n_ctx, n_state, n_head, n_layer):
        super().__init__()
        self.conv = nn.Conv1d(n_mels, n_state, 3, stride=2, padding=1)

    def forward(self, x, x_len):
        return nn.functional.avg_pool1d(self.conv(x), 2).transpose(1, 2), (x_len + 1) // 2 // 2


class Adaptor(nn.Module):
    def __init__(self, n_state, n_hidden, kernel_size, stride):
        super().__init__()
        self.conv = nn.Conv1d(n_state, n_state, kernel_size, stride, padding=1)
        self.linear = nn.Linear(n_state, n_hidden)

    def forward(self, x):
        return self.linear(self.conv(x.transpose(1, 2)).transpose(1, 2))


class StepAudio2ForCausalLM(PreTrainedModel):
    pass
"""


def byte_pairs() -> Tokenizer:
    """Bytes and a few merges, so that every text can be read."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, min_frequency=2, show_progress=False)
    tokenizer.train_from_iterator([text for text in TEXTS for _ in range(9)], trainer)
    return tokenizer


def make_tokenizer(special: tuple[str, ...], code: str, codes: int) -> PreTrainedTokenizerFast:
    """Qwen2's kind of tokenizer with a family's special tokens, then its codes in order."""
    made = PreTrainedTokenizerFast(tokenizer_object=byte_pairs(), eos_token="<|endoftext|>")
    made.add_special_tokens({"additional_special_tokens": [*QWEN, *special]})
    made.add_tokens([code.format(number) for number in range(codes)])
    return made


def lively(network: torch.nn.Module) -> torch.nn.Module:
    """Weights that make logits differ; with the usual 0.02 all would be alike, and errors would not show."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def qwen2_settings(vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary, "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "rms_norm_eps": 1e-6,
        "rope_theta": 1e6, "tie_word_embeddings": False, "use_sliding_window": False, "sliding_window": 131072,
        "max_window_layers": 2, "hidden_act": "silu",
    }  # fmt: skip


def network_of(family: str, vocabulary: int) -> torch.nn.Module:
    """What a checkpoint of a family is, as transformers knows it."""
    if family == "glm-4-voice":
        return lively(GlmForCausalLM(glm_config(vocabulary)))
    return lively(Qwen2ForCausalLM(Qwen2Config(**qwen2_settings(vocabulary))))


def make_vita(folder: Path, codes: int = CODES, **description: Any) -> Path:
    """VITA-Audio-Plus-Vanilla; ``description`` goes into interleaved.json, which is left out without it."""
    tokenizer = make_tokenizer(VITA, "<|audio_{}|>", codes)
    settings = qwen2_settings(-(-len(tokenizer) // 8) * 8)
    torch.manual_seed(0)
    tensors = dict(network_of("vita-audio-plus", settings["vocab_size"]).state_dict())
    tensors |= {
        "model.audio_model.model.weight": torch.randn(24, 560) * 0.3,
        "model.audio_model.model.bias": torch.zeros(24),
    }
    tensors |= {"model.audio_projection.pre_proj_layernorm.weight": torch.ones(24)}
    tensors |= {"model.audio_projection.pre_proj_layernorm.bias": torch.zeros(24)}
    tensors |= {"model.audio_projection.mlp.0.weight": torch.randn(WIDTH, 24) * 0.3}
    config = {
        "model_type": "qwen2_mtp_sensevoice", "architectures": ["Qwen2MTPSenseVoiceForCausalLM"],
        "auto_map": {"AutoModelForCausalLM": "modeling_qwen2.Qwen2MTPSenseVoiceForCausalLM"},
        "num_nextn_predict_layers": 0, "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
    }  # fmt: skip
    return _written(
        folder, tokenizer, config | settings, tensors, description,
        {"modeling_sensevoice.py": SENSEVOICE, "resampler_projector.py": PROJECTOR},
    )  # fmt: skip


def make_step(folder: Path, codes: int = CODES, **description: Any) -> Path:
    """Step-Audio-2-mini, with one code more for speech that has ended."""
    tokenizer = make_tokenizer(STEP, "<audio_{}>", codes + 1)
    settings = qwen2_settings(-(-len(tokenizer) // 8) * 8)
    torch.manual_seed(0)
    tensors = dict(network_of("step-audio-2", settings["vocab_size"]).state_dict())
    tensors["lm_head.weight"][tokenizer.convert_tokens_to_ids(f"<audio_{codes}>")] = 0  # never the likeliest
    tensors |= {"encoder.conv.weight": torch.randn(12, 16, 3) * 0.2, "encoder.conv.bias": torch.zeros(12)}
    tensors |= {"adapter.conv.weight": torch.randn(12, 12, 3) * 0.2, "adapter.conv.bias": torch.zeros(12)}
    tensors |= {"adapter.linear.weight": torch.randn(WIDTH, 12) * 0.3, "adapter.linear.bias": torch.zeros(WIDTH)}
    config = {
        "model_type": "step_audio_2", "architectures": ["StepAudio2ForCausalLM"],
        "auto_map": {"AutoModelForCausalLM": "modeling_step_audio_2.StepAudio2ForCausalLM"},
        "text_config": {"model_type": "qwen2", **settings},
        "audio_encoder_config": {
            "n_mels": 16, "n_audio_ctx": 1500, "n_audio_state": 12, "n_audio_head": 2, "n_audio_layer": 1,
            "llm_dim": WIDTH, "kernel_size": 3, "adapter_stride": 2,
        },
    }  # fmt: skip
    return _written(folder, tokenizer, config, tensors, description, {"modeling_step_audio_2.py": STEP_CODE})


def make_glm(folder: Path, codes: int = CODES, **description: Any) -> Path:
    """GLM-4-Voice-9B: a ChatGLM config and tensors, and byte pairs as ranks."""
    pairs = byte_pairs()
    ranks = sorted(pairs.get_vocab().items(), key=lambda item: item[1])
    byte_of = {symbol: byte for byte, symbol in _bytes_to_symbols().items()}
    lines = [base64.b64encode(bytes(byte_of[c] for c in token)) + b" %d" % rank for token, rank in ranks]
    added = [*GLM, *(f"<|audio_{number}|>" for number in range(codes))]
    gap = 5  # ids without a name, between the marks and the codes
    places = [len(ranks) + i + (gap if i >= len(GLM) else 0) for i in range(len(added))]
    marks = {str(i): {"content": name, "special": name in GLM} for i, name in zip(places, added, strict=True)}
    vocabulary = -(-(places[-1] + 1) // 8) * 8
    torch.manual_seed(0)
    tensors = chatglm_tensors(network_of("glm-4-voice", vocabulary).state_dict(), 2)
    config = {
        "model_type": "chatglm", "architectures": ["ChatGLMForConditionalGeneration"],
        "auto_map": {"AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration"},
        "padded_vocab_size": vocabulary, "hidden_size": WIDTH, "ffn_hidden_size": 48, "num_layers": 2,
        "num_attention_heads": 4, "multi_query_group_num": 2, "multi_query_attention": True, "kv_channels": 8,
        "seq_length": 1024, "layernorm_epsilon": 1.5625e-07, "add_qkv_bias": True, "rope_ratio": 1,
        "pad_token_id": len(ranks), "eos_token_id": [len(ranks), len(ranks) + 7, len(ranks) + 9],
    }  # fmt: skip
    _written(folder, None, config, tensors, description, {})
    (folder / "tokenizer.model").write_bytes(b"\n".join(lines) + b"\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": marks}), encoding="utf-8")
    return folder


def glm_config(vocabulary: int) -> GlmConfig:
    return GlmConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=1024, attention_bias=True, pad_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
    )  # fmt: skip


def chatglm_tensors(state: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """The tensors of a ``GlmForCausalLM`` as a ChatGLM checkpoint holds them."""
    told = {
        "transformer.embedding.word_embeddings.weight": state["model.embed_tokens.weight"],
        "transformer.encoder.final_layernorm.weight": state["model.norm.weight"],
        "transformer.output_layer.weight": state["lm_head.weight"],
        "transformer.rotary_pos_emb.inv_freq": torch.ones(4),
    }
    for number in range(layers):
        mine, theirs = f"model.layers.{number}.", f"transformer.encoder.layers.{number}."
        for kind in ("weight", "bias"):
            parts = [state[f"{mine}self_attn.{name}_proj.{kind}"] for name in "qkv"]
            told[f"{theirs}self_attention.query_key_value.{kind}"] = torch.cat(parts)
        told[f"{theirs}self_attention.dense.weight"] = state[f"{mine}self_attn.o_proj.weight"]
        told[f"{theirs}mlp.dense_h_to_4h.weight"] = state[f"{mine}mlp.gate_up_proj.weight"]
        told[f"{theirs}mlp.dense_4h_to_h.weight"] = state[f"{mine}mlp.down_proj.weight"]
        for name in ("input_layernorm", "post_attention_layernorm"):
            told[f"{theirs}{name}.weight"] = state[f"{mine}{name}.weight"]
    return told


def make_adapter(folder: Path, base: Path, *, seed: int = 1, rank: int = 4) -> Path:
    """A PEFT LoRA folder for ``base`` whose B matrices are not zero, made as a run makes one."""
    from peft import LoraConfig, get_peft_model

    from wavalign.models.loading import load_base

    loaded = load_base(base.name, base)
    torch.manual_seed(seed)
    settings = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=loaded.policy({}).lora_targets(), task_type="CAUSAL_LM"
    )
    model = get_peft_model(loaded.model, settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    model.peft_config["default"].base_model_name_or_path = base.name
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def _written(
    folder: Path, tokenizer: Any, config: dict, tensors: dict, description: dict, code: dict[str, str]
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        tokenizer.save_pretrained(str(folder))
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    for name, text in code.items():
        (folder / name).write_text(text, encoding="utf-8")
    if description:
        (folder / "interleaved.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


def _bytes_to_symbols() -> dict[int, str]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return bytes_to_unicode()
