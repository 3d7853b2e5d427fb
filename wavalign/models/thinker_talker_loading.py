"""Reads Qwen2.5-Omni and Qwen3-Omni checkpoints as transformers saves them, and refuses what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import wavalign.torchaudio_guard  # noqa: F401  (transformers may look for torchaudio)
from wavalign.models import attention, loading
from wavalign.models.protocol import CheckpointError, Sampling
from wavalign.models.registry import read_json
from wavalign.models.thinker_talker import ThinkerTalkerModel
from wavalign.models.thinker_talker_base import OmniBase
from wavalign.models.thinker_talker_families import Family, OmniTokens, family_of
from wavalign.models.thinker_talker_network import OmniNetwork
from wavalign.models.thinker_talker_networks import Qwen3Network, Qwen25Network
from wavalign.models.thinker_talker_prompting import Ears, OmniPrompter
from wavalign.models.thinker_talker_vocoder import CausalVocoder, FlowVocoder, OmniCodec

SPEAKERS = "spk_dict.pt"
_OLD_NAMES = "thinker.model.layers."


def load_base(
    name: str,
    folder: Path,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> OmniBase:
    """A base folder onto ``device`` (a GPU when there is one); ``dtype`` None: float32 on a CPU, as stored on a GPU.

    The vocoder of Qwen2.5-Omni runs in float32 always, as its family asks. Nothing here needs remote code.

    Raises:
        CheckpointError: when a file is missing, broken, or does not fit the others.
    """
    folder = Path(folder)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    config = read_json(name, folder / "config.json")
    family = family_of(name, folder, config)
    if config.get("enable_audio_output") is False:
        raise CheckpointError(
            f'Checkpoint "{name}" has no talker (enable_audio_output is false in config.json), so it cannot speak. '
            f"Choose a checkpoint of {family.title} that speaks."
        )
    voices = _voices(name, folder, family) if family.model_type == "qwen2_5_omni" else {}
    for file in loading.weight_files(name, folder):
        loading.tensor_shapes(name, file)
    full, tokenizer, extractor = _read(name, folder, family, device, dtype)
    audio_mark = _checked_marks(name, family, tokenizer, full.config.thinker_config)
    if family.model_type == "qwen2_5_omni":
        network, codec, tokens = _qwen25(name, family, full, tokenizer, voices)
    else:
        network, codec, tokens = _qwen3(name, family, full, tokenizer)
    network.tokens = tokens
    tower = full.thinker.model.audio_tower
    ears = Ears(extractor, _placeholders(tower))
    context = network.text_config.max_position_embeddings
    prompter = OmniPrompter(family, tokens, tokenizer, ears, audio_mark, context)
    return OmniBase(name, network.eval(), full, family, tokenizer, tokens, codec, prompter)


def attach(base: OmniBase, name: str, folder: Path) -> str:
    """Attaches a PEFT folder to ``base`` unless it is attached already; returns the adapter's name there.

    Raises:
        CheckpointError: when the folder is broken, its tensors are not exactly those that this base needs, or it
            changes modules that cannot be adapted row by row.
    """
    weights = Path(folder) / loading.ADAPTER_WEIGHTS
    if weights.is_file():
        allowed = set(base.adaptable())
        for key in loading.tensor_shapes(name, weights):
            path = key.removeprefix("base_model.model.").split(".lora_")[0]
            if path in allowed:
                continue
            if _OLD_NAMES in key:
                raise CheckpointError(
                    f'Adapter "{name}" has the module names of transformers 4 ({path}); here they begin with '
                    "thinker.model.language_model.layers. Rename its keys and targets, or save it anew."
                )
            raise CheckpointError(
                f'Adapter "{name}" changes {path}, and in "{base.name}" only the linear modules of the thinker\'s and '
                "the talker's layers can be adapted."
            )
    return loading.attach(base, name, Path(folder))


def open_model(base: OmniBase, adapters: Mapping[str, str | None]) -> ThinkerTalkerModel:
    """A model over checkpoints of one base: name -> its adapter there, None for the base itself."""
    return ThinkerTalkerModel(base, adapters)


def default_sampling(folder: Path) -> Sampling:
    """What the family recommends, or ``thinker_talker.json`` beside the weights."""
    folder = Path(folder)
    return family_of(folder.name, folder, read_json(folder.name, folder / "config.json")).sampling


def _read(name: str, folder: Path, family: Family, device: torch.device, dtype: torch.dtype | None) -> tuple:
    """The model, its tokenizer and its feature extractor."""
    import transformers
    from transformers import AutoTokenizer, PreTrainedModel, WhisperFeatureExtractor
    from transformers.utils import logging

    kind = getattr(transformers, family.model_class)
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        # The family's own from_pretrained reads the voices too, and cannot tell what was missing.
        full, info = PreTrainedModel.from_pretrained.__func__(
            kind,
            str(folder),
            dtype=dtype or (torch.float32 if device.type == "cpu" else "auto"),
            device_map=None if device.type == "cpu" else {"": device},
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, in words
        )
        if (folder / "preprocessor_config.json").is_file():
            extractor = WhisperFeatureExtractor.from_pretrained(str(folder), local_files_only=True)
        else:
            extractor = WhisperFeatureExtractor(feature_size=full.config.thinker_config.audio_config.num_mel_bins)
    except CheckpointError:
        raise
    except Exception as error:  # transformers raises many kinds; each is about this folder
        raise CheckpointError(f'Checkpoint "{name}" cannot be loaded: {loading.reason(error)}') from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    loading.check_loaded(name, full, info)
    full.to(device)
    for part in (full.thinker, full.talker):  # the vocoder keeps its own
        attention.settle(part)
    return full.eval(), tokenizer, extractor


def _voices(name: str, folder: Path, family: Family) -> dict[str, Any]:
    """What ``spk_dict.pt`` says of the family's speaker."""
    path = folder / SPEAKERS
    if not path.is_file():
        raise CheckpointError(
            f'Checkpoint "{name}" is incomplete: {SPEAKERS} is missing, the voices of {family.title}. Copy it from the '
            "original checkpoint: save_pretrained does not write it."
        )
    try:
        voices = torch.load(path, weights_only=True, map_location="cpu")
        known = sorted(voices)
        voice = voices.get(family.speaker)
        if voice is not None and not {"bos_token", "cond", "ref_mel"} <= set(voice):
            raise ValueError("fields are missing")
    except Exception as error:  # a broken pickle raises anything
        raise CheckpointError(
            f'Checkpoint "{name}" is broken: {SPEAKERS} is not a file of voices. Restore it.'
        ) from error
    if voice is None:
        raise CheckpointError(f'Checkpoint "{name}" has no voice "{family.speaker}"; it has: {", ".join(known)}.')
    return voice


