"""VITA-Audio, GLM-4-Voice and Step-Audio 2: prompts, replies and ends token by token, worked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import numpy as np
import pytest
import torch

from evaluation.speed_gpu_rows import hum
from tests import tiny
from tests.codecs import tiny_codecs
from tests.models import tiny_families
from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.models import families
from wavalign.models.description import InterleavedDescription, LayoutError
from wavalign.models.loading import load_base, source_of
from wavalign.models.memory_estimate import estimate_folder
from wavalign.models.protocol import CheckpointError, GenerationError, Sampling
from wavalign.models.registry import Registry
from wavalign.models.registry_adding import Wish, look
from wavalign.models.registry_hints import hints
from wavalign.models.registry_layouts import brings_code, layout_at, layout_of
from wavalign.training.channels import FORMAT, SPEECH, TEXT, channels_of

TYPED = Dialogue((Turn("user", text="What is"),))
MAKERS = {
    "vita-audio-plus": (tiny_families.make_vita, {}),
    "glm-4-voice": (tiny_families.make_glm, {}),
    "step-audio-2": (tiny_families.make_step, {"speech_pad": "<audio_64>"}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of each family, with the embedded model's kind of codec."""
    folder = tmp_path_factory.mktemp("families")
    tiny.make_tiny_codec(folder / "tiny-codec")
    for name, (make, changes) in MAKERS.items():
        make(folder / name, extends=name, speech_count=tiny.CODES, codec="../tiny-codec", **changes)
    return folder


@pytest.fixture(scope="module")
def bases(folders: Path) -> dict[str, Any]:
    return {name: load_base(name, folders / name, trust_remote_code=True) for name in MAKERS}


def names_of(base: Any, ids: list[int]) -> list[str]:
    """The names of ids, Qwen's spelling of a space and a line break read back."""
    return [each.replace("Ġ", " ").replace("Ċ", "\n") for each in base.tokenizer.convert_ids_to_tokens(list(ids))]


def prompt_of(base: Any, dialogue: Dialogue) -> str:
    """A prompt as text; the ids of recordings as the family's placeholder."""
    placeholder = base.tokens.placeholder
    ids = [
        placeholder if i >= base.tokens.vocabulary_size else i for i in base.policy({"x": None}).encode_prompt(dialogue)
    ]
    return base.tokenizer.decode(ids)


def audio(start: int, stop: int, name: str = "<|audio_{}|>") -> list[str]:
    return [name.format(number) for number in range(start, stop)]


# Replies. The tiny tokenizers know the words one to ten whole, each with the space before it.


def test_vita_audio_says_one_word_then_four_and_eight_codes_between_boundaries_each_time(bases: dict) -> None:
    base = bases["vita-audio-plus"]
    model = base.policy({"x": None})
    words = names_of(base, base.prompter.text_ids("one two three four five"))
    assert words == ["one", " two", " three", " four", " five"]
    begin, end = "<|begin_of_audio|>", "<|end_of_audio|>"
    packed = model.encode_target("one two three four five", list(range(30)))
    assert names_of(base, packed) == [
        "one", begin, *audio(0, 8), end,
        " two", " three", " four", " five", begin, *audio(8, 16), end,
        "\n", begin, *audio(16, 30), end,  # what is left of the speech goes into the last chunk
        "<|im_end|>",
    ]  # fmt: skip
    channels = channels_of(model, packed).tolist()
    t, s, f = int(TEXT), int(SPEECH), int(FORMAT)
    chunk = [f, *[s] * 8, f]
    assert channels == [t, *chunk, t, t, t, t, *chunk, t, f, *[s] * 14, f, f]
    assert model.well_formed(packed, whole=True)
    assert not model.well_formed(packed[:-1], whole=True)
    assert model.text_of(packed) == "one two three four five\n"
    # Speech that ends before the line break would come goes without it.
    assert names_of(base, model.encode_target("one", [1, 2])) == [
        "one",
        begin,
        "<|audio_1|>",
        "<|audio_2|>",
        end,
        "<|im_end|>",
    ]


