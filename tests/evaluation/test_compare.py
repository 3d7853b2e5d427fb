"""Comparing checkpoints from their records: hand-worked differences, what is left out is counted, reports that hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.assess_plan import PlanError, make_plan, write_plan
from evaluation.assess_records import Records, ReplyRecord, ScoreRecord
from evaluation.compare import read_comparison, verdict
from evaluation.report import write_reports
from evaluation.report_card import BEGIN, add_to_card
from evaluation.report_charts import Axis, Row, forest, radar
from evaluation.report_html import _axes
from evaluation.report_text import plain_text
from wavalign.audio import Waveform

BASE, TUNED = "base", "tuned"
RIGHT = {BASE: [1, 0, 0, 1, 0, 1], TUNED: [1, 1, 0, 1, 1, 0]}
WORD_ERRORS = {
    BASE: [(0, 2), (1, 2), (0, 8), (0, 4), (2, 2), (0, 2)],
    TUNED: [(0, 2), (0, 2), (4, 8), (0, 4), (0, 2), (0, 2)],
}


def fill(work: Path, samples: int = 1, drop: tuple[tuple[str, int], ...] = (), text: str = "hot") -> Path:
    """Records of six prompts, three of each family; ``drop``: replies (checkpoint, prompt) that failed."""
    work.mkdir(parents=True, exist_ok=True)
    write_plan(work, make_plan(checkpoints=(BASE, TUNED), tasks=("closedtalk",), samples=samples))
    records = Records(work)
    tone = Waveform(0.1 * np.sin(np.arange(8000) / 8), 16_000)
    replies, scores = [], []
    for name in (BASE, TUNED):
        for place in range(6):
            for sample in range(samples):
                family = "colours" if place < 3 else "sums"
                blank = ReplyRecord("closedtalk", name, f"p{place}", sample, family, place, "what is hot?")
                if (name, place) in drop:
                    replies.append(ReplyRecord(*list(vars(blank).values())[:7], error="too long"))
                    continue
                errors, words = WORD_ERRORS[name][place]
                values = {"wer": errors / words, "f0_sd": 2.0 if name == BASE else 3.0, "finished": 1.0}
                more = {
                    "text": text,
                    "transcript": "cold",
                    "finished": True,
                    "values": values,
                    "weights": {"wer": words},
                }
                sound = records.keep_sound(blank.key, tone)
                replies.append(ReplyRecord(*list(vars(blank).values())[:7], **more, sound=sound))
                right = float(RIGHT[name][place]) if sample == 0 else 1.0
                scores.append(
                    ScoreRecord("closedtalk", name, f"p{place}", sample, {"correct": right, "grade": 1 + 4 * right})
                )
    records.add_replies(replies)
    records.add_scores(scores)
    return work


def compared(work: Path) -> dict:
    return read_comparison(work, Path("nowhere"))


def metric(report: dict, name: str) -> dict:
    return next(each for each in report["tasks"][0]["metrics"] if each["name"] == name)


def test_means_and_the_paired_difference_by_hand(tmp_path):
    right = metric(compared(fill(tmp_path)), "correct")
    assert right["checkpoints"][BASE]["value"] == pytest.approx(3 / 6)
    assert right["checkpoints"][TUNED]["value"] == pytest.approx(4 / 6)
    apart = right["differences"][TUNED]
    assert apart["value"] == pytest.approx(1 / 6)
    assert apart["prompts"] == 6
    assert apart["low"] <= 0 <= apart["high"]
    assert apart["verdict"] == "no clear difference"


def test_word_error_rates_count_words_once(tmp_path):
    wer = metric(compared(fill(tmp_path)), "wer")
    assert wer["checkpoints"][BASE]["value"] == pytest.approx(3 / 20)
    assert wer["checkpoints"][TUNED]["value"] == pytest.approx(4 / 20)
    assert wer["differences"][TUNED]["value"] == pytest.approx(1 / 20)


def test_a_failed_reply_is_no_zero_and_its_twin_is_left_out_of_the_difference(tmp_path):
    report = compared(fill(tmp_path, drop=((TUNED, 5),)))
    right = metric(report, "correct")
    assert right["checkpoints"][TUNED]["value"] == pytest.approx(4 / 5)
    assert right["checkpoints"][BASE]["value"] == pytest.approx(3 / 6)
    assert right["differences"][TUNED]["value"] == pytest.approx(4 / 5 - 2 / 5)
    assert right["differences"][TUNED]["prompts"] == 5
    assert report["tasks"][0]["replies"][TUNED] == {"asked": 6, "failed": 1, "reasons": {"too long": 1}}
    assert "1 of tuned" in plain_text(report)


def test_a_constant_gain_has_an_interval_of_its_own_size_and_a_neutral_measure_is_not_called_better(tmp_path):
    f0 = metric(compared(fill(tmp_path)), "f0_sd")["differences"][TUNED]
    assert (f0["low"], f0["value"], f0["high"]) == pytest.approx((1.0, 1.0, 1.0))
    assert f0["verdict"] == "higher"


def test_verdicts_follow_the_better_end():
    up, down, both = ({"low": low, "high": high} for low, high in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1)))
    assert [verdict(up, end) for end in ("higher", "lower", None)] == ["better", "worse", "higher"]
    assert [verdict(down, end) for end in ("higher", "lower", None)] == ["worse", "better", "lower"]
    assert verdict(both, "higher") == "no clear difference"
    assert verdict({"low": None, "high": None}, "higher") == "too few prompts"


def test_families_are_compared_by_themselves_and_few_prompts_get_no_interval(tmp_path):
    groups = {group["name"]: group for group in metric(compared(fill(tmp_path)), "correct")["groups"]}
    assert set(groups) == {"colours", "sums"}
    assert groups["colours"]["differences"][TUNED]["value"] == pytest.approx(1 / 3)
    assert groups["sums"]["differences"][TUNED]["value"] == pytest.approx(0.0)
    assert groups["sums"]["differences"][TUNED]["low"] is None
    assert groups["sums"]["differences"][TUNED]["verdict"] == "too few prompts"


def test_samples_of_a_prompt_are_pooled_and_each_seed_is_told_by_itself(tmp_path):
    right = metric(compared(fill(tmp_path, samples=2)), "correct")
    assert right["checkpoints"][BASE]["by_seed"] == pytest.approx([0.5, 1.0])
    assert right["checkpoints"][BASE]["value"] == pytest.approx(0.75)
    assert right["differences"][TUNED]["value"] == pytest.approx(1 / 12)
    assert right["differences"][TUNED]["prompts"] == 6


def test_what_got_worse_is_listed_worst_first_with_both_recordings(tmp_path):
    found = compared(fill(tmp_path))["tasks"][0]["regressions"][TUNED]
    assert {key: found["correct"][key] for key in ("better", "same", "worse")} == {"better": 2, "same": 3, "worse": 1}
    (lost,) = found["correct"]["list"]
    assert lost["item"] == "p5"
    assert [lost["replies"][name]["value"] for name in (BASE, TUNED)] == [1.0, 0.0]
    assert all((tmp_path / reply["sound"]).is_file() for reply in lost["replies"].values())
    assert [each["item"] for each in found["wer"]["list"]] == ["p2"]


def test_the_report_is_one_file_that_loads_nothing_and_escapes_what_was_said(tmp_path):
    report = compared(fill(tmp_path, text="<script>alert(1)</script>"))
    paths = write_reports(report, tmp_path)
    html = paths.html.read_text()
    assert "<script" not in html
    assert "http://" not in html
    assert "https://" not in html
    assert html.count("data:audio/flac;base64,") == 4  # two lists, one prompt each, both sides
    assert "&lt;script&gt;" in html
    assert json.loads(paths.json.read_text()) == json.loads(json.dumps(report))


def test_a_recording_that_is_gone_does_not_break_the_report(tmp_path):
    report = compared(fill(tmp_path))
    for sound in (tmp_path / "sounds").rglob("*.wav"):
        sound.unlink()
    assert "not there any more" in write_reports(report, tmp_path).html.read_text()


def test_the_radar_shows_only_what_has_a_better_end_and_outwards_is_better(tmp_path):
    axes, _ = _axes(compared(fill(tmp_path))["tasks"][0], [BASE, TUNED])
    by_label = {axis.label: axis for axis in axes}
    assert not any("F0" in label for label in by_label)
    assert by_label["WER (low is out)"].places[BASE] == pytest.approx(1 - 3 / 20)
    assert by_label["Grade"].places[BASE] == pytest.approx(0.5)


def test_charts_stand_on_their_own():
    drawn = forest([Row("a<b", "+8.0 points", 0.08, 0.03, 0.13, "better"), Row("c", "too few prompts")], "points", 100)
    assert "a&lt;b" in drawn
    assert "+20" in drawn  # the axis ends at the next round number
    assert radar([], ["one"]) == ""
    axes = [Axis(name, {"one": 0.5}, {"one": "50 %"}) for name in "abc"]
    assert radar(axes, ["one", "two"]).count("<circle") == 3


def test_the_card_gets_one_section_and_keeps_the_rest(tmp_path):
    work = fill(tmp_path / "work")
    card = tmp_path / "README.md"
    card.write_text("---\nbase_model: base\n---\n# tuned\n\nAbout it.\n")
    with pytest.raises(PlanError, match="no report yet"):
        add_to_card(card, work, TUNED)
    write_reports(compared(work), work)
    add_to_card(card, work, TUNED)
    once = card.read_text()
    add_to_card(card, work, TUNED)
    assert card.read_text() == once
    assert once.startswith("---\nbase_model: base\n---\n# tuned\n\nAbout it.\n")
    assert once.count(BEGIN) == 1
    assert "| Correct | 50.0 %" in once
    with pytest.raises(PlanError, match="not among the checkpoints"):
        add_to_card(card, work, "somebody")