def _checked_marks(name: str, family: Family, tokenizer: Any, config: Any) -> int:
    """The placeholder's id; every mark of a prompt is one token, and the config means the same one."""
    vocabulary = tokenizer.get_vocab()
    for mark in ("<|im_start|>", "<|im_end|>", family.audio_begin, family.audio_mark, family.audio_end):
        if mark not in vocabulary:
            raise CheckpointError(f'Checkpoint "{name}": its tokenizer has no token "{mark}". Restore tokenizer.json.')
    mark = vocabulary[family.audio_mark]
    if mark != config.audio_token_id:
        raise CheckpointError(
            f'Checkpoint "{name}": {family.audio_mark} is token {mark} of its tokenizer, but {config.audio_token_id} '
            "in config.json. Restore both from one place."
        )
    return mark


def _words(tokenizer: Any, size: int) -> list[int]:
    special = set(tokenizer.all_special_ids)
    special |= {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    vocabulary = tokenizer.get_vocab()
    special |= {index for word, index in vocabulary.items() if word.startswith("<|") and word.endswith("|>")}
    return [index for index in vocabulary.values() if index < size and index not in special]


def _placeholders(tower: Any) -> Any:
    """How many placeholders so many mel frames become."""
    if hasattr(tower, "avg_pooler"):
        return lambda frames: int(tower._get_feat_extract_output_lengths(torch.tensor(frames))[1])
    from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import _get_feat_extract_output_lengths

    return lambda frames: int(_get_feat_extract_output_lengths(torch.tensor(frames), tower.n_window))


def _qwen25(
    name: str, family: Family, full: Any, tokenizer: Any, voice: dict[str, Any]
) -> tuple[OmniNetwork, OmniCodec, OmniTokens]:
    talker = full.talker.config
    codec = OmniCodec(FlowVocoder(full.token2wav, voice), family.title)
    if talker.tts_codec_end_token_id < codec.codebook_size:
        raise CheckpointError(
            f'Checkpoint "{name}": its vocoder has {codec.codebook_size} codes, but the talker ends speech with '
            f"{talker.tts_codec_end_token_id}. Restore config.json."
        )
    ends = (talker.tts_codec_end_token_id, talker.tts_codec_pad_token_id)
    tokens = _tokens(tokenizer, full, codec, talker.vocab_size, ends)
    return Qwen25Network(full, int(voice["bos_token"])), codec, tokens


def _qwen3(name: str, family: Family, full: Any, tokenizer: Any) -> tuple[OmniNetwork, OmniCodec, OmniTokens]:
    config, talker = full.config, full.talker.config
    voices = {str(key).lower(): value for key, value in (talker.speaker_id or {}).items()}
    if family.speaker.lower() not in voices:
        raise CheckpointError(f'Checkpoint "{name}" has no voice "{family.speaker}"; it has: {", ".join(voices)}.')
    codec = OmniCodec(CausalVocoder(full.code2wav), family.title)
    predictor = talker.code_predictor_config
    if not talker.num_code_groups == predictor.num_code_groups == codec.vocoder.books or (
        predictor.vocab_size < codec.vocoder.codes
    ):
        raise CheckpointError(
            f'Checkpoint "{name}": talker, code predictor and code2wav disagree about the code books. Restore '
            "config.json."
        )
    opening = tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    if len(opening) != 3 or opening[:2] != [config.im_start_token_id, config.assistant_token_id]:
        raise CheckpointError(
            f'Checkpoint "{name}": the tokens of "<|im_start|>assistant" are not those of config.json. Restore both '
            "from one place."
        )
    tokens = _tokens(tokenizer, full, codec, talker.text_config.vocab_size, (talker.codec_eos_token_id,))
    marks = (
        config.im_start_token_id,
        config.user_token_id,
        config.tts_bos_token_id,
        config.tts_eos_token_id,
        config.tts_pad_token_id,
    )
    return Qwen3Network(full, int(voices[family.speaker.lower()]), marks), codec, tokens


def _tokens(tokenizer: Any, full: Any, codec: OmniCodec, talker_size: int, ends: tuple[int, ...]) -> OmniTokens:
    text_size = full.thinker.lm_head.weight.shape[0]
    return OmniTokens.of(
        words=_words(tokenizer, text_size),
        text_size=text_size,
        text_end=tokenizer.get_vocab()["<|im_end|>"],
        codes=codec.vocoder.codes,
        books=codec.vocoder.books,
        talker_size=talker_size,
        talker_ends=ends,
        description=codec.pieces,
    )