def test_glm_4_voice_says_13_words_then_26_codes_and_ends_at_the_next_turns_mark(bases: dict) -> None:
    base = bases["glm-4-voice"]
    model = base.policy({"x": None})
    text = "one two three four five six seven eight nine ten one two three four five"
    words = names_of(base, base.prompter.text_ids(text))
    assert len(words) == 15
    packed = model.encode_target(text, list(range(40)))
    assert names_of(base, packed) == [*words[:13], *audio(0, 26), *words[13:], *audio(26, 40), "<|user|>"]
    assert channels_of(model, packed).tolist() == [0] * 13 + [1] * 26 + [0] * 2 + [1] * 14 + [2]
    assert model.well_formed(packed, whole=True)


def test_step_audio_2_says_a_word_and_four_codes_and_fills_up_what_has_ended(bases: dict) -> None:
    base = bases["step-audio-2"]
    model = base.policy({"x": None})
    packed = model.encode_target("one two", list(range(10)))
    names = names_of(base, packed)
    code = "<audio_{}>"
    assert names == [
        "one", *audio(0, 4, code), " two", *audio(4, 8, code),
        "<tts_pad>", *audio(8, 10, code), "<audio_64>", "<audio_64>", "<tts_end>", "<|EOT|>",
    ]  # fmt: skip
    assert channels_of(model, packed).tolist() == [0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 2, 1, 1, 2, 2, 2, 2]
    assert model.well_formed(packed, whole=True)
    assert model.text_of(packed) == "one two"
    assert base.tokens.codes_of(packed) == list(range(10))  # the fill is no code
    longer = names_of(base, model.encode_target("one two three", list(range(5))))
    assert longer[5:] == [
        " two",
        "<audio_4>",
        *["<audio_64>"] * 3,
        " three",
        *["<audio_64>"] * 4,
        "<tts_end>",
        "<|EOT|>",
    ]
    assert model.well_formed(model.encode_target("one two three", list(range(5))), whole=True)


@pytest.mark.parametrize(
    ("said", "fits"),
    [
        ("one <audio_0> <audio_1> <audio_2> <audio_3> <tts_end> <|EOT|>", True),
        ("one <audio_0> <audio_1> <tts_end> <|EOT|>", True),  # cut short, as the model may end
        ("one <audio_0> <audio_1> <audio_64> <audio_64> <tts_pad> <audio_3>", False),  # speech does not come back
        ("one <audio_0> <audio_1> <audio_2> <audio_3> <tts_pad> <audio_3> <audio_4> <audio_5> <audio_6> one", False),
        ("<tts_pad> <audio_0>", False),  # a reply begins with a word
        ("one one", False),
        ("one <audio_64>", False),  # and is heard
        ("one <audio_0> <audio_1> <audio_2> <audio_3> <|EOT|>", False),
    ],
)
def test_step_audio_2s_order_is_what_may_be_said(bases: dict, said: str, fits: bool) -> None:
    base = bases["step-audio-2"]
    ids = base.tokenizer.convert_tokens_to_ids(said.split())
    assert None not in ids
    assert base.policy({"x": None}).well_formed(ids, whole=fits) is fits


# Prompts


VITA_SYSTEM = (
    "<|im_start|>system\nYour Name: Luke\nYour Gender: male\n\nRespond in a text-audio interleaved manner.<|im_end|>\n"
)


def test_vita_audios_prompt(bases: dict) -> None:
    base = bases["vita-audio-plus"]
    asked = "<|im_start|>user\nWhat is<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_of(base, TYPED) == VITA_SYSTEM + asked
    reply = base.policy({"x": None}).encode_target("one", list(range(3)))
    goes_on = TYPED.plus(Turn("assistant", tokens=tuple(reply))).plus(Turn("user", text="two"))
    said = "one<|begin_of_audio|><|audio_0|><|audio_1|><|audio_2|><|end_of_audio|><|im_end|>\n"
    more = "<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_of(base, goes_on) == VITA_SYSTEM + asked + said + more
    # 1 s is 16 frames of 60 ms; the encoder puts 4 before them.
    heard = "<|begin_of_audio|>" + "<|context_of_audio|>" * 20 + "<|end_of_audio|>"
    spoken = prompt_of(base, Dialogue((Turn("user", speech=hum(1.0)),)))
    assert spoken == VITA_SYSTEM + f"<|im_start|>user\n{heard}<|im_end|>\n<|im_start|>assistant\n"


