"""From shipped dialogues to prompts, and from sampled completions to replies that can be judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evaluation.closedtalk_bench import Bench
from wavalign.audio import Waveform
from wavalign.closedtalk.dataset import DialogueRow, TurnRow
from wavalign.closedtalk.deliveries import Delivery, Tone
from wavalign.closedtalk.grading import grade, is_correct
from wavalign.closedtalk.world import Item, item_of
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.protocol import Rollout, Sampling

ROWS_AT_ONCE = 32
Asking = Literal["in words", "by the user's tone", "not at all"]


@dataclass(frozen=True)
class Prompt:
    """A turn to be answered: the turns before it were answered as demonstrated."""

    dialogue: DialogueRow
    turn: TurnRow
    before: tuple[TurnRow, ...]

    @property
    def id(self) -> str:
        return f"{self.dialogue.split}/{self.dialogue.index}"

    @property
    def item(self) -> Item:
        return item_of(self.turn.item)

    @property
    def delivery(self) -> Delivery:
        """The fitting one."""
        return Delivery(self.turn.delivery)

    @property
    def asking(self) -> Asking:
        """How the delivery is asked for."""
        if self.turn.requested is not None:
            return "in words"
        return "not at all" if self.turn.tone == Tone.PLAIN else "by the user's tone"


@dataclass(frozen=True)
class SpokenReply:
    """One sampled reply to a prompt. ``waveform`` is None where only the text was needed."""

    prompt: Prompt
    text: str
    finished: bool
    waveform: Waveform | None = None

    @property
    def grade(self) -> int:
        """1 to 5."""
        return grade(self.text, self.prompt.item)

    @property
    def correct(self) -> bool:
        return is_correct(self.text, self.prompt.item)


def prompt_of(dialogue: DialogueRow) -> Prompt:
    """The last turn whose history is right.

    A demonstration may be wrong on purpose. "Say it again in a sad voice" after a wrong one asks for the mistake, and
    "and Spain?" after one invites another, so such turns are not asked.
    """
    turns = dialogue.turns
    wrong = [i for i, turn in enumerate(turns) if not is_correct(turn.demonstration, item_of(turn.item))]
    last = min(wrong[0], len(turns) - 1) if wrong else len(turns) - 1
    return Prompt(dialogue, turns[last], turns[:last])


def dialogue_of(bench: Bench, prompt: Prompt) -> Dialogue:
    """The turns as the model takes them: the user's speech as tokens, the replies before as demonstrated."""
    turns: list[Turn] = []
    for turn in prompt.before:
        reply = tuple(bench.model.encode_target(turn.demonstration, turn.reply_codes))
        turns += [_user(bench, turn), Turn("assistant", text=turn.demonstration, tokens=reply)]
    return Dialogue((*turns, _user(bench, prompt.turn)))


def _user(bench: Bench, turn: TurnRow) -> Turn:
    if not turn.user_codes:
        return Turn("user", text=turn.text)
    return Turn("user", tokens=tuple(bench.model.tokens.speech_ids(turn.user_codes)))


def sampled_replies(
    bench: Bench, prompts: Sequence[Prompt], samples: int, sampling: Sampling, speech: bool, what: str
) -> Iterator[list[SpokenReply]]:
    """``samples`` replies to each prompt, in the prompts' order; the seed of a prompt is its place's."""
    at_once = max(1, ROWS_AT_ONCE // samples)
    batches = range(0, len(prompts), at_once)
    for start in bench.progress(batches, what):
        batch = prompts[start : start + at_once]
        # The seed must move with the batch: rows of a batch are told apart by their number within it only.
        drawn = replace(sampling, seed=sampling.seed + start)
        ids = [bench.model.encode_prompt(dialogue_of(bench, prompt)) for prompt in batch]
        groups = bench.model.sample_groups(ids, samples, drawn)
        for prompt, group in zip(batch, groups, strict=True):
            yield [_reply(bench, prompt, rollout, speech) for rollout in group]


def _reply(bench: Bench, prompt: Prompt, rollout: Rollout, speech: bool) -> SpokenReply:
    words = bench.model.tokens.text_ids(rollout.tokens)
    text = bench.model.tokenizer.decode(words, clean_up_tokenization_spaces=False)
    waveform = bench.model.decode_speech(rollout.tokens) if speech else None
    return SpokenReply(prompt, text, rollout.finished, waveform)
