"""The one place that chooses how a checkpoint attends."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from wavalign.models import attention
from wavalign.models.protocol import CheckpointError


class Network:
    """As much of a model of transformers as the choice looks at; its weight says where and in what it is."""

    _supports_flash_attn = True

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.weight = SimpleNamespace(device=torch.device(device), dtype=dtype)
        self.config = SimpleNamespace(_attn_implementation="sdpa")

    def parameters(self):
        return iter([self.weight])

    def set_attn_implementation(self, chosen: str) -> None:
        self.config._attn_implementation = chosen


@pytest.mark.parametrize(
    ("device", "dtype", "installed", "expected"),
    [
        ("cuda", torch.bfloat16, True, "flash_attention_2"),
        ("cuda", torch.bfloat16, False, "sdpa"),
        ("cuda", torch.float32, True, "sdpa"),
        ("cpu", torch.bfloat16, True, "sdpa"),
    ],
)
def test_flash_attention_where_it_is_installed_and_works(
    device: str, dtype: torch.dtype, installed: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(attention.VARIABLE, raising=False)
    monkeypatch.setattr(attention, "installed", lambda: installed)
    network = Network(device, dtype)
    attention.settle(network)
    assert network.config._attn_implementation == expected
    attention.settle_for_training(network)  # its masks are its own
    assert network.config._attn_implementation == "sdpa"


def test_a_network_without_flash_attention_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(attention.VARIABLE, raising=False)
    monkeypatch.setattr(attention, "installed", lambda: True)
    network = Network("cuda", torch.bfloat16)
    network._supports_flash_attn = False
    assert attention.choose(network) is None


@pytest.mark.parametrize(
    ("asked", "device", "says"),
    [
        ("flash_attention_2", "cpu", "needs a GPU and weights in bfloat16 or float16; choose auto"),
        ("flash_attention_2", "cuda", "needs the flash-attn package; choose auto"),
        ("quick", "cuda", "choose one of auto, sdpa, flash_attention_2, eager"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    asked: str, device: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(attention.VARIABLE, asked)
    monkeypatch.setattr(attention, "installed", lambda: False)
    with pytest.raises(CheckpointError, match=says):
        attention.settle(Network(device, torch.bfloat16))


def test_the_host_may_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(attention.VARIABLE, "eager")
    network = Network("cpu", torch.float32)
    attention.settle(network)
    assert network.config._attn_implementation == "eager"
