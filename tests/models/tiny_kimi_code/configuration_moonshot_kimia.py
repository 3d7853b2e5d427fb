"""The config of a tiny Kimi-Audio, with the fields of the published one."""

from transformers import Qwen2Config


class KimiAudioConfig(Qwen2Config):
    model_type = "kimi_audio"

    def __init__(
        self,
        kimia_mimo_layers=2,
        kimia_mimo_audiodelaytokens=6,
        kimia_mimo_transformer_from_layer_index=0,
        kimia_token_offset=320,
        kimia_adaptor_input_dim=32,
        kimia_media_begin=0,
        kimia_media_end=0,
        use_whisper_feature=True,
        rope_theta=10000.0,
        **settings,
    ):
        super().__init__(rope_theta=rope_theta, **settings)
        self.kimia_mimo_layers = kimia_mimo_layers
        self.kimia_mimo_audiodelaytokens = kimia_mimo_audiodelaytokens
        self.kimia_mimo_transformer_from_layer_index = kimia_mimo_transformer_from_layer_index
        self.kimia_token_offset = kimia_token_offset
        self.kimia_adaptor_input_dim = kimia_adaptor_input_dim
        self.kimia_media_begin = kimia_media_begin
        self.kimia_media_end = kimia_media_end
        self.use_whisper_feature = use_whisper_feature
