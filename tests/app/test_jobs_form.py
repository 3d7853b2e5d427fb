"""The form of a job: every field of the config, typed values back into it, errors where they belong."""

from __future__ import annotations

import shlex

import pytest

from app.components import config_form as form
from wavalign.training.config import TrainConfig
from wavalign.training.config_files import load_config, make_config, recipes


def plain(recipe: str) -> dict:
    return load_config(recipes()[recipe]).model_dump(mode="json", exclude_unset=True)


def test_every_leaf_of_every_recipe_is_a_field() -> None:
    paths = {field.path for field in form.fields()}
    for path in recipes().values():
        leaves = {leaf for leaf, value in form._leaves(form._dump(load_config(path))) if value is not None}
        assert leaves <= paths
    assert {"optimiser.lr", "method.mix.alpha", "method.pairs.samples", "rewards.judge.url", "data.path"} <= paths
    assert len(paths) > 80


def test_fields_explain_themselves() -> None:
    by_path = {field.path: field for field in form.fields()}
    assert by_path["optimiser.lr"].help == "Learning rate at its peak."
    assert by_path["rollouts.group_size"].limits == "at least 2, at most 256"
    assert by_path["method.preference.scope"].choices == ("text", "all", "routed")
    assert by_path["method.mix.alpha"].when == (("method.kind", "hybrid"), ("method.mix.kind", "wavalign"))


@pytest.mark.parametrize("name", list(recipes()))
def test_what_the_form_shows_typed_back_is_the_same_config(name: str) -> None:
    base = plain(name)
    config, problems = form.checked(form.merged(base, form.text_of(base)))
    assert problems == {}
    assert config == make_config(base)


def test_typed_values_arrive() -> None:
    changes = {
        "optimiser.lr": "3e-4",
        "tuning.targets": "q_proj, v_proj",
        "rewards.weights": "rule: 1, delivery: 0.5",
        "data.check_audio": "false",
        "optimiser.betas": "0.8, 0.9",
        "evaluation.guard": "wer: 0.1",
        "rollouts.speech_temperature": "",
    }
    config, problems = form.checked(form.merged(plain("wavalign"), changes))
    assert problems == {}
    assert (config.optimiser.lr, config.optimiser.betas) == (3e-4, (0.8, 0.9))
    assert config.tuning.targets == ("q_proj", "v_proj")
    assert config.rewards.weights == {"rule": 1.0, "delivery": 0.5}
    assert (config.data.check_audio, config.evaluation.guard) == (False, {"wer": 0.1})
    assert config.method == make_config(plain("wavalign")).method


def test_another_kind_drops_the_fields_of_the_one_before() -> None:
    changes = {"method.mix.kind": "fixed", "method.mix.rl": "0.25", "method.mix.alpha": "0.5"}
    config, problems = form.checked(form.merged(plain("wavalign"), changes))
    assert problems == {}
    assert config.method.mix.model_dump() == {"kind": "fixed", "rl": 0.25}


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        ({"steps": "0"}, "steps", "greater than or equal to 1, got 0"),
        ({"optimiser.lr": "fast"}, "optimiser.lr", "valid number, unable to parse string as a number, got fast"),
        ({"steps": ""}, "steps", "A value is needed."),
        ({"method.mix.lambda_max": "2"}, "method.mix.lambda_max", "less than or equal to 1, got 2"),
        ({"data.source": "jsonl"}, "data.path", "data.path is missing"),
        ({"rewards.weights": "magic: 1"}, "rewards.weights", 'no reward "magic"'),
        ({"rewards.weights": "judge: 1"}, "rewards.judge", "rewards.judge is missing"),
        ({"name": "with space"}, "name", "should match pattern"),
        ({"method.mix_per_channel": "true"}, "method.mix_per_channel", "needs method.preference.scope"),
    ],
)
def test_what_is_wrong_is_told_beside_its_field(changes: dict, path: str, says: str) -> None:
    config, problems = form.checked(form.merged(plain("wavalign"), changes))
    assert config is None
    assert says.replace("needs method.", "needs ") in " ".join(problems.values())
    if path in {field.path for field in form.fields()}:
        assert path in problems or "" in problems


def test_a_rule_that_is_optional_is_there_when_its_kind_is_chosen() -> None:
    base = form.merged(plain("alpo-anchored"), {"method.mix_speech.kind": ""})
    assert form.text_of(base)["method.mix_speech.kind"] == ""
    config, problems = form.checked(
        form.merged(base, {"method.mix_speech.kind": "fixed", "method.mix_speech.rl": "0.25"})
    )
    assert problems == {}
    assert config.method.mix_speech.rl == 0.25
    without = form.merged(form._dump(config), {"method.mix_speech.kind": ""})
    assert form.checked(without)[0].method.mix_speech is None


