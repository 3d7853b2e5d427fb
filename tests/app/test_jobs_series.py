"""Reading metrics as they grow, thinning them, saying how long it takes, and what is alarming."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from app.components import training_plots
from app.jobs.alarms import alarms
from app.jobs.early_stopping import watchful
from app.jobs.estimate import Span, cost, time_left
from app.jobs.series import Series, smoothed, thinned
from wavalign.training.config import TrainConfig
from wavalign.training.config_files import save_config


def write(folder: Path, *rows: dict, end: str = "\n") -> None:
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write("\n".join(json.dumps({"attempt": 1, "time": float(row["step"]), **row}) for row in rows) + end)


def made(folder: Path, **columns: list[float]) -> Series:
    count = len(next(iter(columns.values())))
    rows = [{"step": step + 1, **{name: column[step] for name, column in columns.items()}} for step in range(count)]
    write(folder, *rows)
    return Series(folder).read()


def test_only_what_was_added_is_read_and_half_a_line_waits(tmp_path: Path) -> None:
    series = Series(tmp_path)
    assert series.read().steps == 0
    write(tmp_path, {"step": 1, "reward": 2.0}, {"step": 2, "reward": 3.0})
    write(tmp_path, {"step": 3, "reward": 4.0}, end="")
    assert series.read().steps == 2
    assert series.version == 1
    assert series.read().version == 1
    write(tmp_path, {"step": 4, "reward": 5.0})  # joins the half line: neither can be read
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps({"step": 5, "reward": 6.0, "kl": 0.5}) + "\n")
    assert [list(each) for each in series.read().get("reward")] == [[1, 2, 5], [2.0, 3.0, 6.0]]
    assert [list(each) for each in series.get("kl")] == [[5], [0.5]]
    assert series.latest("reward") == 6.0
    assert series.latest("absent") is None


def test_a_long_file_is_read_in_several_looks(tmp_path: Path) -> None:
    write(tmp_path, *({"step": step, "reward": 1.0, "note": "x" * 900} for step in range(1, 2001)))
    series = Series(tmp_path)
    assert (series.read(until=0.0).steps, series.behind, series.version) == (0, True, 0)
    assert (series.read().steps, series.behind, series.version) == (2000, False, 1)


def test_of_a_step_taken_again_the_last_attempt_counts(tmp_path: Path) -> None:
    write(tmp_path, *({"step": step, "reward": float(step), "kl": 1.0} for step in (1, 2, 3)))
    write(tmp_path, {"step": 2, "reward": 20.0}, {"step": 3, "reward": 30.0})
    series = Series(tmp_path).read()
    assert list(series.get("reward")[1]) == [1.0, 20.0, 30.0]
    assert list(series.get("kl")[0]) == [1]


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    write(tmp_path, *({"step": step, "reward": 1.0} for step in range(1, 9)))
    series = Series(tmp_path).read()
    (tmp_path / "metrics.jsonl").unlink()
    write(tmp_path, {"step": 1, "reward": 5.0})
    assert list(series.read().get("reward")[1]) == [5.0]


def test_thinning_keeps_every_peak_and_both_ends() -> None:
    values = np.zeros(10_000)
    values[[1234, 7777]] = (9.0, -9.0)
    values[[0, -1]] = (1.0, 2.0)
    steps, kept = thinned(np.arange(10_000), values, 500)
    assert len(kept) <= 500
    assert {9.0, -9.0} <= set(kept)
    assert (steps[0], kept[0], steps[-1], kept[-1]) == (0, 1.0, 9999, 2.0)
    assert np.all(np.diff(steps) > 0)
    assert values[steps].tolist() == kept.tolist()
    assert thinned(np.arange(10), values[:10], 500)[1].tolist() == values[:10].tolist()


@pytest.mark.parametrize("count", [501, 502, 503, 999, 1000, 1001, 2048])
def test_thinning_fits_any_length(count: int) -> None:
    values = np.random.default_rng(count).normal(size=count)
    steps, kept = thinned(np.arange(count), values, 500)
    assert len(kept) <= 500
    assert {values.min(), values.max()} <= set(kept)
    assert steps[-1] == count - 1


def test_smoothing_by_hand() -> None:
    assert smoothed(np.array([1.0, 3.0, 5.0]), 0.5).tolist() == [1.0, 2.0, 3.5]
    assert smoothed(np.array([1.0, 3.0]), 0.0).tolist() == [1.0, 3.0]


# Time left


def test_nothing_is_said_before_three_steps(tmp_path: Path) -> None:
    assert time_left(made(tmp_path, step_time=[1.0, 1.0]), 10) is None


def test_time_left_is_a_range_around_the_mean_step_without_the_first(tmp_path: Path) -> None:
    series = made(tmp_path, step_time=[60.0, 2.0, 2.0, 2.0])
    span = time_left(series, 14)
    # 10 steps of 2 s, plus and minus 5 %.
    assert (span.low, span.high) == pytest.approx((19.0, 21.0))
    assert span.words() == "19 s to 21 s left"


def test_evaluations_to_come_are_counted_with_what_they_took(tmp_path: Path) -> None:
    for step in range(1, 7):
        evaluated = {"eval/semantic/score": 3.0} if step % 3 == 0 else {}
        # Rows are 2 s apart, and 12 s where an evaluation of 10 s was in between.
        write(tmp_path, {"step": step, "time": 2.0 * step + 10.0 * (step // 3), "step_time": 2.0, **evaluated})
    span = time_left(Series(tmp_path).read(), 12, every=3)
    assert (span.low, span.high) == pytest.approx((6 * 1.9 + 20, 6 * 2.1 + 20))


def test_the_evaluation_after_the_last_step_counts_beside_those_at_multiples(tmp_path: Path) -> None:
    for step in range(1, 15):
        evaluated = {"eval/semantic/score": 3.0} if step == 12 else {}
        write(
            tmp_path, {"step": step, "time": 1.0 * step + (10.0 if step >= 12 else 0.0), "step_time": 1.0, **evaluated}
        )
    # Steps 15 to 20, evaluations after 15 (a multiple of 5) and 20 (a multiple, and the last): 6 s and 2 x 10 s.
    span = time_left(Series(tmp_path).read(), 20, every=5)
    assert (span.low, span.high) == pytest.approx((6 * 0.95 + 20, 6 * 1.05 + 20))
    # After 17 steps in all: 15 and, though no multiple, 17.
    span = time_left(Series(tmp_path).read(), 17, every=5)
    assert (span.low, span.high) == pytest.approx((3 * 0.95 + 20, 3 * 1.05 + 20))


def test_cost_by_hand() -> None:
    # 0.02 $ a minute; 10 to 12 minutes paid so far, 5 to 6 to come.
    found = cost(Span(300.0, 360.0), 600.0, 720.0, 0.02, 10.0)
    assert (found.low, found.high) == pytest.approx((0.30, 0.36))
    assert found.dollars() == "$0.30 to $0.36 in all"
    assert cost(Span(300.0, 360.0), 600.0, 720.0, 0.02, 0.33).high == 0.33


def test_a_budget_of_minutes_may_end_it_sooner(tmp_path: Path) -> None:
    series = made(tmp_path, step_time=[2.0] * 5)
    span = time_left(series, 1000, minutes=1.0, trained_s=50.0)
    assert (span.low, span.high) == pytest.approx((10.0, 10.0))
    assert span.words() == "10 s left"


# Alarms


def kinds(series: Series) -> set[str]:
    return {alarm.kind for alarm in alarms(series)}


def test_a_reward_that_rises_while_held_out_speech_breaks_is_serious(tmp_path: Path) -> None:
    rising = list(np.linspace(2.0, 4.0, 20))
    write(tmp_path, {"step": 0, "eval/acoustic/wer": 0.05})
    series = made(tmp_path, reward=rising)
    assert kinds(series) == set()
    write(tmp_path, {"step": 21, "reward": 4.0, "eval/acoustic/wer": 0.30})
    (alarm,) = alarms(series.read())
    assert alarm.serious
    assert alarm.sentence == (
        "The reward rose from 2.21 to 3.87 while the word error rate of held-out speech rose from 5% to 30%: "
        "likely reward hacking."
    )


def test_a_fall_of_both_is_no_hacking(tmp_path: Path) -> None:
    write(tmp_path, {"step": 0, "eval/acoustic/wer": 0.05})
    series = made(tmp_path, reward=[3.0] * 20)
    write(tmp_path, {"step": 21, "reward": 3.0, "eval/acoustic/wer": 0.5})
    assert kinds(series.read()) == set()


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"reward": np.linspace(1, 4, 20), "kl/text": np.linspace(0, 2, 20)}, "hacking-kl-text"),
        ({"frac_reward_zero_std": [0.9] * 20}, "flat"),
        ({"rewards/judge/failed_frac": [0.5] * 5}, "failed-judge"),
        ({"skipped_steps": [0.0, 1.0, 2.0]}, "skipped"),
        ({"entropy/text": np.linspace(2.0, 0.1, 20)}, "entropy-text"),
        ({"completions/clipped_ratio": [0.9] * 5}, "clipped"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_alarms(tmp_path: Path, columns: dict, kind: str) -> None:
    assert kinds(made(tmp_path, **{name: list(map(float, column)) for name, column in columns.items()})) == {kind}


@pytest.mark.parametrize(
    ("columns", "kind"),
    [({"eval/kl/speech": [0.0, 0.1, 0.9]}, "hacking-kl-speech"), ({"eval/kl/text": [0.0, 0.1, 0.4]}, None)],
)
def test_a_distance_that_only_held_out_replies_show_counts(tmp_path: Path, columns: dict, kind: str | None) -> None:
    made(tmp_path, reward=list(np.linspace(1.0, 4.0, 20)))
    for place, value in enumerate(next(iter(columns.values()))):
        write(tmp_path, {"step": 21 + place, "reward": 4.0, next(iter(columns)): value})
    assert kinds(Series(tmp_path).read()) == ({kind} if kind else set())


# Early stopping


def evaluated(folder: Path, *accuracies: float) -> None:
    for place, value in enumerate(accuracies):
        write(folder, {"step": 10 * place, "eval/semantic/accuracy": value})


@pytest.mark.parametrize(
    ("accuracies", "stops"),
    [
        ((0.5, 0.6, 0.6, 0.59), True),
        ((0.5, 0.6, 0.6, 0.61), False),
        ((0.6, 0.5), False),  # not two after the best yet
        ((0.6, 0.5, 0.55), True),
    ],
)
def test_patience_is_used_up_by_evaluations_without_gain(tmp_path: Path, accuracies: tuple, stops: bool) -> None:
    evaluated(tmp_path, *accuracies)
    asked = watchful(tmp_path, {"patience": 2})()
    assert (asked is not None) == stops
    if asked:
        assert asked.reason.startswith("held-out right answers have not risen above the 60% of step ")


def test_nobody_asked_nothing_stops(tmp_path: Path) -> None:
    evaluated(tmp_path, 0.6, 0.5, 0.4, 0.3)
    assert watchful(tmp_path, {"patience": 0, "stop_on_alarm": False})() is None


def test_an_alarm_stops_by_the_limits_of_the_run(tmp_path: Path) -> None:
    write(tmp_path, {"step": 0, "eval/acoustic/wer": 0.05})
    made(tmp_path, reward=list(np.linspace(2.0, 4.0, 20)))
    write(tmp_path, {"step": 21, "reward": 4.0, "eval/acoustic/wer": 0.15})
    assert "likely reward hacking" in watchful(tmp_path, {"stop_on_alarm": True})().reason
    save_config(TrainConfig(evaluation={"guard": {"wer": 0.2}}), tmp_path / "config.yaml")
    assert watchful(tmp_path, {"stop_on_alarm": True})() is None


# Plots


def test_curves_are_in_their_panels_with_units(tmp_path: Path) -> None:
    write(tmp_path, {"step": 0, "eval/acoustic/wer": 0.25, "guard/wer": 0.0})
    write(
        tmp_path,
        {"step": 1, "reward": 2.0, "rewards/rule/mean": 2.0, "rewards/rule/failed_frac": 0.0, "mix/lambda": 0.4},
    )
    found = training_plots.traces(Series(tmp_path).read(), "mine", "#123456")
    assert set(found) == {"reward", "mix", "acoustic", "guards"}
    (wer,) = found["acoustic"]
    assert (wer["x"], wer["y"], wer["name"]) == ([0], [25.0], "mine: word error rate")
    assert [trace["legendgroup"] for trace in found["reward"]] == ["mean", "rule"]
    assert found["guards"][1]["yaxis"] == "y2"
    assert {trace["line"]["color"] for traces in found.values() for trace in traces} == {"#123456"}


def test_panels_keep_a_zoom_and_name_their_units() -> None:
    for panel in training_plots.panels():
        assert panel["layout"]["uirevision"] == panel["id"]
        assert panel["layout"]["yaxis"]["title"]["text"]


def test_a_look_at_runs_that_have_not_grown_sends_none_of_their_curves() -> None:
    from app.bench_jobs import refresh

    found = refresh(runs=2, steps=2000, looks=3)
    # A look sends what is new and no more; how long it takes is measured by python -m evaluation.speed jobs.
    assert found["growing_mb"] < 0.75 * found["redraw_mb"]
