"""One adapter for each channel: where each is active, on both engines, packed or not, from a folder and back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from wavalign.models.channel_adapters import CHANNELS_FILE, ChannelRanks, gates_of
from wavalign.models.decoding import Row, decode
from wavalign.models.fast_llama import FastLlama
from wavalign.models.hf_engine import HfEngine
from wavalign.models.interleaved import InterleavedModel, finished
from wavalign.models.layout import LayoutError
from wavalign.models.protocol import CheckpointError, Sampling
from wavalign.models.registry import Registry
from wavalign.models.shared_rows import Scored, SharedRow

PROMPTS = [[5, 6, 7], [8, 9, 10, 11]]
SAMPLING = Sampling(temperature=1.0, max_tokens=48, seed=4)
WEIGHTS = "adapter_model.safetensors"


def doubled(source: Path, target: Path, speech: float) -> Path:
    """An adapter of twice the rank: ``source`` for words, and ``speech`` times it for sounds."""
    shutil.copytree(source, target)
    config = json.loads((source / "adapter_config.json").read_text())
    rank = config["r"]
    config |= {"r": 2 * rank, "lora_alpha": 2 * config["lora_alpha"]}
    (target / "adapter_config.json").write_text(json.dumps(config))
    tensors = {
        name: torch.cat([t, t]) if "lora_A" in name else torch.cat([t, speech * t], dim=1)
        for name, t in load_file(source / WEIGHTS).items()
    }
    save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
    ChannelRanks(rank, rank).write(target)
    return target


@pytest.fixture(scope="module")
def folder(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a plain adapter, and three split ones: the same for both channels, words only, speech reversed."""
    place = tmp_path_factory.mktemp("channels")
    for name in ("tiny-base", "tiny-codec", "tiny-tuned"):
        shutil.copytree(assets / name, place / name)
    doubled(place / "tiny-tuned", place / "same", 1.0)
    doubled(place / "tiny-tuned", place / "words", 0.0)
    doubled(place / "tiny-tuned", place / "apart", -1.0)
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> InterleavedModel:
    return Registry(folder).load(["tiny-base", "tiny-tuned", "same", "words", "apart"])


def sampled(model: InterleavedModel, kind: type, names: list[str | None]) -> list[list]:
    """A whole completion for every prompt and adapter, all in one batch, by one engine."""
    base = model.base
    engine = FastLlama(base.model) if kind is FastLlama else HfEngine(base.model, base.lock)
    rows = [Row(prompt, SAMPLING, name, k) for name in names for k, prompt in enumerate(PROMPTS)]
    return finished(decode(engine, base.grammar, rows, logprobs=True))


def test_positions_are_of_the_channel_that_is_predicted(model: InterleavedModel) -> None:
    grammar, tokens = model.base.grammar, model.tokens
    word, sound = int(np.flatnonzero(tokens.is_text)[0]), tokens.speech_start
    completion = model.sample_groups(PROMPTS[:1], 1, SAMPLING)[0][0].tokens
    speech = grammar.speech_of(completion)
    for token, own in zip(completion, speech, strict=True):
        if tokens.speech_start <= token < tokens.speech_stop:
            assert own
        elif token == word or tokens.is_text[token]:
            assert not own
    assert not speech[0]
    with pytest.raises(LayoutError):
        grammar.speech_of([sound] * 3 if not speech[0] else [word] * 99)


@pytest.mark.parametrize("kind", [FastLlama, HfEngine])
def test_two_equal_adapters_are_one_adapter(kind: type, model: InterleavedModel) -> None:
    plain, split = sampled(model, kind, ["tiny-tuned"]), sampled(model, kind, ["same"])
    assert [c.tokens for c in plain] == [c.tokens for c in split]
    for a, b in zip(plain, split, strict=True):
        assert np.allclose(a.logprobs, b.logprobs, atol=1e-4)


def test_both_engines_say_the_same_with_any_adapters_side_by_side(model: InterleavedModel) -> None:
    names = ["apart", None, "words", "tiny-tuned"]
    fast, slow = (sampled(model, kind, names) for kind in (FastLlama, HfEngine))
    assert [c.tokens for c in fast] == [c.tokens for c in slow]
    for a, b in zip(fast, slow, strict=True):
        assert np.allclose(a.logprobs, b.logprobs, atol=1e-4)
    assert len({tuple(c.tokens) for c in fast[::2]}) == len(names)


