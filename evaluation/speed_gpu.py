"""The embedded checkpoint and random-weight ones of real sizes on a GPU, against ``generate`` and TRL in the same run.

Utilisation (MFU) counts 2 N operations for a token that is sampled and 4 N for one that is learnt from: forward and the
gradient of activations, an adapter's own weights being next to nothing; N leaves the embedding out. It is a share of
what a large product of matrices reaches on the same device in the same dtype, measured here.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from evaluation.figures import Figure, Section
from evaluation.speed_gpu_layouts import of_layouts
from evaluation.speed_gpu_models import EMBEDDED, make_assets
from evaluation.speed_sampler import prompts_of
from evaluation.speed_timing import SpeedOptions, in_turn
from evaluation.speed_training import training
from wavalign.models.decoding import Row, decode
from wavalign.models.engine import Engine
from wavalign.models.grammar import FreeGrammar
from wavalign.models.hf_engine import HfEngine
from wavalign.models.interleaved import InterleavedModel, finished
from wavalign.models.protocol import Sampling
from wavalign.models.static_engine import StaticEngine

NO_GPU = "There is no GPU here. --device cpu --size tiny runs the same comparison on tiny models."
HIDDEN = "Models load onto the GPU that is here; to measure the CPU, set CUDA_VISIBLE_DEVICES to nothing."
_TINY_JOB = ("batch=1", "micro_batch=1", "rollouts.group_size=2", "rollouts.max_tokens=24")


def gpu(options: SpeedOptions) -> Section:
    """Of each checkpoint: tokens a second by every way to decode, a step against TRL's, utilisation, memory.

    Raises:
        RuntimeError: one sentence, when there is no such device.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(NO_GPU)
    if options.device == "cpu" and torch.cuda.is_available():
        raise RuntimeError(HIDDEN)
    cuda = options.device == "cuda"
    dtype = torch.bfloat16 if cuda else torch.float32
    tiny = options.size == "tiny"
    peak = _peak_operations(torch.device(options.device), dtype, 256 if tiny else 8192)
    figures = [Figure("peak", f"a large product in {dtype}".replace("torch.", ""), peak / 1e12, "Tflop/s")]
    with tempfile.TemporaryDirectory() as folder:
        assets = Path(folder) / "assets"
        names = make_assets(assets, options.assets, options.size, dtype)
        for name in [*names] if tiny else [EMBEDDED, *names]:
            figures += _of_one(replace(options, assets=assets, checkpoint=name), peak, tiny)
    size = (_TINY_JOB, (1, 2), 8) if tiny else ((), (1, 16, 64), 128)
    figures += of_layouts(options, peak, dtype, *size)
    device = torch.cuda.get_device_name() if cuda else "CPU"
    return Section(f"On {device}, weights in {dtype}".replace("torch.", ""), tuple(figures))


def _of_one(options: SpeedOptions, peak: float, tiny: bool) -> list[Figure]:
    name = options.checkpoint
    model = options.model()
    weights = [p for path, p in model.base.network.named_parameters() if "embed_tokens" not in path]
    count = sum(p.numel() for p in weights)
    figures = [Figure(f"{name}/parameters", f"{name}: parameters but the embedding", count / 1e6, "M")]
    for batch in (1, 2) if tiny else (1, 16, 64):
        rates = _rates(model, batch, options.turns, 8 if tiny else 128)
        for way, rate in rates.items():
            figures.append(Figure(f"{name}/{way}_batch{batch}", f"{name}: {way}, batch {batch}", rate, "tokens/s"))
        best = max(rate for way, rate in rates.items() if way != "generate")
        label = f"{name}: utilisation while sampling, batch {batch}"
        figures.append(Figure(f"{name}/sampling_mfu_batch{batch}", label, 2 * count * best / peak, "%"))
    del model, weights
    measured = training(options, _TINY_JOB if tiny else ()).figures
    value = {figure.id: figure.value for figure in measured}
    work = count * (4 * value["read_tokens"] + 2 * value["sampled_tokens"])
    share = work / value["ours_step"] / peak
    figures += [replace(each, id=f"{name}/{each.id}", label=f"{name}: {each.label}") for each in measured]
    figures.append(Figure(f"{name}/step_mfu", f"{name}: utilisation in our step", share, "%"))
    return figures


def _rates(model: InterleavedModel, batch: int, turns: int, tokens: int) -> dict[str, float]:
    """Tokens a second of transformers' generate, of the engine that replies use, and of the ways a host can choose."""
    base, default = model.base, model.default_sampling
    sampling = Sampling(default.temperature, top_p=default.top_p, top_k=default.top_k, max_tokens=tokens)
    prompts = prompts_of(model, batch)
    rows = [Row(prompt, sampling, stream=index) for index, prompt in enumerate(prompts)]
    grammar = FreeGrammar(model.tokens.vocabulary_size)
    engines: dict[str, Engine] = {"ours": base.engine, "plain": HfEngine(base.model, base.lock)}
    if StaticEngine.fits(base.model):
        engines["static"] = StaticEngine(base.model, base.lock)
        if base.engine.device.type == "cuda":
            engines["compiled"] = StaticEngine(base.model, base.lock, "inductor")
    ids = torch.tensor(prompts, device=base.engine.device)
    settings = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
    network = base.network
    config = network.generation_config.__class__(
        **settings, top_k=sampling.top_k, max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=0
    )

    @torch.inference_mode()
    def theirs() -> Any:
        return network.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config).cpu()

    def by(engine: Engine) -> Callable[[], Any]:
        return lambda: finished(decode(engine, grammar, rows))

    sides: dict[str, Callable[[], Any]] = {"generate": theirs}
    sides |= {way: by(engine) for way, engine in engines.items()}
    seconds = in_turn(sides, turns)
    return {way: batch * tokens / statistics.median(each) for way, each in seconds.items()}


def _peak_operations(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Operations a second of a product of two square matrices: the best of a few."""
    one = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(6):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        one @ one
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best
