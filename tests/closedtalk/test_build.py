"""The build runs through at a tiny size: what it ships opens with the calls that a user makes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.processes import processes
from wavalign.closedtalk.dataset import read_dialogues
from wavalign.closedtalk.deliveries import Delivery

pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel builds the data")

from wavalign.audio import from_array
from wavalign.closedtalk.build import render
from wavalign.closedtalk.build.__main__ import STAGES, Build, Sizes, main
from wavalign.closedtalk.build.clips import Clip
from wavalign.closedtalk.build.training_loop import Schedule, train
from wavalign.codecs.fsq_world import FsqWorldCodec
from wavalign.metrics.recogniser import Recogniser

TINY = Sizes(
    assistant_clips=5,
    user_dialogues=6,
    balanced_clips=4,
    flite_clips=0,
    human_clips=0,
    codec_steps=2,
    voice_steps=2,
    recogniser_steps=2,
    dialogues=12,
    base_steps=2,
    tuned_steps=1,
    post_training=8,
    validation=4,
    held_out=6,
    unseen_combinations=4,
    evaluation_clips=2,
    listening_clips=2,
    reference_answers=2,
    max_rows=2,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    build = Build(folder / "work", folder / "assets", None, 0, TINY)
    build.studio.flite = False
    for stage in STAGES.values():
        stage(build)
    torch.set_num_threads(threads)
    return folder


def test_every_shipped_file_is_under_ten_megabytes(built: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in (built / "assets").rglob("*") if path.is_file()}
    assert sizes
    assert max(sizes.values()) < 10_000_000


def test_codec_and_recogniser_open_from_their_folders(built: Path) -> None:
    codec = FsqWorldCodec.from_pretrained(str(built / "assets" / "closedtalk-codec"))
    recogniser = Recogniser.from_pretrained(str(built / "assets" / "closedtalk-recogniser"))
    noise = from_array(torch.randn(16_000, generator=torch.Generator().manual_seed(0)).numpy() * 0.1, 16_000)
    assert codec.decode(codec.encode(noise)).seconds == pytest.approx(1.0)
    assert "seven" in recogniser.lexicon
    assert isinstance(recogniser.transcribe([noise])[0], str)


def test_rows_carry_the_codes_of_what_was_said(built: Path) -> None:
    rows = read_dialogues(built / "assets" / "closedtalk-data" / "post_training.parquet")
    assert len(rows) == TINY.post_training
    for row in rows:
        for turn in row.turns:
            assert bool(turn.user_codes) != row.typed
            # 25 tokens a second; a reply of three to seven words lasts between half a second and eight.
            assert 12 <= len(turn.reply_codes) <= 200
            assert turn.delivery in set(Delivery)


def test_a_stage_that_is_done_is_not_done_again(built: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (built / "work").rglob("*.npz")}
    STAGES["clips"](Build(built / "work", built / "assets", None, 0, TINY))
    assert before
    assert before == {path: path.stat().st_mtime_ns for path in (built / "work").rglob("*.npz")}


def test_processes_share_out_the_shards_of_a_stage(tmp_path: Path) -> None:
    for world in processes(2):
        render.in_shards(
            tmp_path / str(world.rank), "x", 1100, lambda index: [Clip(str(index), "", np.zeros((1, 80)))], world
        )
    made = [[path.stem for path in sorted((tmp_path / rank).iterdir())] for rank in "01"]
    assert made == [["x-000000", "x-000500", "x-001000"], ["x-000250", "x-000750"]]


def test_only_stages_of_shards_are_for_several_processes(monkeypatch, capsys) -> None:
    monkeypatch.setattr("wavalign.closedtalk.build.__main__.launched", lambda: processes(2)[0])
    monkeypatch.setattr("sys.argv", ["build", "--stage", "codec"])
    with pytest.raises(SystemExit):
        main()
    assert "stage codec is for one process" in capsys.readouterr().err


def test_training_resumes_where_it_stopped(tmp_path: Path) -> None:
    def run(steps: list[int], name: str) -> torch.Tensor:
        for until in steps:
            torch.manual_seed(0)
            model = torch.nn.Linear(3, 1)

            def loss_of(step: int) -> tuple[torch.Tensor, dict[str, float]]:
                x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
                loss = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()  # noqa: B023
                return loss, {"loss": loss.item()}

            schedule = Schedule(6, peak=0.1, warmup=2)
            train(model, schedule, loss_of, tmp_path / f"{name}.pt", name, every=1, stop=until)
        return model.weight.detach()

    assert torch.equal(run([6], "straight"), run([3, 6], "resumed"))
