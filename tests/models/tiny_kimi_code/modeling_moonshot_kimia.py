"""A tiny Kimi-Audio behind the interface of the published code: shared layers, the audio's own, a head for each.

Like that code, it keeps rotary tables in buffers that no file holds, calls the rotation with positions, and lists
weights as tied that are not.
"""

import torch
from torch import nn
from transformers.models.qwen2.modeling_qwen2 import (
    Qwen2MLP,
    Qwen2PreTrainedModel,
    Qwen2RMSNorm,
    apply_rotary_pos_emb,
)

from .configuration_moonshot_kimia import KimiAudioConfig


class RotaryEmbedding(nn.Module):
    def __init__(self, dim, max_position_embeddings, base):
        super().__init__()
        self.dim, self.max_position_embeddings, self.base = dim, max_position_embeddings, base
        steps = torch.arange(0, dim, 2).float()
        self.register_buffer("inv_freq", 1.0 / base ** (steps / dim), persistent=False)
        self._set_cos_sin_cache(max_position_embeddings, None, torch.float32)

    def _set_cos_sin_cache(self, seq_len, device, dtype):
        angles = torch.outer(torch.arange(seq_len, device=self.inv_freq.device).float(), self.inv_freq)
        both = torch.cat([angles, angles], -1)
        self.register_buffer("cos_cached", both.cos().to(dtype), persistent=False)
        self.register_buffer("sin_cached", both.sin().to(dtype), persistent=False)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads, self.shared = config.num_attention_heads, config.num_key_value_heads
        self.size = config.hidden_size // self.heads
        self.q_proj = nn.Linear(config.hidden_size, self.heads * self.size)
        self.k_proj = nn.Linear(config.hidden_size, self.shared * self.size)
        self.v_proj = nn.Linear(config.hidden_size, self.shared * self.size)
        self.o_proj = nn.Linear(self.heads * self.size, config.hidden_size, bias=False)
        self.rotary_emb = RotaryEmbedding(self.size, config.max_position_embeddings, config.rope_theta)

    def forward(self, hidden_states, position_ids, past_key_value, padding_mask):
        rows, length, _ = hidden_states.shape

        def heads(projected):
            return projected.view(rows, length, -1, self.size).transpose(1, 2)

        query, key, value = (heads(part(hidden_states)) for part in (self.q_proj, self.k_proj, self.v_proj))
        cos, sin = self.rotary_emb.cos_cached[position_ids], self.rotary_emb.sin_cached[position_ids]
        query, key = apply_rotary_pos_emb(query, key, cos, sin, position_ids)
        if past_key_value is not None:
            key, value = torch.cat([past_key_value[0], key], 2), torch.cat([past_key_value[1], value], 2)
        total = key.shape[2]
        seen = torch.ones(length, total, dtype=torch.bool, device=key.device).tril(total - length)[None, None]
        if padding_mask is not None:
            own = torch.eye(total, dtype=torch.bool, device=key.device)[total - length :]
            seen = (seen & padding_mask.bool()[:, None, None]) | own
        repeats = self.heads // self.shared
        mixed = nn.functional.scaled_dot_product_attention(
            query, key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1), attn_mask=seen
        )
        return self.o_proj(mixed.transpose(1, 2).reshape(rows, length, -1)), (key, value)


class DecoderLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = Qwen2MLP(config)
        self.input_layernorm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, hidden_states, position_ids=None, past_key_value=None, padding_mask=None):
        normed = self.input_layernorm(hidden_states)
        mixed, present = self.self_attn(normed, position_ids, past_key_value, padding_mask)
        hidden_states = hidden_states + mixed
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states)), present


class VQAdaptor(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(config.kimia_adaptor_input_dim, config.hidden_size),
            nn.SiLU(),
            nn.Dropout(0.0),
            nn.Linear(config.hidden_size, config.hidden_size),
            nn.LayerNorm(config.hidden_size, eps=config.rms_norm_eps),
        )

    def forward(self, features):
        return self.layers(features)


class MoonshotKimiaModel(Qwen2PreTrainedModel):
    config_class = KimiAudioConfig

    def __init__(self, config):
        super().__init__(config)
        self.branch = config.kimia_mimo_transformer_from_layer_index
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mimo_layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.kimia_mimo_layers))
        self.mimo_norm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.vq_adaptor = VQAdaptor(config)
        self.post_init()

    def forward(
        self,
        input_ids=None,
        text_input_ids=None,
        whisper_input_feature=None,
        is_continuous_mask=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    ):
        if inputs_embeds is None:
            audio = self.embed_tokens(input_ids)
            if whisper_input_feature is not None:  # one row, as in the published code
                heard = self.vq_adaptor(whisper_input_feature[0])
                spread = torch.zeros_like(audio)
                spread[0, is_continuous_mask[0]] = heard[0] if heard.dim() == 3 else heard
                joined = (audio + spread) * torch.sqrt(torch.tensor(2.0))
                audio = torch.where(is_continuous_mask[..., None], joined, audio)
            inputs_embeds = audio + self.embed_tokens(text_input_ids)
        past = past_key_values or [None] * (len(self.layers) + len(self.mimo_layers))
        kept, hidden, own = [], inputs_embeds, None
        for index, layer in enumerate(self.layers):
            hidden, present = layer(
                hidden, position_ids=position_ids, past_key_value=past[index], padding_mask=attention_mask
            )
            kept.append(present)
            if index == self.branch:
                own = hidden.clone()
        hidden = self.norm(hidden)
        for index, layer in enumerate(self.mimo_layers, start=len(self.layers)):
            own, present = layer(
                own, position_ids=position_ids, past_key_value=past[index], padding_mask=attention_mask
            )
            kept.append(present)
        return (hidden, self.mimo_norm(own), *([tuple(kept)] if use_cache else []))


class MoonshotKimiaForCausalLM(Qwen2PreTrainedModel):
    _tied_weights_keys = ["lm_head.weight", "mimo_output.weight"]  # noqa: RUF012
    config_class = KimiAudioConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = MoonshotKimiaModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.mimo_output = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids=None, text_input_ids=None, return_dict=None, **inputs):
        out = self.model(input_ids=input_ids, text_input_ids=text_input_ids, **inputs)
        return (self.mimo_output(out[1]), self.lm_head(out[0]), *out[2:])
