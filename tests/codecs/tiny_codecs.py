"""Codecs of other families in a few kilobytes: folders as on the Hub, and checkouts whose code has the same interface.

The tokenizer is the real one with random weights. The decoders are code of repositories that cannot be here: what
stands for them takes the same calls, remembers a reply's caches, holds back an overlap and draws noise as they do.
"""

from __future__ import annotations

import json
from pathlib import Path

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import WhisperFeatureExtractor

from wavalign.audio import Waveform, write
from wavalign.codecs.glm4_tokenizer import Glm4Tokenizer

CODES = 64

GLM_DECODER = '''
from collections import defaultdict

import torch
from torch import nn


class AudioDecoder:
    """1764 samples a code. All but the last block keep 100 samples back, mixed into the next."""

    def __init__(self, config_path, flow_ckpt_path, hift_ckpt_path, device="cuda"):
        self.flow, self.hift = nn.Embedding(64, 1), nn.Linear(1, 1)
        self.flow.load_state_dict(torch.load(flow_ckpt_path, map_location=device))
        self.hift.load_state_dict(torch.load(hift_ckpt_path, map_location=device))
        self.mel_overlap_dict, self.hift_cache_dict = defaultdict(lambda: None), defaultdict(lambda: None)

    def token2wav(self, token, uuid, prompt_token=None, prompt_feat=None, embedding=None, finalize=False):
        assert prompt_token.shape[1] == prompt_feat.shape[1]
        level = self.hift(self.flow(token)) + 0.1 * prompt_feat.sum()
        mel = level.transpose(1, 2).expand(1, 80, -1)
        speech = level.repeat_interleave(1764, 1)[..., 0] * torch.sin(torch.arange(1764 * token.shape[1]) * 0.07)
        speech = speech + 0.01 * torch.randn(speech.shape)
        held = self.mel_overlap_dict[uuid]
        if held is not None:
            speech = torch.cat([held, speech], 1)
        if finalize:
            del self.mel_overlap_dict[uuid]
            return speech, mel
        self.mel_overlap_dict[uuid] = speech[:, -100:]
        return speech[:, :-100], mel
'''

STEP_DECODER = '''
import io

import numpy as np
import soundfile
import torch
from torch import nn


class Token2wav:
    """960 samples a code; the sound of a code depends on the three behind it."""

    def __init__(self, model_path, float16=False):
        self.flow, self.hift = nn.Embedding(6561, 1), nn.Linear(1, 1)
        self.flow.load_state_dict(torch.load(f"{model_path}/flow.pt"))
        self.flow.pre_lookahead_len = 3
        self.stream_cache, self.hift_cache_dict = None, {}

    def _sound(self, codes, size):
        level = self.flow(torch.tensor(codes))[:, 0]
        level = torch.stack([level[i : i + 4].mean() for i in range(size)]) + 0.01 * torch.randn(size)
        return (torch.tanh(level).repeat_interleave(960) * 0.3).detach().numpy()

    def __call__(self, generated_speech_tokens, prompt_wav):
        output = io.BytesIO()
        sound = self._sound(generated_speech_tokens, len(generated_speech_tokens))
        soundfile.write(output, sound, 24000, format="WAV")
        return output.getvalue()
'''

STEP_STREAMING = """
    def set_stream_cache(self, prompt_wav):
        self.stream_cache, self.hift_cache_dict = {"said": 0}, {"voice": soundfile.read(prompt_wav)[0][:1]}

    def stream(self, generated_speech_tokens, prompt_wav, last_chunk=False):
        size = len(generated_speech_tokens) - (0 if last_chunk else 3)
        shift = 0.001 * self.stream_cache["said"]
        self.stream_cache = {"said": self.stream_cache["said"] + size}
        return ((self._sound(generated_speech_tokens, size) + shift) * 32767).astype("<i2").tobytes()
"""


def make_glm4_tokenizer(folder: Path, codes: int = CODES) -> Path:
    """The folder ``glm-4-voice-tokenizer`` with random weights; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "whisper", "d_model": 16, "encoder_attention_heads": 2, "encoder_ffn_dim": 24,
        "encoder_layers": 4, "num_mel_bins": 16, "max_source_positions": 1500, "pooling_kernel_size": 4,
        "pooling_type": "avg", "pooling_position": 1, "quantize_vocab_size": codes, "quantize_position": 2,
        "quantize_encoder_only": True, "encoder_causal_convolution": True, "quantize_causal_block_size": 20,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    extractor = WhisperFeatureExtractor(feature_size=16)
    extractor.save_pretrained(str(folder))
    torch.manual_seed(3)
    made = Glm4Tokenizer(config, extractor)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    save_file(
        {f"model.encoder.{name}": tensor for name, tensor in made.state_dict().items()}, folder / "model.safetensors"
    )
    return folder


def make_glm4_decoder(folder: Path, recipe: str = "flow: !new:cosyvoice.flow.flow.Flow\n") -> Path:
    """The folder ``glm-4-voice-decoder``; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(recipe, encoding="utf-8")
    torch.manual_seed(4)
    torch.save({"weight": torch.randn(CODES, 1) * 0.3}, folder / "flow.pt")
    torch.save({"weight": torch.eye(1), "bias": torch.zeros(1)}, folder / "hift.pt")
    return folder


def make_glm4_checkout(folder: Path) -> Path:
    """What WAVALIGN_GLM4_VOICE names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "flow_inference.py").write_text(GLM_DECODER, encoding="utf-8")
    _defines(folder / "cosyvoice" / "flow" / "flow.py")
    return folder


def make_token2wav(folder: Path) -> Path:
    """The folder ``token2wav`` of Step-Audio 2; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "flow.yaml").write_text("flow: !new:cosyvoice2.flow.flow.Flow\n", encoding="utf-8")
    torch.manual_seed(5)
    torch.save({"weight": torch.randn(6561, 1)}, folder / "flow.pt")
    for name in ("hift.pt", "campplus.onnx", "speech_tokenizer_v2_25hz.onnx"):
        (folder / name).write_bytes(b"-")
    return folder


def make_step_checkout(folder: Path, streaming: bool = True) -> Path:
    """What WAVALIGN_STEP_AUDIO_2 names."""
    (folder / "assets").mkdir(parents=True, exist_ok=True)
    (folder / "token2wav.py").write_text(STEP_DECODER + (STEP_STREAMING if streaming else ""), encoding="utf-8")
    _defines(folder / "cosyvoice2" / "flow" / "flow.py")
    write(folder / "assets" / "default_female.wav", Waveform(np.full(1600, 0.1, np.float32), 16_000))
    return folder


def _defines(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("import os\n\n\nclass Flow:\n    pass\n", encoding="utf-8")
