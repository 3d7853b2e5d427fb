"""What a job takes in memory, told before it starts."""

from __future__ import annotations

import json
from pathlib import Path

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.training.tiny_run import small
from wavalign.models import memory
from wavalign.models.protocol import Checkpoint
from wavalign.training import job_memory as estimating
from wavalign.training.config import ConfigError, TrainConfig
from wavalign.training.job_memory import PROMPT_TOKENS, JobMemory, job_memory, refuse_if_too_large

MB = 10**6


@pytest.fixture
def base(tmp_path: Path) -> Checkpoint:
    """Width 8, keys 4, inner 16, one layer, ten words; 80 + 64 + 32 + 128 + 8 = 312 numbers of 2 bytes."""
    shapes = {
        "model.embed_tokens.weight": (10, 8),
        "model.layers.0.self_attn.q_proj.weight": (8, 8),
        "model.layers.0.self_attn.k_proj.weight": (4, 8),
        "model.layers.0.mlp.up_proj.weight": (16, 8),
        "model.layers.0.input_layernorm.weight": (8,),
    }
    tensors = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "a.safetensors")
    config = {"vocab_size": 10, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    config |= {"num_attention_heads": 2, "num_key_value_heads": 1}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return Checkpoint("base", "interleaved", tmp_path, "base")


def wanted(**changes: object) -> TrainConfig:
    changes = {"tuning": {"kind": "lora", "rank": 2}, "micro_batch": 1, "batch": 2, **changes}
    return small(**{"rollouts": {"group_size": 3, "max_tokens": 100, "rows_at_once": 64}, **changes})


def test_an_adapter_its_gradients_and_its_averages_are_those_of_its_two_matrices(base: Checkpoint) -> None:
    told = job_memory(wanted(), base, "cpu")
    trained = 2 * ((8 + 8) + (4 + 8) + (16 + 8))  # rank times inputs plus outputs, three modules
    assert trained == 104
    assert told.weights == 312 * 4  # float32 on a CPU
    assert (told.adapter, told.gradients, told.optimiser, told.reference) == (4 * 104, 4 * 104, 8 * 104, 0)


def test_only_named_targets_count(base: Checkpoint) -> None:
    told = job_memory(wanted(tuning={"kind": "lora", "rank": 2, "targets": ["q_proj"]}), base, "cpu")
    assert told.adapter == 4 * 2 * (8 + 8)


def test_averages_in_8_bits_take_a_quarter(base: Checkpoint) -> None:
    told = job_memory(wanted(optimiser={"states": "8bit"}), base, "cpu")
    assert told.optimiser == round(104 * (2 + 2 * 4 / 256)) == 211


def test_all_weights_are_trained_in_float32_and_a_reference_is_held_where_it_is_compared_with(base: Checkpoint) -> None:
    whole = job_memory(wanted(tuning={"kind": "full"}, precision="float32"), base, "cuda")
    assert (whole.weights, whole.adapter, whole.gradients, whole.optimiser) == (312 * 4, 0, 312 * 4, 312 * 8)
    assert whole.reference == 0
    preference = {"kind": "hybrid", "preference": {"kl_text": 0.01}}
    assert job_memory(wanted(tuning={"kind": "full"}, method=preference), base, "cpu").reference == 312 * 4


def test_processes_that_share_weights_out_hold_a_part_each(base: Checkpoint) -> None:
    whole, part = (job_memory(wanted(tuning={"kind": "full"}), base, "cpu", shards=n) for n in (1, 4))
    assert (part.weights, part.gradients, part.optimiser) == (
        whole.weights // 4,
        whole.gradients // 4,
        whole.optimiser // 4,
    )
    assert part.forward == whole.forward


def test_a_forward_keeps_what_every_token_leaves_in_every_layer_and_the_logits_with_their_gradient(
    base: Checkpoint,
) -> None:
    told = job_memory(wanted(), base, "cpu")
    learnt = 1 * (3 + 1) * 100  # one prompt, three replies and the demonstration
    a_token = 4 * (7 * 8 + 3 * 4 + 4 * 16)
    assert a_token == 528
    assert told.forward == (learnt + PROMPT_TOKENS) * a_token + 2 * 4 * learnt * 10
    unpacked = job_memory(wanted(packing="off"), base, "cpu")
    assert unpacked.forward - told.forward == 3 * PROMPT_TOKENS * a_token  # each of four is read with the prompt
    remade = job_memory(wanted(gradient_checkpointing=True), base, "cpu")
    assert remade.forward == (learnt + PROMPT_TOKENS) * (4 * 8 + a_token) + 2 * 4 * learnt * 10


def test_rollouts_keep_the_keys_and_values_of_all_their_rows(base: Checkpoint) -> None:
    told = job_memory(wanted(), base, "cpu")
    rows, length, a_token = 2 * 3, PROMPT_TOKENS + 100, 2 * 1 * 4 * 4
    assert told.rollouts == rows * (length * a_token + 3 * 4 * 10)
    alone = {"kind": "hybrid", "mix": {"kind": "fixed", "rl": 0.0}}
    assert job_memory(wanted(method=alone), base, "cpu").rollouts == 0


def test_forward_and_rollouts_take_turns() -> None:
    told = JobMemory(2000 * MB, 1 * MB, 1 * MB, 2 * MB, 0, forward=300 * MB, rollouts=400 * MB)
    assert told.held == 2004 * MB
    assert told.total == 2404 * MB
    assert told.words() == (
        "2.4 GB at most: weights 2.0 GB, adapter 1.0 MB, gradients 1.0 MB, optimiser 2.0 MB, forward pass 300 MB, "
        "rollouts 400 MB, of the last two the larger"
    )


@pytest.mark.parametrize("products", ["float32", "bfloat16"])
def test_what_a_real_forward_keeps_is_told(products: str) -> None:
    """The difference between models of three layers and of one, without their heads and embeddings."""
    kept = {}
    told = {}
    for layers in (1, 3):
        config = LlamaConfig(
            hidden_size=256, intermediate_size=512, num_hidden_layers=layers, num_attention_heads=4,
            num_key_value_heads=2, vocab_size=64, max_position_embeddings=512,
        )  # fmt: skip
        network = LlamaForCausalLM(config).train()
        dtype = torch.float32 if products == "float32" else torch.bfloat16
        network.to(dtype)
        weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
        seen: dict[int, torch.Tensor] = {}

        def pack(tensor: torch.Tensor, weights: set = weights, seen: dict = seen) -> torch.Tensor:
            place = tensor.untyped_storage().data_ptr()
            if place not in weights:
                seen[place] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(input_ids=torch.zeros(2, 100, dtype=torch.long), use_cache=False)
        kept[layers] = sum(tensor.untyped_storage().nbytes() for tensor in seen.values())
        found = estimating._Decoder.of(config.to_dict())
        told[layers] = 200 * layers * found.kept(dtype.itemsize)
    assert told[3] - told[1] == pytest.approx(kept[3] - kept[1], rel=0.1 if products == "float32" else 0.15)


def test_a_job_that_cannot_fit_is_refused_in_one_sentence(base: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    config = wanted(tuning={"kind": "full"})
    monkeypatch.setattr(estimating, "total_bytes", lambda device: 312 * 16)
    refuse_if_too_large(config, base, "cpu")  # 4 for weights, 4 for gradients, 8 for averages
    monkeypatch.setattr(estimating, "total_bytes", lambda device: 312 * 16 - 1)
    with pytest.raises(ConfigError) as refused:
        refuse_if_too_large(config, base, "cpu")
    assert str(refused.value) == (
        "This job needs 5 kB for weights, gradients and optimiser alone, and the device has 5 kB. Choose tuning.kind "
        "lora or optimiser.states 8bit or a smaller base."
    )
    assert memory.total_bytes("cpu") > 10**8
