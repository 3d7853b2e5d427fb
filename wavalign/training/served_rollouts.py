"""Replies drawn by a server, with the adapter that it was last given: faster, and a little off-policy.

Before a batch is drawn the first process pushes the adapter, where it is due, under a name of its own; so it is known
with which weights every reply was drawn. ``staleness`` is how many updates these are behind. The trainer corrects by
the importance ratio (``wavalign.training.objectives.truncated_importance``) of its own log-probabilities against those
that the replies were drawn with: the server's, or, where it gives none, the trainer's own under the adapter that was
pushed.

Only layouts whose prompts are tokens alone can be served so: words and sounds in one stream. A thinker-talker server
gives back text and a waveform; the tokens of its sound, and their log-probabilities, are not in any server's API.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavalign.models.protocol import Rollout, Sampling, TrainablePolicy
from wavalign.training.config import ConfigError
from wavalign.training.rollout_config import ServerConfig
from wavalign.training.served_client import Asked, Drawn, RolloutServer, ServedError
from wavalign.training.trainee import POLICY, Trainee
from wavalign.training.world import World

FOLDER = "served"
_ROWS_SCORED = 16
_FAILED = Rollout((), np.zeros(0, np.float32), False)


class RolloutError(RuntimeError):
    """Too few replies came, or too old ones; the message says what to do."""


@dataclass(frozen=True)
class _Version:
    """An adapter on the server: its name there, after how many updates, and its weights here."""

    name: str
    updates: int
    weights: list[torch.Tensor]


class Served:
    """A ``RolloutSource``. ``tell`` notes an event of the run.

    Raises:
        ConfigError: when the base's replies cannot come from a server.
    """

    def __init__(
        self,
        config: ServerConfig,
        name: str,
        folder: Path,
        trainee: Trainee,
        world: World,
        tell: Callable[..., None],
        policy: TrainablePolicy | None = None,
    ) -> None:
        if trainee.origin.layout != "interleaved":
            raise ConfigError(
                f"rollouts.source served is for layouts with words and sounds in one stream of tokens; "
                f"{trainee.base.name} is {trainee.origin.layout}, and no server gives the tokens of its sound."
            )
        if getattr(trainee.base, "heard", None) is not None:
            raise ConfigError(
                f"rollouts.source served: {trainee.base.name} hears through an encoder, and its prompts are more than "
                "tokens; sample locally."
            )
        key = os.environ.get(config.key_env) if config.key_env else None
        if config.key_env and not key:
            raise ConfigError(f"rollouts.server.key_env: there is no {config.key_env} in the environment.")
        self.config, self.name, self.trainee, self.world, self.tell = config, name, trainee, world, tell
        self.policy = policy or trainee.policy
        self.folder = config.adapters or folder / FOLDER
        self.server = RolloutServer(config, key)
        self.version: _Version | None = None
        self.updates = 0
        self._lost = False
        self._reason = ""
        self._asked = self._failed = 0

    def update(self, updates: int) -> None:
        """Tells how many updates the policy has had, and gives the server the adapter where that is due. All must ask.

        Raises:
            RolloutError: when the server takes none, and what it has is too old.
        """
        self.updates = updates
        lost = any(self.world.gather(self._lost))
        if self.version is None or lost or updates - self.version.updates >= self.config.push_every:
            self._push(lost)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        group_size: int,
        sampling: Sampling,
        first: int,
        text_only: bool,
        spoken: int | None,
    ) -> list[list[Rollout]]:
        """See ``RolloutSource``; all processes must ask.

        Raises:
            RolloutError: when too many replies of the whole batch did not come.
        """
        requests = [
            (place, asked)
            for place, prompt in enumerate(prompts)
            for asked in self._requests(prompt, group_size, sampling, first + place, text_only, spoken)
        ]
        with ThreadPoolExecutor(max_workers=self.config.at_once, thread_name_prefix="served") as pool:
            answers = list(pool.map(self._draw, (asked for _, asked in requests)))
        groups: list[list[Rollout]] = [[] for _ in prompts]
        for (place, _), drawn in zip(requests, answers, strict=True):
            groups[place] += drawn
        self._count(groups)
        return self._scored(prompts, groups)

    def metrics(self) -> dict[str, float]:
        """Of the last batch, over all processes."""
        assert self.version is not None
        everybody = self.world.gather((self._asked, self._failed, self.server.retries))
        asked, failed, retries = (sum(each[place] for each in everybody) for place in range(3))
        return {
            "rollouts/staleness": float(self.updates - self.version.updates),
            "rollouts/failed_frac": failed / max(asked, 1),
            "rollouts/retries": float(retries),
        }

    def close(self) -> None:
        """Takes the last adapter from the server; what cannot be taken stays there."""
        if self.version is not None and self.world.rank == 0:
            self._forget(self.version)
        self.server.close()

    def _requests(
        self,
        prompt: Sequence[int],
        group_size: int,
        sampling: Sampling,
        place: int,
        text_only: bool,
        spoken: int | None,
    ) -> list[Asked]:
        """Those that end with their text are asked for apart from those that are spoken to their end."""
        assert self.version is not None
        tokens = self.policy.tokens
        whole = 0 if text_only else group_size if spoken is None else spoken
        short_stop = [tokens.turn_end] if self.policy.text_end is None else [tokens.turn_end, self.policy.text_end]
        parts = [(whole, [tokens.turn_end]), (group_size - whole, short_stop)]
        return [
            Asked(
                self.version.name,
                prompt,
                count,
                sampling.temperature,
                sampling.top_p,
                min(sampling.max_tokens, self.trainee.base.context - len(prompt)),
                int(np.random.SeedSequence([sampling.seed, place, number]).generate_state(1)[0] >> 1),
                stop,
            )
            for number, (count, stop) in enumerate(parts)
            if count
        ]

    def _draw(self, asked: Asked) -> list[Rollout]:
        try:
            return [_rollout(drawn) for drawn in self.server.draw(asked)]
        except ServedError as error:
            # A server that was started anew no longer knows the adapter.
            self._lost = self._lost or error.status in (400, 404)
            self._reason = str(error)
            return [_FAILED] * asked.count

    def _count(self, groups: list[list[Rollout]]) -> None:
        self._asked = sum(map(len, groups))
        self._failed = sum(not rollout.tokens for group in groups for rollout in group)
        reason = self._reason if self._failed else ""
        everybody = self.world.gather((self._asked, self._failed, reason))
        asked, failed = (sum(each[place] for each in everybody) for place in range(2))
        said = next((each[2] for each in everybody if each[2]), "")
        if failed:
            self.tell("replies did not come", failed=failed, asked=asked, reason=said)
        if failed > self.config.max_failed_share * asked:
            raise RolloutError(
                f"{failed} of {asked} replies did not come: {said} Look at the server, then go on from the last "
                "checkpoint; or raise rollouts.server.max_failed_share."
            )

    def _scored(self, prompts: Sequence[Sequence[int]], groups: list[list[Rollout]]) -> list[list[Rollout]]:
        """With the trainer's log-probabilities under the adapter that drew, where the server's are not to be used."""
        own = self.config.logprobs == "trainer"
        missing = [
            (place, k)
            for place, group in enumerate(groups)
            for k, rollout in enumerate(group)
            if rollout.tokens and (own or np.isnan(rollout.logprobs).any())
        ]
        if not any(self.world.gather(bool(missing))):
            return groups
        assert self.version is not None
        result = [list(group) for group in groups]
        with self.trainee.at(self.version.weights), self.trainee.gathered(), torch.no_grad():
            for start in range(0, len(missing), _ROWS_SCORED):
                batch = missing[start : start + _ROWS_SCORED]
                rows = [groups[place][k] for place, k in batch]
                scores = self.policy.score(
                    [prompts[place] for place, _ in batch], [row.tokens for row in rows], checkpoint=POLICY
                )
                for (place, k), row, logprobs in zip(batch, rows, scores.logprobs.cpu().numpy(), strict=True):
                    ours = logprobs[: len(row.tokens)].astype(np.float32)
                    kept = ours if own else np.where(np.isnan(row.logprobs), ours, row.logprobs)
                    result[place][k] = Rollout(row.tokens, kept, row.finished)
        return result

    def _push(self, lost: bool) -> None:
        before = self.version
        state = self.trainee.state(self.world.rank == 0)
        problem = self._give(state) if self.world.rank == 0 else None
        problem = self.world.gather(problem)[0]
        if problem is None:
            self.version = _Version(self._name(), self.updates, self.trainee.snapshot())
            self._lost = False
            return
        self.tell("adapter not pushed", updates=self.updates, reason=problem)
        if before is None:
            raise RolloutError(f"The server did not take the first adapter: {problem}")
        behind = self.updates - before.updates
        if behind > self.config.max_staleness or lost:
            why = "has lost its adapter" if lost else f"is {behind} updates behind"
            raise RolloutError(f"The server {why} and takes no newer one: {problem}")

    def _give(self, state: dict[str, torch.Tensor] | None) -> str | None:
        """The reason, where the server does not take the adapter."""
        name = self._name()
        place = self.folder / name
        try:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            self.trainee.save_state(place, state)
            there = place.resolve() if self.config.adapters_there is None else f"{self.config.adapters_there}/{name}"
            self.server.load(name, str(there))
        except (ServedError, OSError) as error:
            shutil.rmtree(place, ignore_errors=True)
            return str(error)
        if self.version is not None and self.version.name != name:
            self._forget(self.version)
        return None

    def _forget(self, version: _Version) -> None:
        try:
            self.server.unload(version.name)
        except ServedError as error:
            self.tell("adapter not unloaded", name=version.name, reason=str(error))
        shutil.rmtree(self.folder / version.name, ignore_errors=True)

    def _name(self) -> str:
        return f"{self.name}-{self.updates}"


def _rollout(drawn: Drawn) -> Rollout:
    known: Any = [np.nan] * len(drawn.tokens) if drawn.logprobs is None else drawn.logprobs
    return Rollout(tuple(drawn.tokens), np.array(known, np.float32), drawn.finished)
