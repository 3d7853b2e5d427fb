"""A recording is what a checkpoint's own encoder makes of it, whose code runs with the host's consent alone."""

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
from tests.models import tiny_families
from tests.models.family_bases import MAKERS, TYPED
from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.loading import load_base, source_of
from wavalign.models.protocol import CheckpointError, GenerationError, Sampling
from wavalign.models.registry import Registry
from wavalign.models.registry_adding import Wish, look
from wavalign.models.registry_layouts import brings_code, layout_at


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


def test_an_empty_recording_is_one_sentence(bases: dict) -> None:
    nothing = Dialogue((Turn("user", speech=Waveform(np.zeros(0, np.float32), 16_000)),))
    for base in bases.values():
        with pytest.raises(GenerationError, match="recording is empty"):
            base.policy({"x": None}).encode_prompt(nothing)


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


# The host's consent


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
