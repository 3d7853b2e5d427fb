"""What the comparison says of measured cells: intervals, claims that can fail, tables, and the variants there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.figures import Figure, Section, verdict
from evaluation.reproduce_cells import Cell, Setting
from evaluation.reproduce_claims import claims
from evaluation.reproduce_intervals import Ratio, over_seeds, widening
from evaluation.reproduce_summary import _reached, equal_cpu, estimates, ratios
from evaluation.reproduce_tables import _ablations, _claims, _cost, _equal_cpu, _lora, _tuning
from evaluation.reproduce_tuning import changes_nothing, choices
from evaluation.reproduce_variants import ABLATIONS, MAIN, NAMED, ReproduceError, tuned_values, variant, variants
from wavalign.training.config import ConfigError, HybridMethod


def test_the_words_lambda_stands_beside_speechs_own() -> None:
    """Words 0.3 and 0.4 in two runs: 0.35; speech 0.7 in both. Other runs have one lambda, or none; a machine of
    another speed has no seconds here."""
    cost = {"value": 100.0}
    own = [{"mean_lambda": words, "mean_lambda_speech": 0.7, "grad_norm": [[50, 1.0]]} for words in (0.3, 0.4)]
    one, none = ([{"mean_lambda": mean, "mean_lambda_speech": None}] for mean in (0.5, None))
    runs_of = {"own": own, "one": one, "none": none, "elsewhere": own}
    text = _cost({name: {"runs": r, "cpu_s": cost, "timed": name != "elsewhere"} for name, r in runs_of.items()})
    assert text.splitlines()[2:] == [
        "| `own` | 50 | 100 | 2.00 | 0.350 words, 0.700 speech |",
        "| `one` | 0 | 100 |  | 0.500 |",
        "| `none` | 0 | 100 |  |  |",
        "| `elsewhere` | 50 |  |  | 0.350 words, 0.700 speech |",
    ]


def test_ablations_and_all_weights_have_places_of_their_own() -> None:
    """Without such variants the places say so; with one, it stands beside what it is compared with, in pairs."""
    main = {name: _row(0.5) for name in ("wavalign", "hybrid-fixed", "sft")}
    assert _ablations(main) == _lora(main) == "_Not run yet._"
    ablated = _ablations(main | {"no-ema": _row(0.6, minus_wavalign={"accuracy/sampled": _e(0.1), "seeds": [0]})})
    assert ablated.splitlines()[2:] == [
        "| `wavalign` | 2 | 50.0 (45.0 to 55.0) |",
        "| `hybrid-fixed` | 2 | 50.0 (45.0 to 55.0) |",
        "| `no-ema` | 2 | 60.0 (55.0 to 65.0) |",
        "| `no-ema` minus `wavalign` | 1 | **+10.0 (+5.0 to +15.0)** |",
    ]
    main["wavalign"] = _row(0.5, minus_full={"accuracy/sampled": _e(-0.02), "seeds": [0, 1]})
    assert _lora(main | {"wavalign-full": _row(0.52)}).splitlines()[2:] == [
        "| `wavalign` | 2 | 50.0 (45.0 to 55.0) |",
        "| `wavalign-full` | 2 | 52.0 (47.0 to 57.0) |",
        "| `sft` | 2 | 50.0 (45.0 to 55.0) |",
        "| `wavalign` minus base | 2 | **+10.0 (+5.0 to +15.0)** |",
        "| `wavalign-full` minus base | 2 | **+12.0 (+7.0 to +17.0)** |",
        "| `sft` minus base | 2 | **+10.0 (+5.0 to +15.0)** |",
        "| `wavalign` minus `wavalign-full` | 2 | -2.0 (-7.0 to +3.0) |",
    ]


def _e(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 9}


def _row(right: float, **blocks: Any) -> dict[str, Any]:
    """A variant of two seeds, on a base that is right in 0.4."""
    own = {"measures": {"accuracy/sampled": _e(right)}, "minus_base": {"accuracy/sampled": _e(right - 0.4)}}
    return {"seeds": [0, 1], "minus_wavalign": {}, "minus_full": {}, **own, **blocks}


# Tuning


def _tried(recipe: str, right: float, above: float = 0.0, wer: float = 0.0, delivery: float = 0.0) -> dict[str, Any]:
    """``right`` replies, ``above`` those of the recipe's own values (0: it is these); against the base in speech."""
    return _row(
        right,
        recipe=recipe,
        shipped=not above,
        minus_base={"wer/own": _e(wer), "delivery/own": _e(delivery)},
        minus_recipe={"accuracy/sampled": _e(above)} if above else {},
    )


