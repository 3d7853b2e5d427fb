"""The comparison on a GPU, run here on tiny models; what TRL adds takes too long to be tested with the rest."""

from __future__ import annotations

from pathlib import Path

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import pytest
import torch

from evaluation import speed, speed_gpu
from evaluation.speed import ASSETS
from evaluation.speed_gpu_models import SHAPES, make_assets
from wavalign.models.registry import Registry


def test_without_a_gpu_it_says_so_in_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert speed.main(["gpu"]) == 1
    assert capsys.readouterr().err.strip() == speed_gpu.NO_GPU


def test_every_way_to_decode_is_timed_on_a_random_checkpoint(tmp_path: Path) -> None:
    (name,) = make_assets(tmp_path / "assets", ASSETS, "tiny", torch.float32)
    model = Registry(tmp_path / "assets").load([name])
    assert model.base.network.config.hidden_size == SHAPES["tiny"][name]["hidden_size"]
    rates = speed_gpu._rates(model, batch=2, turns=1, tokens=4)
    assert set(rates) == {"generate", "ours", "plain", "static"}
    assert all(rate > 0 for rate in rates.values())


def test_a_product_of_matrices_counts_two_operations_for_each_term(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(speed_gpu.time, "perf_counter", lambda: float(next(clock)))
    assert speed_gpu._peak_operations(torch.device("cpu"), torch.float32, 10) == 2 * 10**3  # in one second each
