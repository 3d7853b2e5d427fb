"""Stage ``render``: user turns of every split, balanced word strings, and the assistant's replies, as clips."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wavalign.closedtalk.build.clips import Clip, write_shard
from wavalign.closedtalk.deliveries import Delivery, Tone
from wavalign.closedtalk.dialogues import dialogue_spec
from wavalign.closedtalk.lexicon import balanced_word_strings
from wavalign.closedtalk.synthesis import speak_assistant
from wavalign.closedtalk.users import DIGITS, FLITE_VOICES, Speaker, UserStudio
from wavalign.codecs import world
from wavalign.codecs.logmel import log_mel
from wavalign.training.world import World

SHARD = 250
#: Splits whose speakers are unseen voices.
UNSEEN_VOICES = frozenset({"held_out", "unseen_combinations"})


def user_clips(split: str, index: int, studio: UserStudio, detailed: bool) -> Iterator[Clip]:
    """The spoken turns of one dialogue; a typed dialogue has none."""
    spec = dialogue_spec(split, index)
    if spec.typed:
        return
    texts = [turn.text for turn in spec.turns]
    plain = all(turn.tone is Tone.PLAIN for turn in spec.turns)
    speaker = studio.speaker(spec.voice_seed, split in UNSEEN_VOICES, texts, plain)
    for number, turn in enumerate(spec.turns):
        clean = studio.clean(turn.text, turn.tone, speaker, number)
        yield _user_clip(
            f"{split}/{index}/{number}/{speaker.source}", turn.text, clean, studio, speaker, number, detailed
        )


def balanced_user_clip(index: int, text: str, studio: UserStudio, unseen: bool, detailed: bool) -> Clip:
    """A random word string in a random voice and tone."""
    rng = random.Random(f"balanced/{unseen}/{index}")
    tone = rng.choice([Tone.PLAIN, Tone.PLAIN, Tone.SLOW_LOW, Tone.FAST_HIGH])
    speaker = studio.speaker(rng.getrandbits(31), unseen, [text], tone is Tone.PLAIN)
    clean = studio.clean(text, tone, speaker, 0)
    name = "balanced_unseen" if unseen else "balanced"
    return _user_clip(f"{name}/{index}/0/{speaker.source}", text, clean, studio, speaker, 0, detailed)


def flite_clip(index: int, text: str, studio: UserStudio) -> Clip:
    """A word string in one of flite's voices."""
    rng = random.Random(f"flite/{index}")
    speaker = Speaker("flite", rng.choice(FLITE_VOICES), rng.uniform(0.9, 1.13), rng.getrandbits(31))
    clean = studio.clean(text, Tone.PLAIN, speaker, 0)
    return _user_clip(f"flite/{index}/0/flite", text, clean, studio, speaker, 0, False)


def human_clip(index: int, studio: UserStudio) -> Clip:
    """A question about digits, or digits alone, with the digits in a human voice."""
    rng = random.Random(f"human/{index}")
    if rng.random() < 0.3:
        text = " ".join(rng.choices(sorted(DIGITS), k=rng.randint(1, 5)))
    else:
        text = ""
        while not DIGITS & set(text.split()):
            text = dialogue_spec("train", 700_000 + rng.getrandbits(20)).turns[0].text
    espeak = studio.speaker(rng.getrandbits(31), False, ["none"], False)
    speaker = Speaker("human", espeak.voice, espeak.formant, espeak.seed)
    clean = studio.clean(text, Tone.PLAIN, speaker, 0)
    return _user_clip(f"human/{index}/0/human", text, clean, studio, speaker, 0, False)


def _user_clip(key, text, clean, studio, speaker, turn, detailed) -> Clip:
    heard = studio.recorded(clean, speaker, turn)
    if not detailed:
        return Clip(key, text, log_mel(heard.samples).numpy())
    return Clip(key, text, log_mel(heard.samples).numpy(), None, *_clean_targets(clean.samples, heard.samples))


def _clean_targets(clean: np.ndarray, heard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel and pitch of the clean speech, as long as the recording (a room's tail makes that longer)."""
    clean = np.pad(clean, (0, max(0, len(heard) - len(clean))))
    mel = log_mel(clean).numpy()
    return mel, np.stack(world.log_f0_and_voicing(world.f0_contour(clean)), axis=1)[: len(mel)]


def assistant_clip(key: str, text: str, delivery: Delivery) -> Clip:
    samples = speak_assistant(text, delivery).samples
    frames = len(samples) // 160
    return Clip(key, text, log_mel(samples).numpy(), world=world.refined(world.analyse(samples)[:frames]))


def shards(count: int, world: World) -> range:
    """Where the shards of this process start, of ``count`` things in shards of 250."""
    return range(world.rank * SHARD, count, world.size * SHARD)


def in_shards(folder: Path, name: str, count: int, make: Callable[[int], list[Clip]], world: World) -> None:
    """Calls ``make(i)`` for i < count in shards of 250, shared out among processes; shards that exist are kept, so a
    second call resumes."""
    for start in tqdm(shards(count, world), desc=name, unit="shard", disable=world.rank > 0):
        path = folder / f"{name}-{start:06d}.npz"
        if path.exists():
            continue
        clips = [clip for index in range(start, min(count, start + SHARD)) for clip in make(index)]
        write_shard(path, clips)


def render_codec_material(
    folder: Path, studio: UserStudio, assistant: int, users: int, balanced: int, flite: int, human: int, world: World
) -> None:
    """Clips for the codec and the recogniser: assistant (60 % balanced words), users of train, balanced user strings,
    flite's voices, and human digits."""
    deliveries = list(Delivery)
    strings = balanced_word_strings(seed=11, count=assistant, words_per_string=5)

    def make_assistant(index: int) -> list[Clip]:
        delivery = deliveries[index % len(deliveries)]
        if index % 10 < 6:
            return [assistant_clip(f"assistant/{index}/{delivery}", strings[index], delivery)]
        turn = dialogue_spec("train", 500_000 + index).turns[0]
        return [assistant_clip(f"assistant/{index}/{turn.delivery}", turn.demonstration, turn.delivery)]

    user_strings = balanced_word_strings(seed=12, count=balanced, words_per_string=5)
    in_shards(folder, "assistant", assistant, make_assistant, world)
    in_shards(folder, "detailed", users, lambda i: list(user_clips("train", 600_000 + i, studio, True)), world)
    in_shards(
        folder,
        "balanced",
        balanced,
        lambda i: [balanced_user_clip(i, user_strings[i], studio, False, i % 3 == 0)],
        world,
    )
    flite_strings = balanced_word_strings(seed=13, count=flite, words_per_string=5)
    if studio.flite:
        in_shards(folder, "other-flite", flite, lambda i: [flite_clip(i, flite_strings[i], studio)], world)
    if studio.human:
        in_shards(folder, "other-human", human, lambda i: [human_clip(i, studio)], world)


def render_turns(folder: Path, studio: UserStudio, split: str, count: int, world: World) -> None:
    """The spoken user turns of the first ``count`` dialogues of a split."""
    in_shards(folder, split, count, lambda i: list(user_clips(split, i, studio, False)), world)