def test_a_recipe_keeps_its_values_unless_others_are_measurably_better_and_leave_speech_whole() -> None:
    """Intervals reach 5 points to each side. sft: 4 points more are not measurable. wavalign: 9 points more at 3 points
    of WER, or at 4 of delivery, are not allowed; of 6 and 7 points more the second is taken."""
    rows = {
        "sft@lr=1e-3": _tried("sft", 0.50),
        "sft@lr=3e-3": _tried("sft", 0.54, 0.04),
        "wavalign@lr=1e-3": _tried("wavalign", 0.50),
        "wavalign@lr=2e-3": _tried("wavalign", 0.56, 0.06, wer=0.02),
        "wavalign@lr=3e-3": _tried("wavalign", 0.57, 0.07, delivery=-0.03),
        "wavalign@lr=4e-3": _tried("wavalign", 0.59, 0.09, wer=0.03),
        "wavalign@lr=5e-3": _tried("wavalign", 0.59, 0.09, delivery=-0.04),
        "alpo@lr=3e-3": _tried("alpo", 0.59, 0.09),
    }
    assert choices(rows) == {"sft": "sft@lr=1e-3", "wavalign": "wavalign@lr=3e-3"}
    assert _tuning(rows).splitlines()[2:4] == [
        "| `sft@lr=1e-3` | 2 |  |  |  |  | its own, chosen |",
        "| `sft@lr=3e-3` | 2 | +4.0 (-1.0 to +9.0) |  |  |  |  |",
    ]
    assert "alpo" not in _tuning(rows)  # its own values were not tried
    rows["wavalign@lr=3e-3"]["minus_base"] = {}  # nothing was spoken
    assert choices(rows)["wavalign"] == "wavalign@lr=2e-3"


def test_a_variant_that_changes_nothing_is_its_recipe() -> None:
    assert changes_nothing(variant("sft"))
    assert changes_nothing(variant("wavalign@lr=1e-3,mix.alpha=0.9"))
    assert not changes_nothing(variant("wavalign@lr=3e-3"))
    assert not changes_nothing(variant("fixed-at-mean"))


def test_every_recipe_is_tried_at_its_own_rate_and_as_often_as_others() -> None:
    tried = variants(["rates"])
    for recipe in MAIN:
        own = [each for each in tried if each.recipe == recipe]
        assert sum(map(changes_nothing, own)) == 1
        assert len(own) == (4 if recipe.startswith("dpo") else 3)


def test_equal_time_gives_every_recipe_updates_of_its_own(tmp_path: Path) -> None:
    """Only their number differs, and the costlier an update the fewer there are."""
    cells = {each.recipe: Cell(each, 0, Setting(tmp_path, tmp_path)) for each in variants(["equal-time"])}
    assert set(cells) == set(MAIN)
    updates = {recipe: cell.config().steps for recipe, cell in cells.items()}
    assert (
        updates["sft"] > updates["wavalign"] == 200 > updates["grpo-all"] > updates["alpo-anchored"] > updates["alpo"]
    )
    for recipe, cell in cells.items():
        same = Cell(variant(recipe), 0, Setting(tmp_path, tmp_path)).config()
        assert cell.config().model_copy(update={"steps": 200, "name": same.name}) == same


# Claims


def _claimed(rows: dict[str, Any]) -> dict[str, Figure]:
    return {figure.id.removeprefix("comparison/"): figure for figure in claims({"variants": rows})[0].figures}


