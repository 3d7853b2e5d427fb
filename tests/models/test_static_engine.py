"""Decoding over a cache of one size: the numbers of the generic engine, run here without recording."""

from __future__ import annotations

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from wavalign.models.engine import engine_for
from wavalign.models.hf_engine import HfEngine, HfSession
from wavalign.models.protocol import CheckpointError
from wavalign.models.static_engine import StaticEngine, StaticSession

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
PROMPTS = [[5, 6, 7, 8, 9], [1, 2], [3, 4, 5, 6]]
ROWS = [[10, 11, 12, 13, 14, 15], [20, 21, 22, 23, 24, 25], [30, 31, 32, 33, 34, 35], [40, 41, 42, 43, 44, 45]]


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    network = (
        LlamaForCausalLM(LlamaConfig(**SIZES)) if request.param == "llama" else Qwen2ForCausalLM(Qwen2Config(**SIZES))
    )
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2)
    made = get_peft_model(network, LoraConfig(r=4, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM"), "one")
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    return made.eval()


def decoded(engine: HfEngine, adapters: list[str | None], copies: int) -> list[torch.Tensor]:
    """Logits of four steps; after two of them the last rows are dropped."""
    session, logits = engine.start(PROMPTS[: 4 // copies], adapters[: 4 // copies], copies, 12)
    found, count = [logits], len(logits)
    tokens = torch.tensor(ROWS[:count])
    for step in range(4):
        if step == 2:
            session.keep(torch.tensor([0, count - 2]))
            tokens = tokens[[0, count - 2]]
        found.append(session.step(tokens[:, step]))
    return found


@pytest.mark.parametrize("adapter", [None, "one"])
@pytest.mark.parametrize("copies", [1, 2])
def test_it_gives_the_logits_of_the_generic_engine(model: torch.nn.Module, adapter: str | None, copies: int) -> None:
    adapters: list[str | None] = [adapter] * 3
    plain = decoded(HfEngine(model), adapters, copies)
    session, _ = StaticEngine(model).start(PROMPTS, adapters, 1, 12)
    assert isinstance(session, StaticSession)
    static = decoded(StaticEngine(model), adapters, copies)
    for one, other in zip(plain, static, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_a_step_is_one_graph_for_the_compiler(model: torch.nn.Module) -> None:
    plain = decoded(HfEngine(model), ["one"] * 3, 1)
    compiled = decoded(StaticEngine(model, backend="eager"), ["one"] * 3, 1)  # fullgraph: a break would raise
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(plain, compiled, strict=True))


def test_tensors_of_a_step_keep_their_place(model: torch.nn.Module) -> None:
    session, _ = StaticEngine(model).start(PROMPTS, [None] * 3, 1, 12)

    def places() -> list[int]:
        tensors = [session.ids, session.positions, session.mask, *(each.keys for each in session.cache.layers)]
        return [each.data_ptr() for each in tensors]

    before = places()
    session.step(torch.tensor([1, 2, 3]))
    session.keep(torch.tensor([1]))
    session.step(torch.tensor([4]))
    assert places() == before


def test_rows_with_different_adapters_are_decoded_the_plain_way(model: torch.nn.Module) -> None:
    session, _ = StaticEngine(model).start(PROMPTS[:2], [None, "one"], 1, 12)
    assert isinstance(session, HfSession)


def test_the_host_chooses_and_is_told_once_where_that_is_not_used(
    model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("wavalign.models.static_engine._told", set())
    monkeypatch.setattr("wavalign.models.fast_llama.LARGEST", 0)
    monkeypatch.delenv("WAVALIGN_DECODING", raising=False)
    assert type(engine_for(model)) is HfEngine
    monkeypatch.setenv("WAVALIGN_DECODING", "static")
    assert type(engine_for(model)) is StaticEngine
    with caplog.at_level("WARNING"):
        for _ in range(2):
            monkeypatch.setattr(StaticEngine, "fits", staticmethod(lambda network: False))
            assert type(engine_for(model)) is HfEngine
    (said,) = (record.getMessage() for record in caplog.records if "WAVALIGN_DECODING" in record.getMessage())
    assert said.startswith("WAVALIGN_DECODING=static is not used by models of the type")
    monkeypatch.setenv("WAVALIGN_DECODING", "fast")
    with pytest.raises(CheckpointError, match="choose one of plain, static, compiled"):
        engine_for(model)
