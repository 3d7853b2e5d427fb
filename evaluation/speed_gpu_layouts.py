"""Thinker-talker and parallel checkpoints: what they sample and a step of theirs, beside what others can do with them.

``generate`` of transformers writes the words of a thinker, and the frames of Moshi; its way to speak a thinker's words
takes one reply and always makes the sound too, so codes have nothing to stand beside. TRL trains neither: its models
have one head. Where there is nothing to compare with, the figure says so.
"""

from __future__ import annotations

import statistics
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evaluation import speed_gpu_moshi, speed_gpu_omni
from evaluation.figures import Figure
from evaluation.speed_gpu_rows import rows_of_codes
from evaluation.speed_gpu_step import UNSUPPORTED, step_of
from evaluation.speed_timing import SpeedOptions, in_turn, median_ratio
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.protocol import Sampling
from wavalign.models.registry import Registry
from wavalign.training.channels import SPEECH

_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
Side = Callable[[], int]
"""Makes something and says how many units of it there were."""


class Layout(ABC):
    """What is measured of one layout. ``unit`` -> the sides that make it: "ours", and "generate" where it can."""

    books = 1

    def __init__(self, model: Any, folder: Path) -> None:
        self.model = model
        self.folder = folder

    @abstractmethod
    def sides(self, batch: int, tokens: int) -> dict[str, dict[str, Side]]: ...

    @abstractmethod
    def operations(self, unit: str) -> float:
        """Of one unit, forward: 2 for each weight that it goes through."""

    @abstractmethod
    def step_operations(self, prompt: int, words: int, codes: int) -> float:
        """Of reading a prompt of so many ids and a completion behind it, forward; what is no code is a word."""

    @property
    @abstractmethod
    def codes(self) -> int:
        """Codes of one book."""

    def _sampling(self, tokens: int, seconds: float = 1e4) -> Sampling:
        default = self.model.default_sampling
        return Sampling(
            default.temperature,
            top_k=default.top_k,
            speech_temperature=default.speech_temperature,
            max_tokens=tokens,
            max_seconds=seconds,
            seed=0,
        )


class Omni(Layout):
    """Words by the thinker, codes of given words by the talker."""

    def sides(self, batch: int, tokens: int) -> dict[str, dict[str, Side]]:
        model, thinker = self.model, self.model.base.full.thinker
        prompts = _prompts(model, batch)
        sampling = self._sampling(tokens)
        ids = torch.tensor(prompts, device=thinker.device)
        config = _settings(thinker, sampling)

        def write() -> int:
            return sum(len(made.tokens) for (made,) in model.sample_groups(prompts, 1, sampling, text_only=True))

        @torch.inference_mode()
        def theirs() -> int:
            made = thinker.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
            return int((made.shape[1] - ids.shape[1]) * batch)

        text = " ".join(_WORDS)
        spoken = self._sampling(tokens + len(model.base.prompter.text_ids(text)) + 1)

        def speak() -> int:
            return sum(_codes(model, made.tokens) for made in model.say(prompts, [text] * batch, spoken))

        return {"words": {"ours": write, "generate": theirs}, "codes": {"ours": speak}}

    def operations(self, unit: str) -> float:
        network = self.model.network
        if unit == "codes":
            return 2.0 * _weights(network.talker)
        return 2.0 * (_weights(network.language_model) + _weights(network.thinker.lm_head))

    def step_operations(self, prompt: int, words: int, codes: int) -> float:
        return self.operations("words") * (prompt + words) + self.operations("codes") * codes

    @property
    def codes(self) -> int:
        return self.model.tokens.codes


class Moshi(Layout):
    """Frames: a text token and a code of each book."""

    @property
    def books(self) -> int:
        return self.model.base.ids.books

    @property
    def codes(self) -> int:
        return self.model.base.ids.codes

    def sides(self, batch: int, tokens: int) -> dict[str, dict[str, Side]]:
        from transformers import MoshiForConditionalGeneration

        model, base = self.model, self.model.base
        prompts = _prompts(model, batch)
        # The first column is a text token and one code.
        sampling = self._sampling(2 + (tokens - 1) * base.ids.column_width)
        kind = base.network.decoder.lm_head.weight
        # Ours takes the depth transformer's layers apart; theirs needs them whole.
        other = MoshiForConditionalGeneration.from_pretrained(str(self.folder), dtype=kind.dtype).to(kind.device).eval()
        frames = [base.ids.frames(prompt) for prompt in prompts]

        def rows(codes: Sequence[np.ndarray]) -> torch.Tensor:
            return torch.from_numpy(np.stack(codes)).to(kind.device)

        inputs = {
            "input_ids": rows([each.text for each in frames]),
            "user_audio_codes": rows([each.user.T for each in frames]),
            "moshi_audio_codes": rows([each.own.T for each in frames]),
            "return_audio_waveforms": False,
        }
        config = _settings(other, sampling, tokens)

        def ours() -> int:
            made = model.sample_groups(prompts, 1, sampling)
            return sum(len(each.tokens) - _codes(model, each.tokens) for (each,) in made)

        @torch.inference_mode()
        def theirs() -> int:
            made = other.generate(**inputs, generation_config=config)
            return int((made.shape[1] - len(frames[0]) - 1) * batch)

        return {"frames": {"ours": ours, "generate": theirs}}

    def operations(self, unit: str) -> float:
        network = self.model.network
        return 2.0 * (_weights(network.decoder) + _weights(network.depth_decoder))

    def step_operations(self, prompt: int, words: int, codes: int) -> float:
        network, width = self.model.network, self.model.base.ids.prompt_width
        backbone = 2.0 * _weights(network.decoder) * (prompt / width + words)
        return backbone + 2.0 * _weights(network.depth_decoder) * codes / self.books


