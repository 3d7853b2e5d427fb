"""The decoding loop, for replies and for rollouts: many rows in one batch, each as it would be alone.

Every row has its own prompt, settings, seed, adapter and end. Which tokens may follow comes from a grammar (the
layout's state machine); the network is an ``Engine``. Rows that have ended are removed as soon as that pays.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from wavalign.models.engine import ChannelSession, Engine
from wavalign.models.grammar import FreeGrammar, Grammar, TokenClass
from wavalign.models.protocol import Sampling
from wavalign.models.sampler import Sampler

_SHRINK_AT = 0.75


@dataclass(frozen=True)
class Row:
    """One completion to make. ``stream`` tells apart rows that share a seed; ``speech_limit`` is in tokens.

    ``text_only``: the row is finished as soon as no word can follow any more.
    """

    prompt: Sequence[int]
    sampling: Sampling
    adapter: str | None = None
    stream: int = 0
    speech_limit: int | None = None
    text_only: bool = False


@dataclass
class Completion:
    """What a row became. ``logprobs`` are of each token under the model: temperature 1, nothing masked, in nats."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False


@dataclass(frozen=True)
class Step:
    """The tokens of one step: ``tokens[i]`` was added to row ``rows[i]``.

    ``ended``: rows that get no more tokens, and whether they are finished.
    """

    rows: list[int]
    tokens: list[int]
    ended: tuple[tuple[int, bool], ...] = ()


def decode(
    engine: Engine,
    grammar: Grammar | FreeGrammar,
    rows: Sequence[Row],
    *,
    logprobs: bool = False,
    stop: threading.Event | None = None,
) -> Generator[Step, None, list[Completion]]:
    """Decodes all rows together, yielding each step; returns the completions in the order of ``rows``.

    Rows that follow one another with the same prompt (the same object, or equal) and adapter are read once. A set
    ``stop``, or closing the generator, ends it before the next step and frees the caches.
    """
    if not rows:
        return []
    completions = [Completion() for _ in rows]
    order = sorted(range(len(rows)), key=lambda index: (rows[index].adapter or "", index))
    prompts, adapters, copies = _shared_prompts([rows[index] for index in order])
    room = max(row.sampling.max_tokens for row in rows)
    session, logits = engine.start(prompts, adapters, copies, room)
    by_channel = session if isinstance(session, ChannelSession) and session.split else None

    active = np.array(order)
    samplings = [rows[index].sampling for index in order]
    sampler = Sampler(grammar, samplings, [rows[index].stream for index in order], engine.device)
    states = np.full(len(rows), grammar.start, dtype=np.int64)
    spoken = np.zeros(len(rows), dtype=np.int64)
    limits = [rows[index].speech_limit for index in order]
    speech_limit = np.array([np.iinfo(np.int64).max if limit is None else limit for limit in limits])
    token_limit = np.array([sampling.max_tokens for sampling in samplings])
    history = np.zeros((len(rows), room), dtype=np.int64)
    text_only = np.array([rows[index].text_only for index in order])

    for step in range(room):
        if stop is not None and stop.is_set():
            break
        drawn = sampler.draw(logits, grammar.mask_of[states], step, history[:, :step])
        tokens = drawn.cpu().numpy()
        if logprobs:
            chosen = logits.gather(-1, drawn[:, None])[:, 0] - logits.logsumexp(-1)
            chosen_list = chosen.tolist()
        alive = states != grammar.done
        before = states
        states = grammar.advance(states, tokens)
        history[:, step] = tokens
        token_list, row_list = tokens.tolist(), active.tolist()
        emitted = [i for i in range(len(token_list)) if alive[i]]
        for i in emitted:
            completion = completions[row_list[i]]
            completion.tokens.append(token_list[i])
            if logprobs:
                completion.logprobs.append(chosen_list[i])
        ended = (states == grammar.done) | (text_only & grammar.text_over[states])
        for i in np.flatnonzero(ended & (before != grammar.done)):
            completions[row_list[i]].finished = True
        spoken += grammar.class_of[tokens] == TokenClass.SPEECH
        ended |= (spoken >= speech_limit) | (step + 1 >= token_limit)
        states[ended] = grammar.done
        over = [row_list[i] for i in np.flatnonzero(ended & (before != grammar.done))]
        yield Step(
            [row_list[i] for i in emitted],
            [token_list[i] for i in emitted],
            tuple((row, completions[row].finished) for row in over),
        )

        left = len(ended) - int(ended.sum())
        if left == 0 or step + 1 == room:
            break
        if left <= _SHRINK_AT * len(ended):
            kept = np.flatnonzero(~ended)
            index = torch.from_numpy(kept).to(engine.device)
            session.keep(index)
            sampler.keep(kept)
            drawn = drawn[index]
            active, states, spoken, history = active[kept], states[kept], spoken[kept], history[kept]
            speech_limit, token_limit, text_only = speech_limit[kept], token_limit[kept], text_only[kept]
        if stop is not None and stop.is_set():
            break
        if by_channel is not None:
            by_channel.predict_speech(grammar.speech_only[states])
        logits = session.step(drawn)
    return completions


def _shared_prompts(rows: Sequence[Row]) -> tuple[list[Sequence[int]], list[str | None], int]:
    """Prompts to read, their adapters, and how many rows of each: more than one only if it is the same for all."""
    groups: list[list[Row]] = []
    for row in rows:
        first = groups[-1][0] if groups else None
        if first and first.adapter == row.adapter and (first.prompt is row.prompt or first.prompt == row.prompt):
            groups[-1].append(row)
        else:
            groups.append([row])
    copies = {len(group) for group in groups}
    if len(copies) > 1:
        groups = [[row] for row in rows]
    return [group[0].prompt for group in groups], [group[0].adapter for group in groups], len(groups[0])
