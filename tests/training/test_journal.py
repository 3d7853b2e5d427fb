"""The run's folder as others read it."""

from __future__ import annotations

import json

from wavalign.training.journal import ATTEMPT_VARIABLE, Journal, read_lines, read_metrics


def test_every_line_is_json_and_what_is_not_finite_is_named(tmp_path):
    journal = Journal(tmp_path)
    journal.metrics(1, {"loss": 0.5, "kl": float("nan"), "reward": float("inf")})
    (line,) = read_lines(tmp_path / "metrics.jsonl")
    assert line["loss"] == 0.5
    assert line["non_finite"] == ["kl", "reward"]
    assert "kl" not in line


def test_a_step_that_was_taken_again_counts_once(tmp_path):
    first = Journal(tmp_path)
    for step in (1, 2, 3):
        first.metrics(step, {"loss": 1.0})
    second = Journal(tmp_path)
    assert (first.attempt, second.attempt) == (1, 2)
    second.metrics(3, {"loss": 2.0})
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(1, 1.0), (2, 1.0), (3, 2.0)]


def test_a_line_that_a_kill_cut_short_spoils_no_other(tmp_path):
    journal = Journal(tmp_path)
    journal.metrics(1, {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 2, "lo')
    Journal(tmp_path).metrics(2, {"loss": 2.0})
    assert [line["loss"] for line in read_metrics(tmp_path)] == [1.0, 2.0]


def test_a_new_attempt_has_no_result_yet(tmp_path):
    Journal(tmp_path).result("stopped", "asked to stop", 4)
    assert json.loads((tmp_path / "result.json").read_text())["step"] == 4
    Journal(tmp_path)
    assert not (tmp_path / "result.json").exists()


def test_a_launcher_that_writes_the_log_names_the_attempt(tmp_path, monkeypatch):
    monkeypatch.setenv(ATTEMPT_VARIABLE, "7")
    journal = Journal(tmp_path)
    assert journal.attempt_folder.name == "007"
    assert journal.log_is_written


def test_a_request_to_stop_is_read_and_answered(tmp_path):
    journal = Journal(tmp_path)
    assert not journal.asked_to_stop()
    (tmp_path / "control.json").write_text('{"stop": true}')
    assert journal.asked_to_stop()
    journal.answered_stop()
    assert not journal.asked_to_stop()
    (tmp_path / "control.json").write_text("{")
    assert not journal.asked_to_stop()
