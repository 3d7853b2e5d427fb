"""A model that hears the reply and rates it: as a whole, its content only, or its sound only.

The reply is judged as it sounds: the judge gets the decoded audio at its own sample rate, and never the text channel,
so that a reply whose speech does not say its text earns what is heard.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from wavalign.audio import Waveform
from wavalign.rewards import judge_prompts
from wavalign.rewards.config import RewardConfig
from wavalign.rewards.judge_client import JudgeClient
from wavalign.rewards.judgement_cache import JudgementCache
from wavalign.rewards.protocol import LOWEST, Answer, Judged, RewardError
from wavalign.rewards.registry import RewardContext

log = logging.getLogger(__name__)


class Judge:
    """Scores through ``client`` with one of ``judge_prompts``, ``config.concurrency`` at a time.

    A reply without sound is 1 and is not asked about; equal replies to one request are asked about once.
    """

    needs_audio = True

    def __init__(self, name: str, aspect: str, channel: Judged, client: JudgeClient, cache: JudgementCache) -> None:
        self.name = name
        self.aspect = aspect
        self.channel = channel
        self.client = client
        self.cache = cache

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        """Raises:
        RewardError: when an example does not say what was asked, or the endpoint can judge nothing.
        """
        judgeable = [answer for answer in answers if answer.waveform is not None and len(answer.waveform.samples)]
        for answer in judgeable:
            if self._question(answer) is None:
                raise RewardError(
                    f'The reward "{self.name}" needs to know what was asked: example {answer.example.id} has neither '
                    "question_text nor a typed or recorded question."
                )
        keys = {id(answer): self._key(answer) for answer in judgeable}
        once = {key: answer for answer in judgeable for key in [keys[id(answer)]]}
        scores: dict[str, float | None] = {}
        with ThreadPoolExecutor(self.client.config.concurrency, thread_name_prefix=self.name) as pool:
            pending = {key: pool.submit(self._score, key, answer) for key, answer in once.items()}
            try:
                scores = {key: future.result() for key, future in pending.items()}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [scores[keys[id(answer)]] if id(answer) in keys else LOWEST for answer in answers]

    def _key(self, answer: Answer) -> str:
        request, recordings = self._material(answer)
        config = self.client.config
        return self.cache.key(
            judge_prompts.VERSION,
            config.url,
            config.model,
            f"{config.temperature}",
            judge_prompts.PROMPTS[self.aspect],
            request,
            *(part for recording in recordings for part in recording),
        )

    def _score(self, key: str, answer: Answer) -> float | None:
        remembered = self.cache.get(key)
        if remembered is not None:
            return remembered
        request, recordings = self._material(answer)
        judgement = self.client.ask(judge_prompts.PROMPTS[self.aspect], request, recordings)
        if judgement.score is None:
            log.warning("%s failed for example %s: %s", self.name, answer.example.id, judgement.reason)
            return None
        about = {"aspect": self.aspect, "model": self.client.config.model, "words": judgement.words}
        self.cache.put(key, judgement.score, **about)
        return judgement.score

    def _question(self, answer: Answer) -> str | Waveform | None:
        turn = answer.example.prompt.turns[-1]
        return answer.example.question_text or turn.text or turn.speech

    def _material(self, answer: Answer) -> tuple[str, list[tuple[str, bytes]]]:
        question = self._question(answer)
        spoken = answer.example.prompt.turns[-1].speech
        heard = spoken is not None and (self.client.config.hear_question or isinstance(question, Waveform))
        words = question if isinstance(question, str) else "(only as a recording)"
        request = f"{_history(answer)}What the user asked:\n<request>\n{words}\n</request>"
        recordings = [("The user's recording:", spoken.to_wav_bytes())] if heard else []
        return request, [*recordings, ("The reply to rate:", answer.waveform.to_wav_bytes())]


def _history(answer: Answer) -> str:
    """The turns before in words: "and Spain?" means nothing without them."""
    before = answer.example.prompt.turns[:-1]
    if not before:
        return ""
    lines = "\n".join(f"{turn.role}: {turn.text or '(a recording)'}" for turn in before)
    return f"Earlier in the conversation:\n<history>\n{lines}\n</history>\n\n"


def holistic(config: RewardConfig, context: RewardContext) -> Judge:
    """Content and delivery together, as one user would rate them."""
    return _judge("judge", "holistic", "both", config, context)


def semantic(config: RewardConfig, context: RewardContext) -> Judge:
    """The words alone."""
    return _judge("judge_semantic", "semantic", "text", config, context)


def acoustic(config: RewardConfig, context: RewardContext) -> Judge:
    """The sound alone."""
    return _judge("judge_acoustic", "acoustic", "speech", config, context)


def _judge(name: str, aspect: str, channel: Judged, config: RewardConfig, context: RewardContext) -> Judge:
    if config.judge is None:
        raise RewardError(f'The reward "{name}" needs rewards.judge: its url and model.')
    return Judge(name, aspect, channel, JudgeClient(config.judge, context.stop), JudgementCache(config.cache))