@pytest.mark.parametrize("name", ["apart", "words"])
def test_teacher_forcing_agrees_with_decoding(name: str, model: InterleavedModel) -> None:
    groups = model.sample_groups(PROMPTS, 3, SAMPLING, checkpoint=name)
    flat = [(prompt, rollout) for prompt, group in zip(PROMPTS, groups, strict=True) for rollout in group]
    with torch.no_grad():
        scores = model.score([p for p, _ in flat], [r.tokens for _, r in flat], checkpoint=name)
    model.base.model.set_adapter(name)
    rows = [
        SharedRow(prompt, [Scored(r.tokens, range(len(r.tokens))) for r in group])
        for prompt, group in zip(PROMPTS, groups, strict=True)
    ]
    for packed in (True, False):
        with torch.no_grad():
            again = model.base.score_rows(model.base.model, rows, packed).logprobs.numpy()
        assert np.allclose(again, np.concatenate([r.logprobs for _, r in flat]), atol=1e-3)
    for row, (_, rollout) in enumerate(flat):
        assert np.allclose(scores.logprobs[row, : len(rollout.tokens)], rollout.logprobs, atol=1e-3)


def test_each_half_is_moved_by_its_own_positions_and_by_what_reads_them(model: InterleavedModel) -> None:
    name = "apart"
    rollout = model.sample_groups(PROMPTS[:1], 1, SAMPLING, checkpoint=name)[0][0]
    speech = model.base.grammar.speech_of(rollout.tokens)
    first = int(np.flatnonzero(speech)[0])  # the words before it were predicted without any sound
    network = model.base.model
    network.set_adapter(name)
    downs = [p for n, p in network.named_parameters() if f"lora_A.{name}" in n]
    ranks = gates_of(model.network).ranks[name]

    def moved(wanted: range) -> tuple[float, float]:
        for p in downs:
            p.requires_grad_(True).grad = None
        row = SharedRow(PROMPTS[0], [Scored(rollout.tokens, list(wanted))])
        model.base.score_rows(network, [row], packed=True).logprobs.sum().backward()
        halves = [(float(p.grad[: ranks.text].norm()), float(p.grad[ranks.text :].norm())) for p in downs]
        return sum(text for text, _ in halves), sum(sound for _, sound in halves)

    text, sound = moved(range(first))
    assert text > 0
    assert sound == 0
    text, sound = moved(range(first, first + 1))
    assert sound > 0
    assert text > 0  # through the keys and values of the words that the sound reads


def test_a_split_adapter_is_never_run_without_its_positions(model: InterleavedModel) -> None:
    model.base.model.set_adapter("words")
    with pytest.raises(RuntimeError, match="without its positions"):
        model.base.model(input_ids=torch.tensor([PROMPTS[0]]))


def test_words_alone_are_adapted_where_speech_has_zeros(model: InterleavedModel) -> None:
    """The speech half of "words" is 0, so its sounds are the base's, but for what they read of the words."""
    rollout = model.sample_groups(PROMPTS[:1], 1, SAMPLING, checkpoint="words")[0][0]
    with torch.no_grad():
        words, tuned = (
            model.score(PROMPTS[:1], [rollout.tokens], checkpoint=n).logprobs for n in ("words", "tiny-tuned")
        )
    speech = model.base.grammar.speech_of(rollout.tokens)
    first = int(np.flatnonzero(speech)[0])
    assert torch.allclose(words[0, :first], tuned[0, :first], atol=1e-4)
    assert not torch.allclose(words[0, first : first + 3], tuned[0, first : first + 3], atol=1e-2)


@pytest.mark.parametrize("broken", ['{"text": 4}', '{"text": 4, "speech": 3}', '{"text": 8, "speech": 0}', "[", "{}"])
def test_a_file_that_does_not_fit_is_refused(broken: str, folder: Path, tmp_path: Path) -> None:
    for name in ("tiny-base", "tiny-codec", "same"):
        shutil.copytree(folder / name, tmp_path / name)
    (tmp_path / "same" / CHANNELS_FILE).write_text(broken)
    with pytest.raises(CheckpointError, match="same"):
        Registry(tmp_path).load(["same"])


def test_other_architectures_are_split_alike(tmp_path: Path) -> None:
    base = tiny.make_tiny_checkpoint(tmp_path / "tiny-base", architecture="gpt_neox")
    tiny.make_tiny_adapter(tmp_path / "tuned", base)
    doubled(tmp_path / "tuned", tmp_path / "same", 1.0)
    other = Registry(tmp_path).load(["tuned", "same"])
    plain, split = (other.sample_groups(PROMPTS, 2, SAMPLING, checkpoint=name) for name in ("tuned", "same"))
    assert [r.tokens for g in plain for r in g] == [r.tokens for g in split for r in g]