def test_fields_of_a_block_that_may_be_absent_are_named_after_it() -> None:
    labels = {field.path: field.label for field in form.fields()}
    assert labels["rewards.judge.temperature"] == "judge: temperature"
    assert labels["rewards.preference.path"] == "preference: path"
    assert labels["rollouts.temperature"] == "temperature"


def test_labels_spell_acronyms_and_name_seconds() -> None:
    labels = {field.path: field.label for field in form.fields()}
    assert labels["rewards.judge.url"] == "judge: URL"
    assert labels["rewards.judge.longest_wait_s"] == "judge: longest wait (s)"
    assert labels["method.preference.kl_speech"] == "KL speech"
    assert labels["optimiser.lr"] == "learning rate"


def test_a_flaky_judge_is_there_once_its_period_is_given() -> None:
    base = plain("wavalign")
    untouched, _ = form.checked(form.merged(base, form.text_of(base)))
    assert untouched.rewards.flaky is None
    asked, _ = form.checked(form.merged(base, form.text_of(base) | {"rewards.flaky.period": "20"}))
    assert (asked.rewards.flaky.period, asked.rewards.flaky.share) == (20, 1.0)


def test_a_judge_is_a_block_that_appears_with_its_first_value() -> None:
    base = plain("wavalign")
    assert form.merged(base, {"rewards.judge.url": ""}).get("rewards", {}).get("judge") is None
    typed = {"rewards.weights": "judge: 1", "rewards.judge.url": "http://localhost:1/v1", "rewards.judge.model": "m"}
    config, problems = form.checked(form.merged(base, typed))
    assert problems == {}
    assert config.rewards.judge.model == "m"


def test_a_block_goes_when_all_that_it_needs_is_emptied() -> None:
    """A judge needs its URL and its model: without one of them the other's emptiness is an error, not a wish."""
    typed = {"rewards.judge.url": "http://localhost:1/v1", "rewards.judge.model": "m", "rewards.flaky.period": "20"}
    config, _ = form.checked(form.merged(plain("wavalign"), typed | {"rewards.judge.temperature": "0.5"}))
    there = form._dump(config)
    shown = form.text_of(there)
    without, problems = form.checked(form.merged(there, shown | {"rewards.flaky.period": " "}))
    assert problems == {}
    assert without.rewards.flaky is None
    assert without.rewards.judge == config.rewards.judge
    half = form.merged(there, shown | {"rewards.judge.url": ""})
    assert list(form.checked(half)[1]) == ["rewards.judge.url"]
    neither = form.merged(there, shown | {"rewards.judge.url": "", "rewards.judge.model": ""})
    assert form.checked(neither)[0].rewards.judge is None
    never = form.merged(plain("wavalign"), {"rewards.judge.temperature": "0.5", "rewards.judge.url": ""})
    assert "rewards.judge.url" in form.checked(never)[1]


@pytest.mark.parametrize("name", list(recipes()))
def test_the_command_line_makes_the_same_config(name: str) -> None:
    changes = {"optimiser.lr": "3e-4", "name": "mine", "rewards.weights": "rule: 1, format: 0.5", "steps": "7"}
    changes |= {"tuning.kind": "full"} if name == "sft" else {"tuning.targets": "q_proj"}
    config, _ = form.checked(form.merged(plain(name), changes))
    words = shlex.split(form.command_line(config, recipes()[name]))
    assert words[:4] == ["python", "-m", "wavalign.train", f"wavalign/recipes/{name}.yaml"]
    assert load_config(recipes()[name], words[4:]) == config
    from_another = shlex.split(form.command_line(config, recipes()["dpo-text"]))
    assert load_config(recipes()["dpo-text"], from_another[4:]) == config


def test_yaml_goes_out_and_comes_back() -> None:
    config, _ = form.checked(form.merged(plain("alpo"), {"steps": "9"}))
    again, problems = form.from_yaml(form.to_yaml(config))
    assert problems == {}
    assert TrainConfig.model_validate(again) == config
    assert form.from_yaml("a: [")[1][""].startswith("This is not YAML")
    assert form.from_yaml("steps: 0")[1]["steps"]
    assert form.from_yaml("stepz: 1")[1][""] == "stepz is not a field."


def test_differences_of_two_configs() -> None:
    one, other = (
        make_config({"steps": 5}),
        make_config({"steps": 6, "method": {"kind": "hybrid", "mix": {"kind": "fixed"}}}),
    )
    found = {path: (left, right) for path, left, right in form.differences(one, other)}
    assert found["steps"] == ("5", "6")
    assert found["method.mix.rl"] == ("", "0.5")
    assert found["method.mix.lambda_max"] == ("0.8", "")
