"""Our decoding loop against transformers' ``generate``: same weights, settings and number of tokens."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from evaluation.figures import Figure, Section, Target
from evaluation.speed_timing import SpeedOptions, in_turn, median_ratio
from wavalign.models.decoding import Row, decode
from wavalign.models.fast_llama import FastLlama
from wavalign.models.grammar import FreeGrammar
from wavalign.models.interleaved import InterleavedModel, finished
from wavalign.models.protocol import Sampling

BATCHES = (1, 16)
PROMPT_TOKENS = 64
NEW_TOKENS = 64
"""Both typical of a spoken turn and its reply."""
TARGET = Target(low=2.0)


def sampler(options: SpeedOptions) -> Section:
    """``ratio_batch1`` and ``ratio_batch16``, and how near the loop comes to what memory allows."""
    model = options.model()
    bandwidth = _memory_bandwidth()
    figures: list[Figure] = []
    for batch in BATCHES:
        figures += _compared(model, batch, options.turns, bandwidth)
    note = "the caches of the processor hold part of what the floor counts as read from memory"
    figures.append(Figure("memory_bandwidth", "memory read by one thread", bandwidth / 1e9, "GB/s", note=note))
    return Section("Sampling against transformers' generate", tuple(figures))


def _compared(model: InterleavedModel, batch: int, turns: int, bandwidth: float) -> list[Figure]:
    network, engine = model.base.network, model.base.engine
    default = model.default_sampling
    sampling = Sampling(
        temperature=default.temperature, top_p=default.top_p, top_k=default.top_k, max_tokens=NEW_TOKENS
    )
    prompts = prompts_of(model, batch)
    rows = [Row(prompt, sampling, stream=index) for index, prompt in enumerate(prompts)]
    grammar = FreeGrammar(model.tokens.vocabulary_size)
    ids = torch.tensor(prompts, device=engine.device)
    settings = {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
    }
    # No end of sequence: both sides make the same number of tokens.
    config = network.generation_config.__class__(**settings, max_new_tokens=NEW_TOKENS, pad_token_id=0)

    def ours() -> Any:
        return finished(decode(engine, grammar, rows))

    @torch.inference_mode()
    def theirs() -> Any:
        return network.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)

    network.generation_config.eos_token_id, before = None, network.generation_config.eos_token_id
    try:
        made = [len(completion.tokens) for completion in ours()], theirs().shape[1] - ids.shape[1]
        if made != ([NEW_TOKENS] * batch, NEW_TOKENS):
            raise RuntimeError(f"The two sides made different numbers of tokens: {made}.")
        seconds = in_turn({"generate": theirs, "ours": ours}, turns)
    finally:
        network.generation_config.eos_token_id = before
    rate = {name: batch * NEW_TOKENS / statistics.median(each) for name, each in seconds.items()}
    figures = [
        Figure(
            f"ratio_batch{batch}",
            f"tokens/s, ours over generate, batch {batch}",
            median_ratio(seconds["generate"], seconds["ours"]),
            n=turns,
            target=TARGET,
        ),
        Figure(f"ours_batch{batch}", f"ours, batch {batch}", rate["ours"], "tokens/s"),
        Figure(f"generate_batch{batch}", f"generate, batch {batch}", rate["generate"], "tokens/s"),
    ]
    if isinstance(engine, FastLlama):
        cache = 2 * 4 * network.config.num_hidden_layers * engine.kv_heads * engine.head_width
        read = engine.bytes_read + batch * cache * (PROMPT_TOKENS + NEW_TOKENS / 2)
        floor = batch * bandwidth / read
        label = f"what memory allows (weights and cache read once a step), batch {batch}"
        figures += [
            Figure(f"memory_floor_batch{batch}", label, floor, "tokens/s"),
            Figure(f"of_memory_floor_batch{batch}", f"ours of that, batch {batch}", rate["ours"] / floor, "%"),
        ]
    return figures


def prompts_of(model: InterleavedModel, batch: int) -> list[list[int]]:
    """Spoken turns of random codes, all of ``PROMPT_TOKENS``: their content does not matter to the time."""
    marks = model.tokens.prompt
    around = (
        [*marks["bos"], *marks["user"], *marks["audio_begin"]],
        [
            *marks["audio_end"],
            *marks["end_of_turn"],
            *marks["assistant"],
        ],
    )
    count = PROMPT_TOKENS - len(around[0]) - len(around[1])
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(model.tokens.description.speech_count, (batch, count), generator=generator)
    return [[*around[0], *model.tokens.speech_ids(row), *around[1]] for row in codes.tolist()]


def _memory_bandwidth() -> float:
    """Bytes a second that one thread reads, from a buffer larger than any cache: the best of a few passes."""
    buffer = torch.ones(64 * 2**20)
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        buffer.sum()
        best = min(best, time.perf_counter() - started)
    return buffer.numel() * buffer.element_size() / best