def test_glm_4_voices_prompt_asks_by_how_the_first_turn_was_given_and_names_each_turn_once(bases: dict) -> None:
    base = bases["glm-4-voice"]
    model = base.policy({"x": None})
    first = prompt_of(base, TYPED)
    assert first.startswith("[gMASK]<sop><|system|>\nUser will provide you with a text instruction. ")
    assert first.endswith("26 audio tokens.<|user|>\nWhat is<|assistant|>streaming_transcription\n")
    reply = model.encode_target("one", list(range(2)))
    goes_on = TYPED.plus(Turn("assistant", tokens=tuple(reply))).plus(Turn("user", codes=(5, 6)))
    assert prompt_of(base, goes_on) == first + (
        "one<|audio_0|><|audio_1|><|user|>\n<|begin_of_audio|><|audio_5|><|audio_6|><|end_of_audio|>"
        "<|assistant|>streaming_transcription\n"
    )
    spoken = prompt_of(base, Dialogue((Turn("user", codes=(1,)),)))
    assert spoken.startswith("[gMASK]<sop><|system|>\nUser will provide you with a speech instruction. ")
    assert "26 audio tokens. <|user|>\n<|begin_of_audio|><|audio_1|><|end_of_audio|><|assistant|>" in spoken


def test_step_audio_2s_prompt_calls_the_user_human_and_asks_for_speech(bases: dict) -> None:
    base = bases["step-audio-2"]
    system = "<|BOT|>system\nYou are a helpful assistant.<|EOT|>"
    asked = f"{system}<|BOT|>human\nWhat is<|EOT|><|BOT|>assistant\n<tts_start>"
    assert prompt_of(base, TYPED) == asked
    reply = base.policy({"x": None}).encode_target("one", list(range(4)))
    goes_on = TYPED.plus(Turn("assistant", tokens=tuple(reply))).plus(Turn("user", text="two"))
    said = "one<audio_0><audio_1><audio_2><audio_3><tts_end><|EOT|>"
    assert prompt_of(base, goes_on) == f"{asked}{said}<|BOT|>human\ntwo<|EOT|><|BOT|>assistant\n<tts_start>"
    # 1 s and 479 samples of silence are 102 frames; 100 count, 25 after the encoder, 13 after the adaptor.
    one = "<audio_start>" + "<audio_patch>" * 13 + "<audio_end>"
    spoken = prompt_of(base, Dialogue((Turn("user", speech=hum(1.0)),)))
    assert spoken == f"{system}<|BOT|>human\n{one}<|EOT|><|BOT|>assistant\n<tts_start>"
    # 26 s are two segments, of 25 s (313 vectors) and 1 s, each between marks.
    long = prompt_of(base, Dialogue((Turn("user", speech=hum(26.0)),)))
    assert long.count("<audio_start>") == 2
    assert long.endswith(f"<audio_patch><audio_end>{one}<|EOT|><|BOT|>assistant\n<tts_start>")
    assert long.count("<audio_patch>") == 313 + 13


# Hearing


@pytest.mark.parametrize("family", ["vita-audio-plus", "step-audio-2"])
def test_a_recording_is_in_the_prompt_what_the_checkpoints_own_encoder_makes_of_it(bases: dict, family: str) -> None:
    base = bases[family]
    dialogue = Dialogue((Turn("user", speech=hum(0.7)),))
    prompt = base.policy({"x": None}).encode_prompt(dialogue)
    ids = torch.tensor([prompt])
    heard = ids >= base.tokens.vocabulary_size
    (made,) = base.heard.ears.hear(hum(0.7))
    embedded = base.network.get_input_embeddings()(ids)
    assert torch.equal(embedded[heard], made.float())
    assert torch.equal(embedded[~heard], base.network.get_input_embeddings().weight[ids[~heard]])
    placed = ids.masked_fill(heard, base.tokens.placeholder)
    given = torch.nn.functional.embedding(placed, base.network.get_input_embeddings().weight)
    given = given.masked_scatter(heard[..., None], made.float())
    with torch.no_grad():
        assert torch.equal(base.network(input_ids=ids).logits, base.network(inputs_embeds=given).logits)
    assert base.policy({"x": None}).encode_prompt(dialogue) == prompt
    assert base.policy({"x": None}).encode_prompt(Dialogue((Turn("user", speech=hum(0.7, 300)),))) != prompt