def test_an_advantage_in_speech_is_one_figure_that_can_fail() -> None:
    """WER -3 (-8 to 2), at T 0.8 -6 (-11 to -1); delivery 4 (-1 to 9), at T 0.8 5.5 (0.5 to 10.5): the interval of WER
    at T 0.8 ends 1 point from 0, and no other does better. Without the two at T 0.8 the best end is -1 point."""
    own = {"accuracy/sampled": _e(0.0), "wer/own": _e(-0.03), "delivery/own": _e(0.04), "seeds": [0]}
    clear = own | {"wer/warm": _e(-0.06), "delivery/warm": _e(0.055)}
    figure = _claimed({"alpo-anchored": _row(0.5, minus_wavalign=clear)})["alpo-anchored/minus_wavalign/speech"]
    assert (figure.value, figure.n, figure.met) == (pytest.approx(0.01), 1, True)
    assert "WER at T 0.8, the best of 4" in figure.note
    unclear = _claimed({"alpo-anchored": _row(0.5, minus_wavalign=own)})
    figure = unclear["alpo-anchored/minus_wavalign/speech"]
    assert (figure.value, figure.met) == (pytest.approx(-0.01), False)
    assert figure.label in verdict([Section("", (figure,))])
    assert unclear["alpo-anchored/minus_wavalign/accuracy/sampled"].met  # words are judged apart


@pytest.mark.parametrize(
    ("wer", "met", "said"),
    [
        (-0.04, True, "whole interval on the right side"),
        (0.01, True, "the interval includes the bound"),
        (0.04, False, "the interval includes the bound"),
        (0.08, False, "whole interval on the wrong side"),
    ],
)
def test_a_value_is_judged_and_its_interval_is_told(wer: float, met: bool, said: str) -> None:
    """At most 2 points more WER than the base; the interval reaches 5 points to each side."""
    row = _row(0.5, minus_base={"wer/own": _e(wer)})
    figure = _claimed({"wavalign": row})["wavalign/minus_base/wer/own"]
    assert (figure.met, figure.note, figure.n) == (met, f"n: seeds; {said}", 2)


def test_a_pass_whose_interval_includes_zero_says_so() -> None:
    """8 points more WER are expected of grpo-all: 9 (4 to 14) is that, and so is 9 (-1 to 19), which may be nothing."""
    for halfwidth, said in ((0.05, "the bound"), (0.1, "the bound and zero")):
        wer = {"value": 0.09, "low": 0.09 - halfwidth, "high": 0.09 + halfwidth}
        figure = _claimed({"grpo-all": _row(0.5, minus_base={"wer/own": wer})})["grpo-all/minus_base/wer/own"]
        assert (figure.met, figure.note) == (True, f"n: seeds; the interval includes {said}")


def test_an_adapter_is_judged_by_its_speech_too() -> None:
    """0.1 of 0.12 gained is 83 %, but the delivery is 4 points below all weights', where 3 are allowed."""
    pairs = {"accuracy/sampled": _e(-0.02), "wer/own": _e(0.01), "delivery/own": _e(-0.04), "seeds": [0]}
    found = _claimed({"wavalign": _row(0.5, minus_full=pairs), "wavalign-full": _row(0.52)})
    share = found["lora_share"]
    assert share.value == pytest.approx(0.1 / 0.12)
    # The interval of the difference, -7 to 3 points, of 12.
    assert (share.low, share.high) == (pytest.approx(1 - 0.07 / 0.12), pytest.approx(1 + 0.03 / 0.12))
    assert share.note == "n: seeds; the interval includes the bound, the gain of all weights taken as known"
    judged = ("lora_share", "wavalign/minus_full/wer/own", "wavalign/minus_full/delivery/own")
    assert [found[name].met for name in judged] == [True, True, False]


def test_what_was_expected_stands_on_the_page_beside_what_was_found() -> None:
    row = _row(0.5, minus_base={"wer/own": _e(0.04)})
    lines = _claims({"variants": {"wavalign": row}}).splitlines()
    assert lines[2:] == [
        "| `wavalign`: WER above base | 2 | at most 2.0 | 4.0 points (-1.0 to 9.0) | falls short "
        "| the interval includes the bound |"
    ]
    assert _claims({"variants": {}}) == "_Not run yet._"


# Variants


