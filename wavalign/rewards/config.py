"""Which rewards a run uses, with which weights, as one typed block of its config."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wavalign.rewards.registry import REWARDS

JUDGES = ("judge", "judge_semantic", "judge_acoustic")


class JudgeConfig(BaseModel):
    """An OpenAI-compatible chat endpoint whose model hears audio. The key comes from the environment only."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    url: str = Field(description="the API's root, such as https://host/v1; /chat/completions is added")
    model: str = Field(description="the model's name at that endpoint")
    api_key_env: str = Field(
        "WAVALIGN_JUDGE_API_KEY", description="the environment variable that holds the key; unset sends none"
    )
    temperature: float = Field(0.0, ge=0, le=2)
    max_tokens: int = Field(512, ge=16, description="of the judgement; a cut judgement is a failure")
    hear_question: bool = Field(
        False, description="send the user's recording too, where there is one, instead of its words alone"
    )
    concurrency: int = Field(8, ge=1, le=256, description="requests under way at once")
    timeout_s: float = Field(60.0, gt=0, description="seconds that one request may take")
    attempts: int = Field(4, ge=1, le=20, description="requests for one judgement before it counts as failed")
    backoff_s: float = Field(1.0, ge=0, description="seconds before the second request; doubled for each further one")
    longest_wait_s: float = Field(60.0, ge=0, description="no wait is longer, whatever the server asks for")

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"rewards.judge.url must start with http:// or https://, got {url!r}.")
        return url.rstrip("/")


class PreferenceConfig(BaseModel):
    """A reward model that python -m wavalign.rewards.train_preference made from votes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    path: Path = Field(description="its folder, or its name among the reward-models of the home folder")


class FlakyConfig(BaseModel):
    """Rewards that lose their judgement in every other phase of a run: what a recipe learns from such a judge."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    period: int = Field(
        ge=1,
        description="for studies: after so many updates every reward begins to guess, after as many more it is true "
        "again, and so on; empty for rewards that never guess",
    )
    share: float = Field(1.0, gt=0, le=1, description="of the scores that are guesses, 1 to 5, while a reward guesses")


class RewardConfig(BaseModel):
    """The reward of a reply is the weighted mean of these parts, each from 1 to 5."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weights: dict[str, float] = Field(
        default={"rule": 1.0},
        description="reward -> weight; a part of weight 0 is measured and logged but does not count",
    )
    judge: JudgeConfig | None = Field(None, description="needed when a judge has a weight")
    preference: PreferenceConfig | None = Field(None, description="needed when preference has a weight")
    flaky: FlakyConfig | None = Field(None, description="for studies: every reward guesses in bad phases")
    letter_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="intelligibility: how much of its error rate is of letters as heard, the rest is of words; "
        "letters tell apart replies that are all understood",
    )
    cache: Path | None = Field(None, description="folder of judgements already paid for; None remembers none")
    max_failed_share: float = Field(
        0.5, gt=0, le=1, description="the run stops when more of a reward's recent scores than this have failed"
    )
    failure_window: int = Field(200, ge=1, description="how many of a reward's latest scores are recent")

    @model_validator(mode="after")
    def _usable(self) -> RewardConfig:
        for name, weight in self.weights.items():
            if name not in REWARDS:
                raise ValueError(f'There is no reward "{name}"; the rewards are: {", ".join(REWARDS)}.')
            if not 0 <= weight < float("inf"):
                raise ValueError(f"The weight of the reward {name} must be 0 or more, got {weight}.")
        if not any(self.weights.values()):
            raise ValueError("rewards.weights needs at least one reward with a weight above 0.")
        if self.judge is None and any(name in JUDGES for name in self.weights):
            raise ValueError("rewards.judge is missing: a judge needs its url and model.")
        if self.preference is None and "preference" in self.weights:
            raise ValueError("rewards.preference is missing: it needs the path of a reward model trained on votes.")
        return self
