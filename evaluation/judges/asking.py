"""A judge for evaluation: one model, one rubric, and with every score the model and the hash of the prompt.

The requests, waits and retries are those of the judge rewards (``wavalign.rewards.judge_client``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from evaluation.judges.rubrics import Rubric
from evaluation.tasks.protocol import TaskContext, TaskError
from wavalign.rewards.judge_client import JudgeClient
from wavalign.rewards.judgement_cache import JudgementCache
from wavalign.rewards.protocol import RewardError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """What is asked about one reply: the fields of the rubric's request, and recordings (what each is, its wav bytes).

    ``empty`` is a reply without words (or without sound, for a judge that listens): it earns the lowest score unasked.
    """

    fields: Mapping[str, str]
    recordings: tuple[tuple[str, bytes], ...] = ()
    empty: bool = False


@dataclass(frozen=True)
class Verdict:
    """``score`` on the rubric's scale, or None with the ``reason``. ``about`` is kept with the score."""

    score: float | None
    reason: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)


class TaskJudge:
    """Asks ``context.judge`` under one rubric, its ``concurrency`` at a time; equal questions are asked once."""

    def __init__(self, rubric: Rubric, context: TaskContext, task: str) -> None:
        """Raises:
        TaskError: when no judge is given, or its key cannot be one.
        """
        if context.judge is None:
            raise TaskError(
                f'The task "{task}" is scored by a judge, and none was given: name an OpenAI-compatible endpoint and '
                "a model."
            )
        self.rubric = rubric
        self.config = context.judge
        try:
            self._client = JudgeClient(context.judge, context.stop)
        except RewardError as error:
            raise TaskError(_said(error)) from error
        self._cache = JudgementCache(context.cache)

    def provenance(self) -> dict[str, Any]:
        return {
            "judge": self.config.model,
            "judge_url": self.config.url,
            "temperature": self.config.temperature,
            "prompt": self.rubric.name,
            "prompt_hash": self.rubric.hash,
        }

    def verdicts(self, questions: Sequence[Question]) -> list[Verdict]:
        """One for each question, in order.

        Raises:
            TaskError: when the endpoint can judge nothing as it is configured.
        """
        keys = [None if question.empty else self._key(question) for question in questions]
        once = {key: question for key, question in zip(keys, questions, strict=True) if key is not None}
        with ThreadPoolExecutor(self.config.concurrency, thread_name_prefix=self.rubric.name) as pool:
            pending = {key: pool.submit(self._verdict, key, question) for key, question in once.items()}
            try:
                found = {key: future.result() for key, future in pending.items()}
            except RewardError as error:
                pool.shutdown(wait=False, cancel_futures=True)
                raise TaskError(_said(error)) from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [self._of_nothing() if key is None else found[key] for key in keys]

    def _key(self, question: Question) -> str:
        return self._cache.key(
            "evaluation",
            self.config.url,
            self.config.model,
            f"{self.config.temperature}",
            self.rubric.system,
            self.rubric.request.format(**question.fields),
            *(part for recording in question.recordings for part in recording),
        )

    def _verdict(self, key: str, question: Question) -> Verdict:
        remembered = self._cache.entry(key)
        if remembered is not None:
            score = self.rubric.parse(f"<score>{remembered.get('score')}</score>")
            if score is not None:
                return Verdict(score, about={**self.provenance(), "words": str(remembered.get("words", ""))})
        request = self.rubric.request.format(**question.fields)
        judgement = self._client.ask(self.rubric.system, request, list(question.recordings), self.rubric.parse)
        about = {**self.provenance(), "words": judgement.words}
        if judgement.score is None:
            log.warning("the judge failed under %s: %s", self.rubric.name, judgement.reason)
            return Verdict(None, judgement.reason, about)
        self._cache.put(key, judgement.score, **about)
        return Verdict(judgement.score, about=about)

    def _of_nothing(self) -> Verdict:
        return Verdict(float(self.rubric.lowest), about={**self.provenance(), "words": "(not asked: an empty reply)"})


def _said(error: RewardError) -> str:
    """The client speaks of a run's config; here there is only a judge."""
    return str(error).replace("rewards.judge.", "the judge's ")