@pytest.mark.parametrize("name", [*MAIN, *ABLATIONS, *NAMED])
def test_a_named_variant_is_a_config(name: str, tmp_path: Path) -> None:
    config = Cell(variant(name), 3, Setting(tmp_path, tmp_path)).config(0.4)
    assert (config.seed, config.data.seed, config.steps) == (3, 3, 200)


def test_changes_are_fields_of_the_config_or_of_its_method(tmp_path: Path) -> None:
    changed = variant("wavalign@mix.ema=0.5,rollouts.group_size=4,lr=3e-4")
    config = Cell(changed, 0, Setting(tmp_path, tmp_path)).config()
    assert isinstance(config.method, HybridMethod)
    assert (config.method.mix.alpha, config.rollouts.group_size, config.optimiser.lr) == (0.5, 4, 3e-4)
    listed = variant("sft@tuning.kind=lora,tuning.targets=[q_proj,v_proj],tuning.rank=8")
    assert listed.overrides == ("tuning.kind=lora", "tuning.targets=[q_proj,v_proj]", "tuning.rank=8")
    assert changed.slug != variant("wavalign@mix.ema=0.5,rollouts.group_size=4,lr=3e-3").slug
    with pytest.raises(ConfigError, match="speed"):
        Cell(variant("sft@speed=1"), 0, Setting(tmp_path, tmp_path)).config()


def test_tuned_values_are_a_recipes_and_come_before_a_variants_own(tmp_path: Path) -> None:
    path = tmp_path / "tuned.yaml"
    path.write_text("wavalign: [lr=2e-3, optimiser.warmup=5]\n")
    setting = Setting(tmp_path, tmp_path, tuned=tuned_values(path))
    config = Cell(variant("wavalign@lr=5e-4"), 0, setting).config()
    assert (config.optimiser.lr, config.optimiser.warmup) == (5e-4, 5)
    assert Cell(variant("sft"), 0, setting).config().optimiser.warmup == 10
    path.write_text("wavaling: [lr=2e-3]\n")
    with pytest.raises(ReproduceError, match="wavaling"):
        tuned_values(path)


@pytest.mark.parametrize("name", ["wavaling", "sft@", "sft@steps", "sft@=3"])
def test_what_is_no_variant_is_refused(name: str) -> None:
    with pytest.raises(ReproduceError):
        variant(name)


def test_a_mean_runs_after_what_it_is_the_mean_of() -> None:
    assert [each.name for each in variants(["fixed-at-mean", "sft"])] == ["wavalign", "fixed-at-mean", "sft"]


# Intervals


def test_a_run_is_a_ratio_of_sums() -> None:
    """Seed 0: 1 + 3 errors of 10 + 10 words = 0.2; seed 1: 2 + 0 of 4 + 6 = 0.2; base: 1 + 1 of 10 + 10 = 0.1.

    A prompt without words (0 of 0) counts for nothing. The difference is 0.1 in each seed.
    """
    words = Ratio(np.array([[1.0, 3, 0], [2, 0, 0]]), np.array([[10.0, 10, 0], [4, 6, 0]]))
    base = Ratio(np.array([[1.0, 1, 0]]), np.array([[10.0, 10, 0]]))
    assert words.of_seeds.tolist() == [0.2, 0.2]
    assert over_seeds(words).value == pytest.approx(0.2)
    assert over_seeds(words).n == 2
    assert over_seeds(words, base).value == pytest.approx(0.1)