def test_recordings_are_kept_as_long_as_a_prompt_stands_for_them(bases: dict) -> None:
    base = bases["step-audio-2"]
    prompt = base.policy({"x": None}).encode_prompt(Dialogue((Turn("user", speech=hum(0.5, 222)),)))
    base.prompter.forget()
    base.network.get_input_embeddings()(torch.tensor([prompt]))
    number = prompt.recordings[0].number
    del prompt
    assert number not in base.heard._known


@pytest.mark.parametrize("family", ["vita-audio-plus", "step-audio-2"])
def test_without_the_hosts_consent_no_code_of_the_checkpoint_runs_and_typed_words_are_answered(
    folders: Path, family: str
) -> None:
    base = load_base(family, folders / family)
    model = base.policy({"x": None})
    assert model.sample_groups([model.encode_prompt(TYPED)], 1, Sampling(max_tokens=6))[0][0].tokens
    with pytest.raises(GenerationError, match=r"^[^\n]*WAVALIGN_TRUST_REMOTE_CODE=[^\n]*Type the question[.]$"):
        model.encode_prompt(Dialogue((Turn("user", speech=hum(0.5)),)))
    with pytest.raises(GenerationError, match="speech tokens of another model"):
        model.encode_prompt(Dialogue((Turn("user", codes=(1, 2)),)))


@pytest.mark.parametrize("family", MAKERS)
def test_a_family_that_a_description_extends_answers_typed_words_without_the_hosts_consent(
    folders: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAVALIGN_TRUST_REMOTE_CODE", raising=False)
    registry = Registry(folders)
    model = registry.load([family])
    assert model.sample_groups([model.encode_prompt(TYPED)], 1, Sampling(max_tokens=6))[0][0].tokens
    warned = [
        each for each in look(Registry(folders / "none"), Wish(str(folders / family))).warnings if "Python" in each
    ]
    assert [each.startswith("It hears recordings by") for each in warned] == [True] * (family != "glm-4-voice")


def test_what_a_description_without_a_native_backbone_brings_does_not_run(folders: Path) -> None:
    config = json.loads((folders / "glm-4-voice" / "config.json").read_text())
    layout = layout_at("it", folders / "glm-4-voice")
    assert not brings_code(layout, config, {"extends": "glm-4-voice"})
    assert not brings_code(layout, config, {"backbone": "chatglm"})
    assert brings_code(layout, config, {"extends": "glm-4-voice", "backbone": None})
    assert brings_code(layout, config, {"extends": "a family that is not known"})
    assert brings_code(layout, config, {"family": "mine"})


def test_what_the_host_is_to_name_is_the_hub_id_where_there_is_one() -> None:
    cache = Path("/home/me/hub/models--VITA-MLLM--VITA-Audio-Plus-Vanilla/snapshots/abc")
    assert source_of(cache) == "VITA-MLLM/VITA-Audio-Plus-Vanilla"
    assert source_of(Path("/models/VITA-Audio-Plus-Vanilla")) == "/models/VITA-Audio-Plus-Vanilla"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "modeling_sensevoice.py").unlink(), "modeling_sensevoice.py.*cannot be imported"),
        (lambda f: (f / "modeling_sensevoice.py").write_text("import funasr_that_is_not_here\n"), "funasr_that_is_not"),
    ],
    ids=["no code", "a package is missing"],
)
def test_an_encoder_that_cannot_be_opened_is_one_sentence(tmp_path: Path, spoil: Any, said: str) -> None:
    tiny.make_tiny_codec(tmp_path / "tiny-codec")
    told = {"extends": "vita-audio-plus", "speech_count": 64, "codec": "../tiny-codec"}
    folder = tiny_families.make_vita(tmp_path / said[:4], **told)
    spoil(folder)
    with pytest.raises(CheckpointError, match=rf"^[^\n]*{said}[^\n]*[.]$"):
        load_base("broken", folder, trust_remote_code=True)


