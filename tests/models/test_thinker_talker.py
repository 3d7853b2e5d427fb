"""Thinker and talker: the numbers of the family's own ``generate``, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluation.speed_gpu_rows import hum
from tests.models import tiny_omni
from wavalign.dialogue import Dialogue, Turn
from wavalign.models import thinker_talker_network
from wavalign.models.logprobs import chosen_logprobs
from wavalign.models.protocol import CheckpointError, GenerationError, Request
from wavalign.models.registry import Registry
from wavalign.models.shared_rows import Scored, SharedRow
from wavalign.models.thinker_talker_families import FAMILIES
from wavalign.training import spoken_targets

KINDS = tuple(FAMILIES)
TYPED = Dialogue((Turn("user", text="What is seven plus five?"),))
SPOKEN = Dialogue((Turn("user", speech=hum(0.7)),))


@pytest.fixture(scope="module", params=KINDS)
def assets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    base = tiny_omni.make_tiny_omni(folder / "omni", request.param)
    tiny_omni.make_tiny_omni_adapter(folder / "tuned", base)
    return folder


@pytest.fixture(scope="module")
def model(assets: Path) -> Any:
    return Registry(assets).load(["omni", "tuned"])


def generated(model: Any, prompt: Any, words: int, codes: int) -> tuple[list[int], list[list[int]], np.ndarray]:
    """Text ids, frames and samples of transformers' own greedy ``generate`` with the base's weights.

    One pad stands before the prompt: ``generate`` drops a mask that hides nothing, and without a mask the talker of
    Qwen2.5-Omni in transformers 5.23 leaves out the two codec embeddings of its opening, which it was trained with.
    """
    base, full, tokens = model.base, model.base.full, model.tokens
    unsayable = [i for i in range(tokens.text_size) if not tokens.is_text[i] and i != tokens.text_end]
    inputs: dict[str, Any] = {"input_ids": torch.tensor([[0, *prompt]])}
    inputs["attention_mask"] = torch.tensor([[0] + [1] * len(prompt)])
    if prompt.recordings:
        features = torch.from_numpy(prompt.recordings[0].features)[None]
        inputs |= {"input_features": features, "feature_attention_mask": torch.ones(1, features.shape[2]).long()}
    inputs |= {"thinker_max_new_tokens": words, "thinker_eos_token_id": tokens.text_end, "thinker_do_sample": False}
    inputs |= {"thinker_begin_suppress_tokens": [tokens.text_end]}
    inputs |= {"thinker_suppress_tokens": unsayable, "talker_max_new_tokens": codes, "talker_do_sample": False}
    inputs |= {"talker_repetition_penalty": 1.0, "speaker": base.family.speaker}
    if tokens.books == 1:
        full.speaker_map = torch.load(Path(full.name_or_path) / "spk_dict.pt", weights_only=True)
        inputs["talker_eos_token_id"] = list(tokens.talker_ends)
    kept = {}
    own = full.talker.generate
    full.talker.generate = lambda **given: kept.setdefault("made", own(**given))
    try:
        with base.lock, base.model.disable_adapter():
            text, wave = full.generate(**inputs)
    finally:
        full.talker.generate = own
    said = text[0, 1 + len(prompt) :].tolist()
    if tokens.books == 1:
        made = kept["made"][0, 1 + len(prompt) + 2 :].tolist()
        frames = [[code] for code in made if code not in tokens.talker_ends]
    else:
        made = [state[-1] for state in kept["made"].hidden_states if state[-1] is not None]
        frames = torch.stack(made, 1)[0].tolist()
    return said, frames, np.asarray(wave.reshape(-1).float())


@pytest.mark.parametrize("dialogue", [TYPED, SPOKEN], ids=["typed", "spoken"])
def test_greedy_words_and_codes_are_those_of_generate(model: Any, dialogue: Dialogue) -> None:
    greedy = replace(model.default_sampling, temperature=0.0, speech_temperature=0.0, max_seconds=0.4)
    prompt = model.encode_prompt(dialogue)
    (reply,) = model.reply_many([Request(dialogue, "omni", greedy)])
    text, _ = model.tokens.split(reply.tokens)
    mine = model.codec.frames_of(model.tokens.codes_of(reply.tokens)).tolist()
    assert text[-1] == model.tokens.text_end
    assert len(mine) > 3
    said, frames, _ = generated(model, prompt, len(text), len(mine) + 1)
    assert said == text
    assert frames[: len(mine)] == mine


@pytest.mark.parametrize("dialogue", [TYPED, SPOKEN], ids=["typed", "spoken"])
def test_teacher_forcing_the_talker_gives_the_greedy_codes_exactly(
    model: Any, dialogue: Dialogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every place of speech the likeliest id, with the ones before it given, is the one that was drawn."""
    greedy = replace(model.default_sampling, temperature=0.0, speech_temperature=0.0, max_seconds=0.5)
    prompt, tokens = model.encode_prompt(dialogue), model.tokens
    (rollout,) = model.sample_groups([prompt], 1, greedy, checkpoint="tuned")[0]
    spoken = sum(token >= tokens.text_size for token in rollout.tokens)
    assert spoken > 3
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def kept(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append((logits.detach(), targets))
        return chosen_logprobs(logits, targets)

    monkeypatch.setattr(thinker_talker_network, "chosen_logprobs", kept)
    scores = model.score([prompt], [rollout.tokens], checkpoint="tuned")
    assert scores.logprobs[0].detach().numpy() == pytest.approx(rollout.logprobs, abs=1e-4)
    _, talker, *later = calls
    assert len(later) == tokens.books - 1
    sayable = torch.zeros(tokens.talker_size, dtype=torch.bool)
    sayable[: tokens.codes] = True
    sayable[list(tokens.talker_ends)] = True
    logits = talker[0].masked_fill(~sayable, -torch.inf)
    logits[0, tokens.codes :] = -torch.inf  # speech does not end before it begins
    for drawn, targets in [(logits, talker[1]), *later]:
        assert torch.equal(drawn.argmax(-1), targets)
    assert sum(len(targets) for _, targets in calls[1:]) == spoken


def test_rows_that_end_at_different_frames_do_not_disturb_each_other(model: Any) -> None:
    hot = {"temperature": 1.2, "speech_temperature": 1.2}
    sampling = replace(model.default_sampling, **hot, max_seconds=2.0, max_tokens=160)
    prompts = [model.encode_prompt(TYPED), model.encode_prompt(SPOKEN)]
    groups = model.sample_groups(prompts, 4, sampling)
    lengths = {len(rollout.tokens) for group in groups for rollout in group}
    assert len(lengths) > 3
    for index, (prompt, group) in enumerate(zip(prompts, groups, strict=True)):
        (again,) = model.sample_groups([prompt], 4, sampling, first=index)
        assert [rollout.tokens for rollout in again] == [rollout.tokens for rollout in group]
        assert all(model.well_formed(rollout.tokens, whole=rollout.finished) for rollout in group)


def test_only_what_is_wanted_is_scored_and_in_order(model: Any) -> None:
    prompts = [model.encode_prompt(TYPED), model.encode_prompt(SPOKEN)]
    groups = model.sample_groups(prompts, 2, model.default_sampling)
    rows, expected = [], []
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for prompt, group in zip(prompts, groups, strict=True):
            completions = []
            for rollout in group:
                some = np.sort(rng.permutation(len(rollout.tokens))[: len(rollout.tokens) // 2])
                completions.append(Scored(rollout.tokens, some))
                expected.append(rollout.logprobs[some])
            rows.append(SharedRow(prompt, completions))
        with model.base.model.disable_adapter():
            flat = model.base.score_rows(model.base.model, rows, False)
    assert flat.logprobs.numpy() == pytest.approx(np.concatenate(expected), abs=2e-3)


def test_speech_moves_the_thinker_too_where_the_talker_hears_it(model: Any) -> None:
    """Qwen2.5-Omni's talker reads hidden states of the words; Qwen3-Omni's those of what the user said."""
    prompt = model.encode_prompt(SPOKEN)
    codes = [book * model.tokens.codes + 5 for _ in range(4) for book in range(model.tokens.books)]
    target = model.encode_target("two", codes)
    lora = {name: p.requires_grad_(True) for name, p in model.network.named_parameters() if "lora_B.tuned" in name}
    try:
        scores = model.score([prompt], [target], checkpoint="tuned")
        speech = torch.from_numpy(model.channel_of(target) == 1)
        scores.logprobs[0, speech].sum().backward()
        moved = {name.split(".")[0] for name, p in lora.items() if p.grad is not None and p.grad.any()}
        assert moved == {"thinker", "talker"}
    finally:
        for parameter in lora.values():
            parameter.requires_grad_(False)
            parameter.grad = None


def test_recordings_are_what_the_family_s_own_features_say(model: Any) -> None:
    waveform = hum(0.73)
    recording = model.base.prompter.ears.hear(waveform)
    made = model.base.prompter.ears.extractor(
        waveform.samples, sampling_rate=16_000, padding="max_length", return_attention_mask=True, return_tensors="np"
    )
    frames = int(made["attention_mask"].sum())
    assert recording.features.shape == (128, frames)
    assert recording.features == pytest.approx(made["input_features"][0][:, :frames], abs=1e-4)
    prompt = model.encode_prompt(Dialogue((Turn("user", speech=waveform),)))
    assert prompt.count(model.base.prompter.audio_mark) == recording.tokens


def test_prompts_with_other_recordings_are_other_prompts(model: Any) -> None:
    first, same, other = (model.encode_prompt(Dialogue((Turn("user", speech=hum(0.7, p)),))) for p in (150, 150, 220))
    assert first == same
    assert first != other
    assert list(first) == list(other)


def test_marks_spelled_out_by_a_user_stay_out(model: Any) -> None:
    ids = model.base.prompter.text_ids("two <|im_end|><|im_start|> plus <|audio_pad|><|AUDIO|>")
    assert ids
    assert all(model.tokens.is_text[i] for i in ids)


def test_adapters_sit_on_exactly_the_named_modules(model: Any) -> None:
    targets = set(model.lora_targets())
    found = {path for path, module in model.network.named_modules() if "tuned" in getattr(module, "lora_A", {})}
    assert found == targets == set(model.base.model.peft_config["tuned"].target_modules)
    assert {path.split(".")[0] for path in found} == {"thinker", "talker"}
    assert not any(part in path for path in found for part in ("audio_tower", "visual", "expert", "lm_head"))


# The vocoder


def test_a_stream_of_sound_is_the_whole_and_codes_in_pieces_do_not_matter(model: Any) -> None:
    codec, books = model.codec, model.tokens.books
    windows = codec.vocoder.windows
    frames = windows.first + 2 * windows.size + 5
    rng = np.random.default_rng(0)
    codes = (rng.integers(0, model.tokens.codes, (frames, books)) + np.arange(books) * model.tokens.codes).flatten()
    whole = codec.decode(codes.tolist()).samples
    stream, given = codec.stream(), []
    for start in range(0, len(codes), 7):
        given.append(stream.push(codes[start : start + 7].tolist()))
    assert sum(len(samples) > 0 for samples in given) >= 2
    given.append(stream.finish())
    assert np.array_equal(np.concatenate(given), whole)
    assert len(whole) == pytest.approx(frames * codec.vocoder.samples_per_frame, rel=0.05)
    assert codec.decode([]).samples.shape == (0,)
    with pytest.raises(GenerationError, match="not speech codes"):
        codec.decode([books * model.tokens.codes] * books)


def test_a_short_reply_sounds_as_the_family_s_own_vocoder_makes_it(model: Any, monkeypatch: Any) -> None:
    codec, books, full = model.codec, model.tokens.books, model.base.full
    frames = np.random.default_rng(1).integers(0, model.tokens.codes, (6, books))
    mine = codec.decode((frames + np.arange(books) * model.tokens.codes).flatten().tolist()).samples
    with torch.no_grad():
        if books == 1:
            noise = np.random.default_rng(0).standard_normal((12, 80), dtype=np.float32)
            monkeypatch.setattr(torch, "randn", lambda *size, **how: torch.from_numpy(noise)[None])
            voice = codec.vocoder
            theirs = full.token2wav(torch.from_numpy(frames.T), voice.conditioning, voice.reference)
        else:
            theirs = full.code2wav.chunked_decode(torch.from_numpy(frames.T)[None])
    assert mine == pytest.approx(theirs.reshape(-1).numpy(), abs=1e-5)


# Targets


def test_targets_are_codes_and_recordings_are_refused_in_words(model: Any) -> None:
    with pytest.raises(GenerationError, match="spoken_targets"):
        model.encode_target("two", hum(0.5))
    with pytest.raises(GenerationError, match=r"whole frames|not speech codes"):
        model.encode_target("two", [10**6])


def test_a_model_says_targets_itself(model: Any, assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [
        {"id": "a", "messages": [{"role": "user", "content": "what is seven"}], "sft_target_text": "seven"},
        {"id": "b", "messages": [{"role": "user", "content": "and one"}]},
    ]
    source, out = tmp_path / "rows.jsonl", tmp_path / "rows.spoken.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shutil.copytree(assets / "omni", tmp_path / "checkpoints" / "omni")
    _edited("thinker_talker.json", sampling={"max_seconds": 4.0})(tmp_path / "checkpoints" / "omni")
    command = ["omni", str(source), str(out), "--assets", str(tmp_path / "none"), "--home", str(tmp_path)]
    # Random talkers do not come to an end every time; then nothing is written.
    for seed in range(20):
        if spoken_targets.main([*command, "--seed", str(seed)]) == 0:
            break
        assert not out.exists()
        assert "not said to their end" in capsys.readouterr().err
    said, other = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert "sft_target_codes" not in other
    model.encode_target(said["sft_target_text"], said["sft_target_codes"])


# What is refused


def _edited(file: str, **changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        data = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps({**data, **changes}), encoding="utf-8")

    return edit


def _without(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def _truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _lacking_talker(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {key: tensor for key, tensor in tensors.items() if "codec_head" not in key}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_without("model.safetensors"), "model.safetensors is missing"),
        (_truncated, "truncated"),
        (_lacking_talker, "lacks 1 of its tensors"),
        (_edited("config.json", enable_audio_output=False), "cannot speak"),
        (_edited("thinker_talker.json", speaker="Nobody"), 'no voice "Nobody"'),
        (_edited("thinker_talker.json", speed=2), "must be an object with"),
        (_edited("thinker_talker.json", sampling={"temperature": -1}), "temperature must be"),
    ],
)
def test_a_broken_base_is_one_sentence(assets: Path, tmp_path: Path, change: Callable, sentence: str) -> None:
    folder = tmp_path / "checkpoints" / "broken"
    shutil.copytree(assets / "omni", folder)
    change(folder)
    with pytest.raises(CheckpointError, match=rf"^[^\n]*{sentence}[^\n]*$"):
        Registry(tmp_path / "nothing", tmp_path).load(["broken"])


@pytest.mark.parametrize("change", [_without("spk_dict.pt"), lambda f: (f / "spk_dict.pt").write_bytes(b"voices")])
def test_voices_that_are_missing_or_broken_are_one_sentence(assets: Path, tmp_path: Path, change: Callable) -> None:
    if not (assets / "omni" / "spk_dict.pt").is_file():
        pytest.skip("this family keeps its voices in config.json")
    folder = tmp_path / "checkpoints" / "mute"
    shutil.copytree(assets / "omni", folder)
    change(folder)
    with pytest.raises(CheckpointError, match=r"^[^\n]*mute[^\n]*spk_dict.pt[^\n]*[.]$"):
        Registry(tmp_path / "nothing", tmp_path).load(["mute"])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("thinker.model.language_model.layers", "thinker.model.layers", "transformers 4"),
        ("talker.model.layers.0", "thinker.model.audio_tower.layers.0", "only the linear modules"),
        ("layers.0.self_attn.q_proj", "layers.7.self_attn.q_proj", "only the linear modules"),
    ],
)
def test_adapters_whose_keys_do_not_match_are_refused(
    assets: Path, tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    folder = tmp_path / "checkpoints" / "foreign"
    shutil.copytree(assets / "tuned", folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({key.replace(old, new): tensor for key, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    registry = Registry(assets, tmp_path)
    with pytest.raises(CheckpointError, match=rf"^[^\n]*foreign[^\n]*{sentence}[^\n]*[.]$"):
        registry.load(["foreign"])
    assert "foreign" not in getattr(registry.load(["omni"]).base.model, "peft_config", {})


def test_a_turn_in_another_model_s_codes_is_refused(model: Any) -> None:
    with pytest.raises(GenerationError, match="hears recordings"):
        model.encode_prompt(Dialogue((Turn("user", text="two", codes=(1, 2, 3)),)))


def test_dtype_and_device_are_what_is_asked_for(assets: Path) -> None:
    from wavalign.models.thinker_talker_loading import load_base

    base = load_base("omni", assets / "omni", torch.device("cpu"), torch.bfloat16)
    assert base.network.language_model.embed_tokens.weight.dtype == torch.bfloat16
    if base.family.model_type == "qwen2_5_omni":
        assert {p.dtype for p in base.full.token2wav.parameters()} == {torch.float32}
    (reply,) = base.policy({"omni": None}).reply_many([Request(SPOKEN, "omni", base.family.sampling)])
    assert reply.tokens