def test_pairs_are_by_seed_and_prompt() -> None:
    """Prompts differ wildly, and so do seeds, but one run is always 0.25 above the other: no doubt is left."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 1, (3, 40)) + np.array([[0.0], [2.0], [5.0]])
    ones = np.ones_like(low)
    found = over_seeds(Ratio(low + 0.25, ones), Ratio(low, ones))
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    alone = over_seeds(Ratio(low, ones))
    assert alone.high - alone.low > 4


def test_measured_cells_become_rows_of_seeds_and_columns_of_prompts() -> None:
    """Two seeds, three prompts, 4 samples each: (2 + 4 + 0) / 12 = 0.5 and (1 + 2 + 0) / 12 = 0.25; base 3 / 12.

    Mean 0.375; above the base by 0.125. What only one of the runs measured is left out.
    """
    first = {"measures": {"accuracy/sampled": [[2, 4, 0], [4, 4, 4]], "f0_sd/own": [[1, 0, 0], [1, 0, 0]]}}
    second = {"measures": {"accuracy/sampled": [[1, 2, 0], [4, 4, 4]]}}
    base = {"measures": {"accuracy/sampled": [[1, 1, 1], [4, 4, 4]]}}
    mine, of_base = ratios([first, second]), ratios([base])
    assert list(mine) == ["accuracy/sampled"]
    assert mine["accuracy/sampled"].of_seeds.tolist() == [0.5, 0.25]
    assert estimates(mine)["accuracy/sampled"]["value"] == 0.375
    assert estimates(mine, of_base)["accuracy/sampled"]["value"] == 0.125
    assert estimates(mine, of_base)["accuracy/sampled"]["n"] == 3


def test_few_seeds_widen() -> None:
    """S = 3: sqrt(3/2) * t(0.975, 2) / z = 1.2247 * 4.3027 / 1.9600 = 2.6886."""
    assert widening(3) == pytest.approx(2.6886, abs=1e-3)
    assert widening(1) == 0
    assert widening(500) == pytest.approx(1, abs=0.01)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Crossed effects of 3 seeds and 60 prompts around 0; about 95 % of 300 intervals should hold it."""
    rng = np.random.default_rng(5)
    held = 0
    for trial in range(300):
        values = rng.normal(0, 0.3, (3, 1)) + rng.normal(0, 1, (1, 60)) + rng.normal(0, 1, (3, 60))
        found = over_seeds(Ratio(values, np.ones_like(values)), seed=trial, draws=400)
        held += found.low <= 0 <= found.high
    assert 0.91 < held / 300 < 0.995


def test_equal_time_is_read_off_the_curve_between_two_evaluations() -> None:
    """Right at 10 s: 0.4, at 30 s: 0.6; at 20 s 0.5. A run that ended at 30 s has its last value until 30.6 s."""
    runs = [{"eval/semantic/accuracy": [[0, 0.0, 0.3], [5, 10.0, 0.4], [10, 30.0, 0.6]]}]
    assert _reached(runs, 20)["eval/semantic/accuracy"]["value"] == pytest.approx(0.5)
    assert _reached(runs, 30.6)["eval/semantic/accuracy"]["value"] == pytest.approx(0.6)
    assert _reached(runs, 31) == {}


def test_budgets_are_totals_that_every_run_of_a_variant_had_reached() -> None:
    """Runs of 100 and 130 s, and one of 112 s: its total is within 15 % of 100 s, which stands for both. A run of
    300 s is over later than all others; at 100 s it was a third of its way from 0.2 to 0.8."""
    found = equal_cpu({"fast": _runs(100, 130), "near": _runs(112), "slow": _runs(300)})
    assert [column["cpu_s"] for column in found] == [100, 300]
    assert [list(column["variants"]) for column in found] == [["fast", "near", "slow"], ["slow"]]
    at_once = found[0]["variants"]
    assert at_once["slow"]["eval/semantic/accuracy"]["value"] == pytest.approx(0.4)
    # 0.8 and 0.2 + 0.6 * 100 / 130 = 0.66154: mean 0.73077, Student's half width 12.706 * 0.06923 = 0.87965.
    fast = at_once["fast"]["eval/semantic/accuracy"]
    assert (fast["value"], fast["high"] - fast["value"]) == pytest.approx((0.73077, 0.87965), abs=1e-4)
    text = _equal_cpu(found, ["fast", "slow"])
    assert text.splitlines() == [
        "| right, %, after | 100 s | 300 s |",
        "|---|---|---|",
        "| `fast` | 73.1 (-14.9 to 161.0) |  |",
        "| `slow` | 40.0 | 80.0 |",
    ]


def _runs(*seconds: float) -> dict[str, Any]:
    """Right in 0.2 at the start and in 0.8 at the end."""
    return {"runs": [{"cpu_s": end, "eval/semantic/accuracy": [[0, 0.0, 0.2], [9, end, 0.8]]} for end in seconds]}