# Found by config.json


def test_a_hub_folder_is_known_by_its_config_alone_and_brings_its_familys_codec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_families.make_vita(tmp_path / "VITA-Audio-Plus-Vanilla", codes=16384)
    assert layout_at("vita", folder).name == "interleaved"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no cache"))
    monkeypatch.delenv("WAVALIGN_GLM4_VOICE", raising=False)
    looked = look(Registry(tmp_path / "assets"), Wish(str(folder)))
    assert looked.facts["Family"] == "VITA-Audio-Plus"
    wanted = (
        "hf download THUDM/glm-4-voice-tokenizer",
        "hf download THUDM/glm-4-voice-decoder",
        "GLM4_VOICE=",
        "hears",
    )
    assert len(looked.warnings) == len(wanted)
    assert all(each in warning for each, warning in zip(wanted, looked.warnings, strict=True))
    with pytest.raises(CheckpointError, match=r"^[^\n]*hf download THUDM/glm-4-voice-tokenizer[^\n]*[.]$"):
        load_base("vita", folder)
    before = looked.estimate.stored
    tiny_codecs.make_glm4_tokenizer(tmp_path / "glm-4-voice-tokenizer", codes=16384)
    tiny_codecs.make_glm4_decoder(tmp_path / "glm-4-voice-decoder")
    monkeypatch.setenv("WAVALIGN_GLM4_VOICE", str(tiny_codecs.make_glm4_checkout(tmp_path / "GLM-4-Voice")))
    looked = look(Registry(tmp_path / "assets"), Wish(str(folder)))
    assert len(looked.warnings) == 1
    assert looked.estimate.stored > before + 16384 * 16 * 4  # the codec's weights are counted
    base = load_base("vita", folder)
    assert base.codec.tokens_per_second == 12.5
    assert base.tokens.description.speech_count == 16384
    assert names_of(base, [base.tokens.speech_start + 16383]) == ["<|audio_16383|>"]
    assert "WAVALIGN_TRUST_REMOTE_CODE" in base.deaf


@pytest.mark.parametrize("family", MAKERS)
def test_a_checkpoints_tensors_give_the_logits_of_the_network_they_came_from(bases: dict, family: str) -> None:
    base = bases[family]
    torch.manual_seed(0)
    theirs = tiny_families.network_of(family, base.tokens.vocabulary_size)
    if family == "step-audio-2":
        theirs.lm_head.weight.data[base.tokens.speech_pad] = 0
    ids = torch.arange(200)[None]
    with torch.no_grad():
        assert torch.allclose(base.network(ids).logits, theirs(ids).logits, atol=1e-6)
    assert base.network.config.rope_parameters["rope_theta"] == (1e4 if family == "glm-4-voice" else 1e6)


def test_glm_4s_byte_pairs_are_read_as_the_tokenizer_that_wrote_them(bases: dict) -> None:
    pairs = tiny_families.byte_pairs()
    for text in ("what is plus", "Ünïcode 123 four!\n\n x"):
        ids = bases["glm-4-voice"].tokenizer(text, add_special_tokens=False)["input_ids"]
        assert bases["glm-4-voice"].tokenizer.decode(ids) == text
    assert bases["glm-4-voice"].tokenizer("three")["input_ids"] == pairs.encode("three").ids


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.name)
def test_a_repository_is_known_before_it_is_downloaded(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAVALIGN_GLM4_VOICE", "WAVALIGN_STEP_AUDIO_2"):
        monkeypatch.delenv(name, raising=False)
    config = {"model_type": family.model_types[0], "architectures": list(family.architectures)}
    assert layout_of((), config, "it").name == "interleaved"
    facts, warnings = hints(config, None, "owner/name", False)
    assert facts == {"Family": family.title}
    assert any("git clone" in warning for warning in warnings)
    hears = family.name in ("vita-audio-plus", "step-audio-2")
    assert any("WAVALIGN_TRUST_REMOTE_CODE=owner/name" in warning for warning in warnings) is hears


def test_the_estimate_knows_the_caches_of_every_family(folders: Path) -> None:
    """Keys and values: 2 x 2 layers x 2 heads x 8 numbers x 1024 tokens x 2 replies, of 4 bytes each."""
    assert {estimate_folder(folders / name).cache for name in MAKERS} == {2 * 2 * 2 * 8 * 1024 * 2 * 4}


def test_layers_that_predict_more_tokens_at_once_are_left_out(tmp_path: Path) -> None:
    """VITA-Audio-Boost: 38 layers, of which the last 10 are such."""
    tiny.make_tiny_codec(tmp_path / "tiny-codec")
    told = {"extends": "vita-audio", "speech_count": 64, "codec": "../tiny-codec"}
    folder = tiny_families.make_vita(tmp_path / "boost", **told)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "qwen2_mtp", "num_hidden_layers": 2, "num_nextn_predict_layers": 1}
    (folder / "config.json").write_text(json.dumps(config))
    base = load_base("boost", folder)
    assert base.network.config.num_hidden_layers == 1
    spoken = Dialogue((Turn("user", codes=(3, 4)),))
    said = "<|im_start|>user\n<|begin_of_audio|><|audio_3|><|audio_4|><|end_of_audio|><|im_end|>\n"
    assert said in prompt_of(base, spoken)


