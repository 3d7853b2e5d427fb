"""A reward model from an export of votes: trained, saved, used, and refused while it knows nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.rewards.vote_export import voice, write_export
from tests.training.tiny_run import make_assets, small
from wavalign.dialogue import Dialogue, Turn
from wavalign.rewards import train_preference
from wavalign.rewards.config import PreferenceConfig, RewardConfig
from wavalign.rewards.preference_features import LEVEL_DBFS, Met, as_heard, as_words
from wavalign.rewards.preference_model import FACTS, TENSORS, PreferenceModel
from wavalign.rewards.preference_votes import Votes
from wavalign.rewards.protocol import Answer, RewardError
from wavalign.rewards.registry import RewardContext, build
from wavalign.training.examples import Example
from wavalign.training.journal import read_metrics
from wavalign.training.loop import Trainer

BASE = "tiny-base"


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_assets(tmp_path_factory.mktemp("preference-assets"))


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(tmp_path_factory.mktemp("votes") / "export")


@pytest.fixture(scope="module")
def model(assets: Path, export: Path) -> PreferenceModel:
    return train_preference.train(export, assets, base=BASE)


@pytest.fixture(scope="module")
def folder(model: PreferenceModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "high-voices"
    model.save(place)
    return place


def ignorant(model: PreferenceModel, folder: Path) -> Path:
    """The same model with the held-out figures of one that knows nothing."""
    chance = {**model.facts["held_out"]["accuracy"], "value": 0.52, "low": 0.43, "high": 0.61}
    facts = {**model.facts, "held_out": {**model.facts["held_out"], "accuracy": chance}}
    replace(model, facts=facts).save(folder)
    return folder


def config(path: Path, weight: float = 1.0, **more: float) -> RewardConfig:
    return RewardConfig(weights={"preference": weight, **more}, preference=PreferenceConfig(path=path))


def answer(pitch: float, text: str = "hello") -> Answer:
    example = Example("e", Dialogue((Turn("user", text="say hello"),)))
    return Answer(example, text, voice(pitch), finished=True)


def test_it_learns_what_raters_like(model: PreferenceModel) -> None:
    held = model.facts["held_out"]
    assert held["accuracy"]["low"] > 0.5
    assert held["accuracy"]["value"] > max(each["value"] for each in held["baselines"].values())
    assert set(held["baselines"]) == {"longer reply", "left side"}
    assert model.facts["votes"]["used"] == 60
    assert model.facts["source"] == "simulated"
    assert model.facts["blocks"] == ["measures"]  # these raters listen to the pitch: nothing else is read


def test_a_reward_of_1_to_5_that_likes_what_raters_like(folder: Path, assets: Path) -> None:
    reward = build("preference", config(folder), RewardContext(assets))
    assert reward.needs_audio
    assert reward.channel == "speech"
    low, middle, high = reward.score([answer(120), answer(180), answer(270)])
    assert 1 <= low < middle < high <= 5
    assert low < 2.5
    assert high > 3.5


def test_a_reply_without_words_or_sound_is_1(folder: Path, assets: Path) -> None:
    reward = build("preference", config(folder), RewardContext(assets))
    silent = replace(answer(200), waveform=voice(200, 0.0))
    assert reward.score([answer(200, text=" "), silent, replace(answer(200), waveform=None)]) == [1.0, 1.0, 1.0]


def test_loudness_and_silences_of_a_recording_change_nothing(folder: Path, assets: Path) -> None:
    reward = build("preference", config(folder), RewardContext(assets))
    plain = answer(200)
    louder = replace(plain, waveform=replace(plain.waveform, samples=3 * plain.waveform.samples))
    assert reward.score([louder])[0] == pytest.approx(reward.score([plain])[0], abs=0.05)
    samples = np.concatenate([np.zeros(4000), plain.waveform.samples, np.zeros(9000)])
    heard, padded = (as_heard(replace(plain.waveform, samples=each)) for each in (plain.waveform.samples, samples))
    assert padded.seconds == pytest.approx(heard.seconds, abs=0.03)
    for each in (heard, padded):
        assert 20 * np.log10(np.sqrt(np.mean(each.samples[800:-800] ** 2))) == pytest.approx(LEVEL_DBFS, abs=1)


def test_a_question_is_the_same_typed_and_spoken() -> None:
    spoken = Dialogue((Turn("user", text="say hello", codes=(1, 2, 3)),))
    assert as_words(spoken) == Dialogue((Turn("user", text="say hello"),))
    unheard = Dialogue((Turn("user", codes=(1, 2, 3)),))
    assert as_words(unheard) == unheard


def test_the_folder_goes_round(model: PreferenceModel, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [FACTS, TENSORS]
    again = PreferenceModel.load(folder)
    count = sum(len(part.mean) for part in model.scaling.parts.values())
    features = np.random.default_rng(0).normal(size=(4, count))
    np.testing.assert_array_equal(again.scores(features), model.scores(features))
    assert again.facts == json.loads(json.dumps(model.facts))
    assert again.facts["base"]["name"] == BASE
    with pytest.raises(RewardError, match="not empty"):
        model.save(folder)


def test_no_better_than_chance_is_refused_as_a_reward(model: PreferenceModel, assets: Path, tmp_path: Path) -> None:
    path = ignorant(model, tmp_path / "ignorant")
    with pytest.raises(RewardError, match=r"52 % \(43-61 %\).*not above chance"):
        build("preference", config(path), RewardContext(assets))
    # Measured and logged beside other rewards it may be.
    assert build("preference", config(path, 0.0, rule=1.0), RewardContext(assets)).score([answer(200)])[0] >= 1


def test_votes_without_a_criterion_teach_nothing(assets: Path, tmp_path: Path) -> None:
    export = write_export(tmp_path / "noise", votes=40, liking=0.0, seed=1)
    assert not train_preference.train(export, assets, base=BASE).above_chance


def test_another_base_is_refused(folder: Path, model: PreferenceModel, assets: Path, tmp_path: Path) -> None:
    facts = {**model.facts, "base": {"name": BASE, "fingerprint": "0" * 16}}
    replace(model, facts=facts).save(tmp_path / "other")
    with pytest.raises(RewardError, match="other weights"):
        build("preference", config(tmp_path / "other"), RewardContext(assets))
    facts = {**model.facts, "base": {"name": "nobody", "fingerprint": "0" * 16}}
    replace(model, facts=facts).save(tmp_path / "none")
    with pytest.raises(RewardError, match="nobody"):
        build("preference", config(tmp_path / "none"), RewardContext(assets))


def test_a_broken_folder_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="There is no preference reward model"):
        PreferenceModel.load(tmp_path)
    (tmp_path / FACTS).write_bytes((folder / FACTS).read_bytes())
    (tmp_path / TENSORS).write_bytes((folder / TENSORS).read_bytes()[:100])
    with pytest.raises(RewardError, match="broken"):
        PreferenceModel.load(tmp_path)


def test_it_is_named_in_a_config_by_path_or_by_name(folder: Path, assets: Path, tmp_path: Path) -> None:
    (tmp_path / "reward-models").mkdir()
    (tmp_path / "reward-models" / "mine").symlink_to(folder)
    assert build("preference", config(Path("mine")), RewardContext(assets, home=tmp_path)).model.above_chance
    with pytest.raises(ValueError, match=r"rewards\.preference is missing"):
        RewardConfig(weights={"preference": 1.0})


def test_a_run_learns_from_it(folder: Path, assets: Path, tmp_path: Path) -> None:
    rewards = {"weights": {"letters": 0.0, "preference": 1.0}, "preference": {"path": str(folder)}}
    trainer = Trainer(small("wavalign", rewards=rewards), tmp_path, assets, quiet=True)
    trainer.run()
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2]
    assert all(1 <= line["rewards/preference/mean"] <= 5 for line in lines)
    assert lines[0]["reward_std"] > 0
    # The run lends its base, adapter off: the scores are those of the base alone.
    (reward,) = [each for each in trainer.rewards.rewards if each.name == "preference"]
    assert reward.context.base is trainer.trainee.base
    alone = build("preference", config(folder), RewardContext(assets))
    assert reward.score([answer(200)]) == pytest.approx(alone.score([answer(200)]), abs=1e-4)


def test_a_run_with_an_ignorant_reward_does_not_start(model: PreferenceModel, assets: Path, tmp_path: Path) -> None:
    path = ignorant(model, tmp_path / "ignorant")
    rewards = {"weights": {"letters": 0.0, "preference": 1.0}, "preference": {"path": str(path)}}
    with pytest.raises(RewardError, match="not above chance"):
        Trainer(small("wavalign", rewards=rewards), tmp_path / "run", assets, quiet=True)


def test_exports_that_cannot_be_used(tmp_path: Path, assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RewardError, match="holds no votes"):
        Votes.of(tmp_path)
    few = write_export(tmp_path / "few", votes=3)
    arguments = [str(few), "--out", str(tmp_path / "out"), "--base", BASE, "--assets", str(assets)]
    assert train_preference.main(arguments) == 1
    assert "3 usable votes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    table = pq.read_table(few / "battles")
    sources = ["human", *["simulated"] * 2]
    mixed = table.set_column(table.schema.get_field_index("source"), "source", [sources])
    pq.write_table(mixed, tmp_path / "battles-mixed.parquet")
    with pytest.raises(RewardError, match="mixes votes of human and simulated"):
        Votes.of(tmp_path)


def test_what_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", votes=4)
    (file,) = (export / "battles").iterdir()
    table = pq.read_table(file)
    table = table.set_column(table.schema.get_field_index("turns"), "turns", [[1, 2, 1, 1]])
    table = table.set_column(table.schema.get_field_index("excluded"), "excluded", [[None, None, "gold", None]])
    pq.write_table(table, file)
    votes = Votes.of(export)
    assert len(list(votes)) == 2
    assert votes.left_out == {"several turns": 1, "gold": 1}


def test_words_alone_need_no_sound(export: Path, assets: Path, tmp_path: Path) -> None:
    model = train_preference.train(export, assets, base=BASE, blocks=("text", "likelihood"))
    assert model.facts["blocks"] == ["text", "likelihood"]
    assert not model.above_chance  # these raters listen to the voice only
    model.save(tmp_path / "words")
    reward = build("preference", config(tmp_path / "words", 0.0, rule=1.0), RewardContext(assets))
    assert not reward.needs_audio
    assert reward.channel == "text"
    assert 1 <= reward.score([Answer(answer(200).example, "paris", None, True)])[0] <= 5


def test_a_long_reply_is_cut_where_the_base_ends(assets: Path) -> None:
    from wavalign.models.loading import load_base
    from wavalign.rewards.preference_features import Reader

    reader = Reader(load_base(BASE, assets / BASE))
    found = reader.features([Met(Dialogue((Turn("user", text="hello"),)), "one two " * 400, voice(200))])
    assert found.shape == (1, sum(reader.sizes.values()))


def test_words_read_the_same_with_a_recording_and_without(assets: Path) -> None:
    from wavalign.models.loading import load_base
    from wavalign.rewards.preference_features import Reader

    base = load_base(BASE, assets / BASE)
    prompt = Dialogue((Turn("user", text="hello"),))
    spoken = Reader(base).features([Met(prompt, "one two", voice(200))])
    words = Reader(base, ("text", "likelihood")).features([Met(prompt, "one two", None), Met(prompt, "two one", None)])
    np.testing.assert_allclose(spoken[:, : words.shape[1]], words[:1], atol=1e-5)
    assert np.abs(words[0] - words[1]).max() > 1e-3
    with pytest.raises(ValueError, match="layer"):
        Reader(base, layers=[99])
