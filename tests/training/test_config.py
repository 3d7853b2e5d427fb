"""One schema: files, overrides, messages, help."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

import wavalign
from app.components.config_form import fields
from wavalign.training.config import ConfigError, Guarded, TrainConfig
from wavalign.training.config_files import load_config, make_config, models_of, overridden, recipes, save_config
from wavalign.training.evaluate import GUARDED
from wavalign.training.same_run import MAY_CHANGE

SOURCE = Path(wavalign.__file__).parent


def blocks(model: type[BaseModel], seen: dict) -> dict[type[BaseModel], None]:
    if model not in seen:
        seen[model] = None
        for field in model.model_fields.values():
            for inner in models_of(field.annotation):
                blocks(inner, seen)
    return seen


def test_a_config_survives_its_file(tmp_path):
    config = make_config({"steps": 3, "method": {"kind": "hybrid", "mix": {"kind": "hpt"}}, "optimiser": {"lr": 1e-5}})
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_overrides_reach_nested_fields(tmp_path):
    save_config(TrainConfig(), tmp_path / "config.yaml")
    config = load_config(
        tmp_path / "config.yaml",
        ["optimiser.lr=3e-4", "method.mix.alpha=0.5", "rewards.weights={rule: 1, delivery: 0.5}", "tensorboard=true"],
    )
    assert config.optimiser.lr == 3e-4
    assert config.method.mix.alpha == 0.5
    assert config.rewards.weights == {"rule": 1, "delivery": 0.5}
    assert config.tensorboard


def test_choosing_another_kind_drops_the_fields_of_the_first(tmp_path):
    save_config(TrainConfig(), tmp_path / "config.yaml")
    config = load_config(tmp_path / "config.yaml", ["method.mix.kind=fixed", "method.mix.rl=0.3"])
    assert config.method.mix.kind == "fixed"
    assert config.method.mix.rl == 0.3


@pytest.mark.parametrize("recipe", ["wavalign", "sft", "dpo-text"])
def test_a_field_of_the_usual_kind_needs_no_kind(recipe):
    config = load_config(recipes()[recipe], ["tuning.rank=16"])
    assert (config.tuning.kind, config.tuning.rank) == ("lora", 16)
    assert make_config({"method": {"mix": {"alpha": 0.5}}}).method.mix.alpha == 0.5


def test_no_field_is_dropped_because_its_kind_comes_after_it():
    config = load_config(recipes()["sft"], ["tuning.rank=16", "tuning.kind=lora"])
    assert config.tuning.rank == 16
    with pytest.raises(ConfigError, match="rank is not a field"):
        load_config(recipes()["sft"], ["tuning.rank=16", "tuning.kind=full"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimiser.lt=1", "optimiser.lt is not a field; did you mean lr?"),
        ("optimiser.lr=-1", "optimiser.lr: input should be greater than 0, got -1"),
        ("method.mix.alfa=0.5", "method.hybrid.mix.wavalign.alfa is not a field; did you mean alpha?"),
        ("optimiser.lr=.inf", "optimiser.lr: input should be a finite number, got inf"),
        ("method.mix.threshold=.nan", "threshold: input should be a finite number"),
        ("rewards.weights={answer: .nan}", "rewards.weights.answer: input should be a finite number"),
        ("evaluation.guard.wor=0.1", "input should be 'wer', 'delivery', 'nll_speech' or 'nll_text', got 'wor'"),
        ("method.kind=ppo", "method"),
        ("steps", "is not an override; write field=value"),
        ("steps.more=1", "steps is a value, not a block"),
        ("rewards.weights={luck: 1}", 'There is no reward "luck"'),
        ("name=../elsewhere", "name"),
        ("method.mix_per_channel=true", "needs preference.scope to be routed"),
        ("method.preference.speech_credit=words", "speech_credit words needs scope routed"),
        ("method.preference={scope: routed, speech_credit: words, objective: dapo}", "and objective grpo or dr_grpo"),
        ("method.preference={scope: routed, objective: gspo}", "gspo has one ratio for all of a reply"),
        ("method.preference.speech_enough={delivery: 3}", "needs method.preference.speech_credit words"),
        (
            "method.preference={scope: routed, speech_credit: words, speech_enough: {delivery: 6}}",
            "of delivery must be above 1 and at most 5",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, override, said):
    save_config(TrainConfig(), tmp_path / "config.yaml")
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "config.yaml", [override])
    assert said in str(error.value)


def test_lists_of_fields_name_fields_that_there_are():
    assert set(get_args(Guarded)) == set(GUARDED)
    paths = [field.path for field in fields()]
    assert [n for n in MAY_CHANGE if not any(p == n or p.startswith(f"{n}.") for p in paths)] == []


def test_a_missing_or_broken_file_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is no text; a config is a YAML file"):
        load_config(tmp_path / "binary.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "broken.yaml")


def test_overrides_leave_the_data_alone():
    data = {"optimiser": {"lr": 1.0}}
    overridden(data, ["optimiser.lr=2"])
    assert data == {"optimiser": {"lr": 1.0}}


def test_replies_stop_with_their_text_only_where_nothing_needs_the_rest():
    assert TrainConfig().stops_with_text(rewards_need_audio=False)
    assert not TrainConfig().stops_with_text(rewards_need_audio=True)
    everything = make_config({"method": {"kind": "hybrid", "preference": {"scope": "all"}}})
    assert not everything.stops_with_text(False)
    held = make_config({"method": {"kind": "hybrid", "preference": {"kl_speech": 0.1}}, "rollouts": {"stop": "text"}})
    with pytest.raises(ConfigError, match="kl_speech"):
        held.stops_with_text(False)


def test_every_field_is_read_by_something():
    """A field that nothing reads would be an option that does nothing, without a warning."""
    read = {
        node.attr
        for part in ("training", "rewards")
        for path in (SOURCE / part).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
    }
    unread = {f"{b.__name__}.{name}" for b in blocks(TrainConfig, {}) for name in b.model_fields if name not in read}
    assert unread - {"HybridMethod.kind", "PreferenceMethod.kind", "LoraTuning.kind", "FullTuning.kind"} == set()


def test_recipes_are_configs_named_after_their_file():
    found = recipes()
    assert {
        "sft", "grpo-all", "grpo-text", "hybrid-fixed", "wavalign", "alpo", "alpo-anchored", "dpo-text", "dpo-all"
    } <= set(found)  # fmt: skip
    for name, path in found.items():
        assert load_config(path).name == name