# Descriptions


def test_a_ratio_counts_the_boundaries_of_a_chunk() -> None:
    assert families.of_ratio([1, 10, 4, 10]) == {"first_chunks": [[1, 8]], "text_chunk": 4, "speech_chunk": 8}
    balance = {"first_chunks": [[1, 2], [3, 6]], "text_chunk": 4, "speech_chunk": 8}
    assert families.of_ratio([1, 4, 3, 8, 4, 10]) == balance


@pytest.mark.parametrize(
    ("mode", "first"), [([1, 4, 3, 8, 4, 10], ((1, 2), (3, 6))), ([8192, 0], ((1, 8),)), (None, ((1, 8),))]
)
def test_vita_audios_checkpoints_say_their_ratio_beside_their_config(tmp_path: Path, mode: Any, first: tuple) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_mtp"}')
    (tmp_path / "generation_config.json").write_text(json.dumps({"mtp_inference_mode": mode}))
    description = InterleavedDescription.read(tmp_path)
    assert description.first_chunks == first
    assert (description.text_chunk, description.speech_chunk) == (4, 8)


@pytest.mark.parametrize("name", families.names())
def test_every_familys_description_is_whole_and_is_what_it_says(name: str) -> None:
    description = InterleavedDescription.parse(families.description_of(name))
    assert description.family == name
    assert InterleavedDescription.parse(json.loads(json.dumps(description.told()))) == description


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"extends": "moshi"}, 'extends "moshi"; the known families are: vita-audio-plus'),
        ({"text_pad": "<x>"}, '"text_pad" and "speech_pad".* go together'),
        ({"user_audio": {"kind": "mel"}}, '"codes" or "features", got .mel'),
        ({"user_audio": {"kind": "features"}}, 'needs "ears" and "placeholder"'),
        ({"prompt": {"user": 3}}, '"user" in the layout description.s prompt must be a string'),
        ({"codec": 3}, '"codec" in the layout description must be a folder or an object'),
    ],
)
def test_a_description_that_is_wrong_names_its_field(changes: dict, said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        InterleavedDescription.parse({"extends": "glm-4-voice", **changes})


def test_speech_tokens_that_are_not_one_block_are_refused(folders: Path, bases: dict) -> None:
    told = json.loads((folders / "step-audio-2" / "interleaved.json").read_text())
    from wavalign.models.layout import resolve

    for changes, said in (({"speech_count": 66}, "<audio_65>"), ({"reply_end": "<tts_over>"}, "<tts_over>")):
        with pytest.raises(LayoutError, match=said):
            resolve(InterleavedDescription.parse({**told, **changes}), bases["step-audio-2"].tokenizer, 500)


def test_an_empty_recording_is_one_sentence(bases: dict) -> None:
    nothing = Dialogue((Turn("user", speech=Waveform(np.zeros(0, np.float32), 16_000)),))
    for base in bases.values():
        with pytest.raises(GenerationError, match="recording is empty"):
            base.policy({"x": None}).encode_prompt(nothing)