LAYOUTS: Mapping[str, tuple[Any, type[Layout]]] = {
    "thinker-talker": (speed_gpu_omni, Omni),
    "parallel streams": (speed_gpu_moshi, Moshi),
}
"""Layout -> the module that makes its random checkpoints (``SHAPES`` and ``make``), and how it is measured."""


def of_layouts(
    options: SpeedOptions, peak: float, dtype: torch.dtype, changes: Sequence[str], batches: Sequence[int], tokens: int
) -> list[Figure]:
    """Figures of a random checkpoint of each layout, of the size that ``options`` names.

    ``peak``: operations a second that the device reaches. ``changes``: fields of the job. ``tokens``: units to a reply.
    """
    figures: list[Figure] = []
    for make, kind in LAYOUTS.values():
        for name, shape in make.SHAPES[options.size].items():
            with tempfile.TemporaryDirectory() as folder:
                assets = Path(folder) / "assets"
                (assets / name).mkdir(parents=True)
                make.make(assets / name, shape, dtype)
                figures += _of_one(name, kind, assets, options, peak, (changes, batches, tokens))
    return figures


def _of_one(
    name: str, kind: type[Layout], assets: Path, options: SpeedOptions, peak: float, size: tuple
) -> list[Figure]:
    changes, batches, tokens = size
    layout = kind(Registry(assets).load([name]), assets / name)
    figures = [Figure(f"{name}/parameters", f"{name}: parameters", _all(layout.model.base.full) / 1e6, "M")]
    for batch in batches:
        for unit, sides in layout.sides(batch, tokens).items():
            rates = _rates(f"{name}/{unit}", f"{name}: {unit}", batch, sides, options.turns, unit)
            ours = rates[1].value or 0.0
            label = f"{name}: utilisation while sampling {unit}, batch {batch}"
            share = layout.operations(unit) * ours / peak
            figures += [*rates, Figure(f"{name}/sampling_{unit}_mfu_batch{batch}", label, share, "%")]
    path = rows_of_codes(assets.parent / "rows", layout.books, layout.codes, tokens)
    del layout
    return figures + step_of(
        name, lambda policy: kind(policy, assets / name), assets, path, options.turns, peak, changes
    )


def _rates(id: str, label: str, batch: int, sides: dict[str, Side], turns: int, unit: str) -> list[Figure]:
    """What generate makes a second, what ours does, and the ratio of the two, in this order."""
    made: dict[str, list[int]] = {side: [] for side in sides}

    def counted(side: str, act: Side) -> Callable[[], object]:
        return lambda: made[side].append(act())

    seconds = in_turn({side: counted(side, act) for side, act in sides.items()}, turns)
    each = {side: [s / max(1, n) for s, n in zip(seconds[side], made[side][1:], strict=True)] for side in sides}
    rate = {side: 1 / statistics.median(times) for side, times in each.items()}
    theirs = rate.get("generate")
    ratio = median_ratio(each["generate"], each["ours"]) if theirs else None
    of, at, n = f"{unit}/s", f"batch {batch}", turns if theirs else None
    return [
        Figure(f"{id}_generate_batch{batch}", f"{label}, generate, {at}", theirs, of, lacking=UNSUPPORTED),
        Figure(f"{id}_ours_batch{batch}", f"{label}, ours, {at}", rate["ours"], of),
        Figure(f"{id}_ratio_batch{batch}", f"{label}, ours over generate, {at}", ratio, n=n, lacking=UNSUPPORTED),
    ]


def _prompts(model: Any, batch: int) -> list[list[int]]:
    """Typed turns of one length, each unlike the one before: of equal neighbours ours would read one."""
    prompts = []
    for row in range(batch):
        turned = row % len(_WORDS)
        text = " ".join(("what is", *_WORDS[turned:], *_WORDS[:turned]))
        prompts.append(model.encode_prompt(Dialogue((Turn("user", text=text),))))
    return prompts


def _codes(model: Any, tokens: Sequence[int]) -> int:
    """Speech tokens of a completion."""
    return int((np.asarray(model.channel_of(tokens)) == SPEECH).sum())


def _settings(network: Any, sampling: Sampling, tokens: int | None = None) -> Any:
    count = sampling.max_tokens if tokens is None else tokens
    kind = network.generation_config.__class__
    sampled = {"do_sample": True, "temperature": sampling.temperature, "top_k": sampling.top_k}
    return kind(**sampled, max_new_tokens=count, min_new_tokens=count, pad_token_id=0)


def _weights(module: nn.Module) -> int:
    """Parameters that a product takes part in: all but the tables of embeddings."""
    tables = {id(p) for part in module.modules() if isinstance(part, nn.Embedding) for p in part.parameters()}
    return sum(p.numel() for p in module.parameters() if id(p) not in tables)


def _all(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
