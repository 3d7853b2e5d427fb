"""The comparison of recipes on a model of a few kilobytes: cells are kept, resumed, recorded and shown."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation import observations, reproduce, reproduce_cells, reproduce_records
from evaluation.reproduce_cells import (
    DATA,
    Cell,
    Setting,
    base_measures,
    cpu_share,
    data_hash,
    refuse_other_settings,
    training_seconds,
    write_json,
)
from evaluation.reproduce_charts import charts
from evaluation.reproduce_intervals import Ratio, over_seeds
from evaluation.reproduce_measure import Sizes
from evaluation.reproduce_tables import PLACE, filled, tables
from evaluation.reproduce_variants import ReproduceError, variant
from tests.evaluation.tiny_cells import TINY, make_brief_assets
from wavalign.training.loop import Trainer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "comparison.md"
SIZES = ["--prompts", "4", "--samples", "2", "--spoken", "2", "--warm", "1", "--likelihood", "2"]


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_brief_assets(tmp_path_factory.mktemp("comparison-assets"))


def run(assets: Path, work: Path, *arguments: str, seeds: tuple[str, ...] = ("0", "1"), steps: int = 2) -> int:
    shared = ["--base", "tiny-base", "--assets", str(assets), "--work", str(work), "--split", "validation"]
    given = ["--steps", str(steps), "--curve", "2", "--set", *TINY, "--seeds", *seeds, *arguments]
    return reproduce.main([*shared, *SIZES, *given])


@pytest.fixture(scope="module")
def compared(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("compared")
    assert run(assets, work, "--recipes", "sft", "wavalign", "--keep", "--records", str(work / "records")) == 0
    return work


# A comparison


def test_two_recipes_and_two_seeds_make_a_table(compared: Path, assets: Path, tmp_path: Path) -> None:
    page, results = tmp_path / "page.md", tmp_path / "results" / "comparison.json"
    places = "before\n<!-- table: words -->\nold\n<!-- end -->\nafter\n<!-- table: cost -->\n<!-- end -->\n"
    page.write_text(places + "![](page/lambda.svg)\n")
    assert (
        run(assets, compared, "--recipes", "sft", "wavalign", "--table", "--page", str(page), "--results", str(results))
        == 0
    )
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert "after" in text
    assert re.search(r"\| `base` \|  \|", text)
    assert re.search(r"\| `sft` \| 2 \|", text)
    assert re.search(r"\| `wavalign` \| 2 \| \d+ \|", text)  # 2 updates
    found = json.loads(results.read_text())
    assert list(found["variants"]) == ["sft", "wavalign"]
    wavalign = found["variants"]["wavalign"]
    assert wavalign["seeds"] == [0, 1]
    assert wavalign["minus_sft"]["seeds"] == [0, 1]
    assert [run["mix/lambda"][0][0] for run in wavalign["runs"]] == [2, 2]  # one mean of the two steps, at step 2
    assert found["variants"]["sft"]["minus_sft"] == {}
    for svg in charts(found).values():
        ElementTree.fromstring(svg)
    # Only the charts that the page shows are written.
    assert [path.name for path in page.with_suffix("").iterdir()] == ["lambda.svg"]
    assert (page.with_suffix("") / "lambda.svg").read_text() == charts(found)["lambda.svg"]


def test_the_same_table_comes_from_records_alone(compared: Path, assets: Path, tmp_path: Path) -> None:
    page, found = tmp_path / "page.md", {}
    page.write_text("<!-- table: words -->\n<!-- end -->\n")
    for place in (compared, tmp_path / "elsewhere"):
        result = tmp_path / f"{place.name}.json"
        given = ["--recipes", "sft", "wavalign", "--records", str(compared / "records"), "--results", str(result)]
        assert run(assets, place, *given, "--table", "--page", str(page)) == 0
        found[place.name] = json.loads(result.read_text())
    first, second = found.values()
    assert second == first


def test_no_seconds_are_compared_of_a_recipe_from_another_machine(compared: Path, assets: Path, tmp_path: Path) -> None:
    page, results = tmp_path / "page.md", tmp_path / "results.json"
    page.write_text("<!-- table: equal-cpu -->\n<!-- end -->\n<!-- table: words -->\n<!-- end -->\n")
    given = ["--recipes", "sft", "wavalign", "--untimed", "sft", "--results", str(results)]
    assert run(assets, compared, *given, "--table", "--page", str(page)) == 0
    found = json.loads(results.read_text())
    assert [list(column["variants"]) for column in found["equal_cpu"]] == [["wavalign"]]
    equal, words = (match[0] for match in PLACE.finditer(page.read_text()))
    assert "`wavalign`" in equal
    assert "`sft`" not in equal
    assert "`sft`" in words
    timed = charts(found)["equal-cpu.svg"]
    assert ">wavalign<" in timed
    assert ">sft<" not in timed


def test_a_set_is_untimed_as_a_whole(compared: Path, assets: Path, capsys: pytest.CaptureFixture) -> None:
    """So one of its variants that is not compared is named."""
    assert run(assets, compared, "--recipes", "sft", "wavalign", "--untimed", "lora", "--table") == 1
    assert "--untimed names sft-full, wavalign-full, which --recipes does not." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--set", "data.path=nowhere"], "nowhere"),
        (["--pool", "no-pool.json"], "The pool of prompts no-pool.json cannot be read"),
    ],
)
def test_data_that_cannot_be_read_begin_nothing(
    given: list[str], said: str, assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(assets, tmp_path, "--recipes", "sft", *given) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_no_folder_and_numbers_that_do_not_fit_are_one_sentence(
    assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert run(assets, tmp_path / "file", "--recipes", "sft") == 1
    assert f"cannot read or write {tmp_path / 'file'} (File exists)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(assets, tmp_path, "--recipes", "sft", "--samples", "-3")
    assert "--samples: '-3' is not a whole number from 1 on" in capsys.readouterr().err


def test_a_page_that_is_not_there_leaves_no_results(compared: Path, assets: Path, tmp_path: Path) -> None:
    given = ["--recipes", "sft", "wavalign", "--results", str(tmp_path / "results.json")]
    assert run(assets, compared, *given, "--table", "--page", str(tmp_path / "none.md")) == 1
    assert not list(tmp_path.iterdir())


def test_records_of_other_settings_do_not_count(compared: Path, assets: Path, tmp_path: Path) -> None:
    given = ["--recipes", "sft", "--records", str(compared / "records"), "--minutes", "0"]
    assert run(assets, tmp_path / "same", *given) == 0
    assert (tmp_path / "same" / "cells" / "sft" / "seed-1" / "measured.json").is_file()
    assert run(assets, tmp_path / "other", *given, steps=3) == 0
    assert not list((tmp_path / "other").glob("cells/sft/seed-*"))


def test_finished_cells_are_recorded_when_that_is_asked_for_later(
    compared: Path, assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce_cells, "train", _never)
    given = ["--recipes", "sft", "--keep", "--records", str(tmp_path)]
    assert run(assets, compared, *given) == 0
    names = ["base.json", "sft-seed-0.json", "sft-seed-1.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names:
        assert json.loads((tmp_path / name).read_text()) == json.loads((compared / "records" / name).read_text())
    monkeypatch.setattr(reproduce_records, "write_json", _never)  # what says the same is left alone
    assert run(assets, compared, *given) == 0


@pytest.mark.parametrize("asked", [["--spoken", "1"], ["--weights"]])
def test_a_cell_from_a_record_is_trained_again_where_its_weights_are_needed(
    asked: list[str], compared: Path, assets: Path, tmp_path: Path
) -> None:
    """To be measured otherwise, or because they are asked for; the weights are those that were recorded."""
    given = ["--recipes", "sft", "--records", str(compared / "records")]
    assert run(assets, tmp_path, *given, seeds=("0",)) == 0
    cell = Cell(variant("sft"), 0, Setting(tmp_path, assets, "tiny-base"))
    assert (cell.trained, cell.has_weights) == (True, False)
    assert run(assets, tmp_path, *given, *asked, seeds=("0",)) == 0
    assert cell.has_weights
    own, first = (place / "cells/sft/seed-0/run/adapter/adapter_model.safetensors" for place in (tmp_path, compared))
    assert own.read_bytes() == first.read_bytes()


def test_runs_of_dpo_share_replies_and_each_pays_for_them(assets: Path, tmp_path: Path) -> None:
    changed = [f"{name}@rewards.weights={{letters: 1, delivery: 1}}" for name in ("dpo-text", "dpo-all")]
    records = tmp_path / "records"
    assert run(assets, tmp_path, "--recipes", *changed, "--keep", "--records", str(records), seeds=("0",)) == 0
    assert len(list((tmp_path / "replies").rglob("*.gz"))) == 2  # steps
    first, second = (Cell(variant(name), 0, Setting(tmp_path, assets, "tiny-base")) for name in changed)
    drawn, spared = first.metrics[-1], second.metrics[-1]
    assert "perf/kept_cpu_s" not in drawn
    assert spared["perf/kept_cpu_s"] > 0
    steps = second.metrics[1:]  # the first line is of the evaluation before them
    paid = sum(line["step_time"] * cpu_share(second) + line["perf/kept_cpu_s"] for line in steps)
    assert training_seconds(second)[-1] == (2, pytest.approx(paid))
    record = json.loads((records / f"{second.variant.slug}-seed-0.json").read_text())
    assert [line["perf/kept_cpu_s"] for line in record["metrics"][1:]] == [line["perf/kept_cpu_s"] for line in steps]


def test_the_shift_is_of_cells_whose_weights_are_there(
    compared: Path, assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, page = tmp_path / "work", tmp_path / "page.md"
    page.write_text("<!-- table: observation-shift -->\n<!-- end -->\n")
    look = ["shift", "--base", "tiny-base", "--assets", str(assets), "--split", "validation", "--page", str(page)]
    look += ["--results", str(tmp_path), "--limit", "1", "--work", str(work), "--recipes", "sft", "wavalign"]
    assert run(assets, work, "--recipes", "sft", "wavalign", "--records", str(compared / "records"), seeds=("0",)) == 0
    assert observations.main(look) == 1
    assert "2 of 2 trained recipes" in capsys.readouterr().err
    assert run(assets, work, "--recipes", "sft", "--weights", seeds=("0",)) == 0
    assert observations.main(look) == 0
    said = capsys.readouterr().err
    assert "1 of 2 trained recipes" in said
    assert "python -m evaluation.reproduce --weights" in said
    assert list(json.loads((tmp_path / "observation-shift.json").read_text())["found"]) == ["sft"]


def test_finished_cells_are_not_done_again(compared: Path, assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce_cells, "measured", _never)
    monkeypatch.setattr(reproduce_cells, "train", _never)
    assert run(assets, compared, "--recipes", "sft", "wavalign") == 0


def test_other_sizes_measure_again_but_do_not_train_again(
    compared: Path, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce_cells, "train", _never)
    before = json.loads((compared / "cells" / "sft" / "seed-0" / "measured.json").read_text())
    assert run(assets, compared, "--recipes", "sft", "--spoken", "1", seeds=("0",)) == 0
    after = json.loads((compared / "cells" / "sft" / "seed-0" / "measured.json").read_text())
    assert sum(before["measures"]["finished/own"][1]) == 2
    assert sum(after["measures"]["finished/own"][1]) == 1
    assert before["measures"]["accuracy/sampled"] == after["measures"]["accuracy/sampled"]
    assert run(assets, compared, "--recipes", "sft", seeds=("0",)) == 0  # back again, for the tests that follow


def test_an_interrupted_cell_goes_on_to_the_same_weights(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(assets, tmp_path / "straight", "--recipes", "sft", seeds=("0",), steps=3) == 0
    whole = Trainer._one_step

    def asks_to_stop(self: Trainer) -> dict[str, float]:
        self.stop.ask("a test")
        return whole(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_one_step", asks_to_stop)
        assert run(assets, tmp_path / "cut", "--recipes", "sft", seeds=("0",), steps=3) == 130
    cut = tmp_path / "cut" / "cells" / "sft" / "seed-0"
    assert not (cut / "measured.json").exists()
    assert json.loads((cut / "run" / "result.json").read_text())["step"] == 1
    assert run(assets, tmp_path / "cut", "--recipes", "sft", seeds=("0",), steps=3) == 0
    straight = tmp_path / "straight" / "cells" / "sft" / "seed-0"
    own, other = ((f / "run" / "adapter" / "adapter_model.safetensors").read_bytes() for f in (cut, straight))
    assert own == other
    measures = [json.loads((f / "measured.json").read_text())["measures"] for f in (cut, straight)]
    assert measures[0] == measures[1]


def test_a_run_that_learns_nothing_measures_as_the_base_does(assets: Path, tmp_path: Path) -> None:
    """The same prompts with the same sampling seeds: what pairs differ by is training alone."""
    assert run(assets, tmp_path, "--recipes", "sft@lr=1e-30", seeds=("0",), steps=1) == 0
    base = json.loads((tmp_path / "base.json").read_text())
    (path,) = tmp_path.glob("cells/*/seed-0/measured.json")
    tuned = json.loads(path.read_text())
    for name in ("accuracy/sampled", "score/sampled", "wer/own", "seconds/own", "seconds/warm"):
        assert tuned["measures"][name] == base["measures"][name]
    assert np.allclose(tuned["measures"]["nll/speech"], base["measures"]["nll/speech"], atol=2e-3)


def test_no_minutes_train_nothing(assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(assets, tmp_path, "--recipes", "sft", "--minutes", "0") == 0
    assert "0 of 2 cells are done" in capsys.readouterr().out
    assert not (tmp_path / "cells").exists()


def test_other_settings_in_the_same_folder_are_refused(
    compared: Path, assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(assets, compared, "--recipes", "sft", steps=3) == 1
    assert "begun with other settings" in capsys.readouterr().err


def test_another_base_in_the_same_folder_is_refused(compared: Path, assets: Path, tmp_path: Path) -> None:
    setting = Setting(tmp_path, assets, "tiny-base", sizes=Sizes("validation", 4, 2, spoken=2, warm=1, likelihood=2))
    known = json.loads((compared / "base.json").read_text())
    (tmp_path / "base.json").write_text(json.dumps({**known, "sha256": "0" * 64}))
    with pytest.raises(ReproduceError, match="other weights or data"):
        base_measures(setting)


def test_every_checkpoint_answers_the_same_prompts(compared: Path) -> None:
    """4 prompts, 2 samples each; 2 of them are answered aloud and 2 demonstrations scored."""
    base = json.loads((compared / "base.json").read_text())
    tuned = json.loads((compared / "cells" / "sft" / "seed-0" / "measured.json").read_text())
    assert base["ids"] == tuned["ids"]
    assert base["sizes"] == tuned["sizes"]
    assert set(base["measures"]) >= {"accuracy/greedy", "accuracy/sampled", "score/sampled", "wer/own", "nll/speech"}
    assert set(base["measures"]) == set(tuned["measures"])
    top, bottom = np.array(base["measures"]["accuracy/sampled"])
    assert bottom.tolist() == [2, 2, 2, 2]
    assert (top <= bottom).all()
    assert np.array(base["measures"]["finished/own"])[1].tolist() == [1, 1, 0, 0]
    assert np.array(base["measures"]["nll/speech"])[1, 2:].tolist() == [0, 0]


def test_the_mean_of_the_dynamic_run_becomes_the_constant(compared: Path, assets: Path) -> None:
    assert run(assets, compared, "--recipes", "fixed-at-mean", seeds=("1",)) == 0
    setting = Setting(compared, assets, "tiny-base")
    lines = Cell(variant("wavalign"), 1, setting).metrics
    mean = np.mean([line["mix/lambda"] for line in lines if "mix/lambda" in line])
    fixed = Cell(variant("fixed-at-mean"), 1, setting).metrics
    constant = {line["mix/lambda"] for line in fixed if "mix/lambda" in line}
    assert len(constant) == 1
    assert constant.pop() == pytest.approx(mean, abs=5e-5)


def test_the_observations_write_figures_pictures_and_tables(compared: Path, assets: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    names = ("shift", "gradients", "variance")
    page.write_text("".join(f"<!-- table: observation-{name} -->\n<!-- end -->\n" for name in names))
    given = ["--base", "tiny-base", "--assets", str(assets), "--split", "validation", "--page", str(page)]
    given += ["--results", str(tmp_path), "--limit", "2", "--samples", "2", "--work", str(compared)]
    small = [o for o in TINY if not o.startswith(("rewards", "tuning"))]
    assert observations.main([*names, *given, "--recipes", "sft", "wavalign", "--set", *small]) == 0
    found = {name: json.loads((tmp_path / f"observation-{name}.json").read_text())["found"] for name in names}
    assert set(found["shift"]) == {"sft", "wavalign"}
    assert found["shift"]["sft"]["speech"]["value"] > 0
    assert len(found["gradients"]["SFT"]["cosine"]) == 2
    assert abs(found["gradients"]["SFT"]["cosine"][0]) <= 1
    spread = found["variance"]
    expected = spread["semantic"]["value"] - spread["acoustic"]["value"]
    assert spread["difference"]["value"] == pytest.approx(expected)
    assert page.read_text().count("|---|") >= 3
    assert len(list((tmp_path / "page").glob("observation-*.svg"))) == 4


def test_the_pages_have_a_place_for_every_table() -> None:
    empty: dict[str, Any] = {
        "base": {"name": "b", "sha256": "0", "measures": {}},
        "setting": {"steps": 1, "overrides": [], "tuned": {}, "sizes": vars(Sizes())},
        "variants": {},
        "equal_cpu": [],
    }
    parts = set(tables(empty)) | {f"observation-{name}" for name in ("shift", "gradients", "variance")}
    places = {page.stem: {match[1] for match in PLACE.finditer(page.read_text())} for page in PAGE.parent.glob("*.md")}
    assert places["comparison"] == parts - {"tuning", "ablations"}
    assert "tuning" in places["learning-rates"]
    assert "ablations" in places["ablations"]
    own = ("comparison", "learning-rates", "ablations", "saturation", "flaky-judge")
    assert all(places[page] <= parts for page in own)
    assert filled("<!-- table: other -->x<!-- end -->", {"words": "y"}) == "<!-- table: other -->x<!-- end -->"


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("this was done before")


def test_a_measure_that_is_not_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="seeds, prompts"):
        Ratio(np.zeros(3), np.zeros(3))
    assert over_seeds(Ratio(np.zeros((1, 2)), np.zeros((1, 2)))) is None
    assert math.isnan(Ratio(np.zeros((1, 2)), np.zeros((1, 2))).of_seeds[0])


def test_other_prompts_under_the_same_name_are_refused(tmp_path: Path) -> None:
    """A folder that was written anew has the same config, and is another comparison."""
    (tmp_path / "prompts").mkdir()
    rows = tmp_path / "prompts" / "post_training.parquet"
    rows.write_bytes(b"one")
    path = f"data.path={tmp_path / 'prompts'}"
    cell = Cell(variant("sft"), 0, Setting(tmp_path, tmp_path, overrides=(path,)))
    write_json(cell.folder / DATA, {"sha256": data_hash(str(tmp_path / "prompts"))})
    refuse_other_settings(cell, None)
    rows.write_bytes(b"two")
    with pytest.raises(ReproduceError, match="begun on other prompts than"):
        refuse_other_settings(cell, None)
    assert data_hash(None) is None
    assert data_hash(str(rows)) == data_hash(str(tmp_path / "prompts"))
