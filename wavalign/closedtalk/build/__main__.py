"""Builds the embedded codec, recogniser, base model and data, in stages that resume.

    python -m wavalign.closedtalk.build                       everything, into assets/
    python -m wavalign.closedtalk.build --stage codec         one stage (what it needs must be there)
    python -m wavalign.closedtalk.build --human FOLDER        with the Free Spoken Digit Dataset's recordings
    torchrun --nproc-per-node 8 -m wavalign.closedtalk.build --stage turns --stage tokens      shared out

Needs requirements-dev.txt (espeak-ng's wheel); uses flite and festival when they are installed (festival for a probe).
A GPU is used when there is one.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from wavalign.closedtalk.build import render, ship, tokens
from wavalign.closedtalk.build.train_base import train_base
from wavalign.closedtalk.build.train_codec import train_codec
from wavalign.closedtalk.build.train_recogniser import train_recogniser
from wavalign.closedtalk.build.train_tuned import train_tuned
from wavalign.closedtalk.build.train_voice import train_voice
from wavalign.closedtalk.build.training_loop import device
from wavalign.closedtalk.lexicon import lexicon
from wavalign.closedtalk.users import UserStudio
from wavalign.codecs.fsq_world import FsqWorldCodec
from wavalign.training.world import Alone, World, launched


@dataclass(frozen=True)
class Sizes:
    """How much is rendered and how long is trained. The defaults take under three hours on two cores.

    ``max_rows`` bounds the rows of one kind in a training step; every stage's own number fits in the default.
    """

    assistant_clips: int = 6000
    user_dialogues: int = 3500
    balanced_clips: int = 3500
    flite_clips: int = 1250
    human_clips: int = 1500
    codec_steps: int = 2800
    voice_steps: int = 5000
    recogniser_steps: int = 3600
    dialogues: int = 30_000
    base_steps: int = 6000
    tuned_steps: int = 300
    post_training: int = 1500
    validation: int = 300
    held_out: int = 600
    unseen_combinations: int = 200
    evaluation_clips: int = 110
    listening_clips: int = 40
    reference_answers: int = 40
    max_rows: int = 16


class Build:
    """``world``: the processes that share out the stages of ``SHARED``."""

    def __init__(
        self, work: Path, assets: Path, human: Path | None, seed: int, sizes: Sizes, world: World | None = None
    ) -> None:
        self.world = world or Alone()
        self.work, self.assets, self.seed, self.sizes = work, assets, seed, sizes
        self.studio = UserStudio(human, flite=shutil.which("flite") is not None)
        where = "one GPU" if device().type == "cuda" else "CPU"
        self.made = f"python -m wavalign.closedtalk.build --seed {seed}{' --human ...' if human else ''}, on {where}"

    def clips(self) -> None:
        sizes = self.sizes
        render.render_codec_material(
            self.work / "clips",
            self.studio,
            sizes.assistant_clips,
            sizes.user_dialogues,
            sizes.balanced_clips,
            sizes.flite_clips,
            sizes.human_clips,
            self.world,
        )

    def codec(self) -> None:
        clips, sizes, seed = self.work / "clips", self.sizes, self.seed
        practised = train_codec(clips, self.work / "codec.pt", sizes.codec_steps, sizes.max_rows, seed)
        trained = train_voice(practised, clips, self.work / "voice.pt", sizes.voice_steps, sizes.max_rows, seed)
        ship.ship_codec(trained, self.assets, self.made)

    def recogniser(self) -> None:
        clips, checkpoint = self.work / "clips", self.work / "recogniser.pt"
        codec, sizes = self._encoder().codec, self.sizes
        words = list(lexicon())
        trained = train_recogniser(clips, codec, checkpoint, words, sizes.recogniser_steps, sizes.max_rows, self.seed)
        ship.ship_recogniser(trained, self.assets, self.made)

    def turns(self) -> None:
        render.render_turns(self.work / "turns", self.studio, "train", self.sizes.dialogues, self.world)

    def tokens(self) -> None:
        turns, folder = self.work / "turns", self.work / "tokens"
        tokens.encode_split(self._encoder(), "train", self.sizes.dialogues, turns, folder, 2, self.world)

    def base(self) -> None:
        sizes = self.sizes
        trained = train_base(self.work / "tokens", self.work / "base.pt", sizes.base_steps, sizes.max_rows, self.seed)
        ship.ship_base(trained, self.assets, self.made)

    def data(self) -> None:
        encoder = self._encoder()
        ship.ship_references(encoder.codec, self.assets, self.sizes.reference_answers)
        splits = ("post_training", "validation", "held_out", "unseen_combinations")
        split_sizes = {split: getattr(self.sizes, split) for split in splits}
        ship.ship_data(encoder, self.assets, split_sizes, self.sizes.listening_clips)
        ship.ship_evaluation_audio(encoder, self.assets, self.sizes.evaluation_clips)
        ship.ship_examples(self.studio, self.assets)

    def tuned(self) -> None:
        encoder = self._encoder()
        data = self.assets / "closedtalk-data" / "post_training.parquet"
        checkpoint = self.work / "tuned.pt"
        base = self.assets / "closedtalk-base"
        sizes = self.sizes
        adapter = train_tuned(base, data, encoder, checkpoint, sizes.tuned_steps, sizes.max_rows, self.seed)
        ship.ship_tuned(adapter, self.assets, self.made)

    def _encoder(self) -> tokens.Encoder:
        codec = FsqWorldCodec.from_pretrained(str(self.assets / "closedtalk-codec")).eval()
        return tokens.Encoder(codec, self.studio)


STAGES: dict[str, Callable[[Build], None]] = {
    "clips": Build.clips,
    "codec": Build.codec,
    "recogniser": Build.recogniser,
    "turns": Build.turns,
    "tokens": Build.tokens,
    "base": Build.base,
    "data": Build.data,
    "tuned": Build.tuned,
}

SHARED = ("clips", "turns", "tokens")
"""Stages whose files do not depend on each other: several processes share them out."""

#: What a stage reads under the work folder, and the stage that makes it.
NEEDS = {
    "codec": ("clips/*.npz", "clips"),
    "recogniser": ("clips/*.npz", "clips"),
    "tokens": ("turns/*.npz", "turns"),
    "base": ("tokens/*.parquet", "tokens"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m wavalign.closedtalk.build", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--stage", action="append", choices=list(STAGES), help="run only this stage (may be repeated)")
    parser.add_argument("--work", type=Path, default=Path("build"), help="intermediate files (default: build/)")
    parser.add_argument("--assets", type=Path, default=Path("assets"), help="where the results go (default: assets/)")
    parser.add_argument("--human", type=Path, default=None, help="folder of the spoken digit recordings (optional)")
    parser.add_argument("--seed", type=int, default=0)
    for name, value in vars(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help=f"default: {value}")
    arguments = parser.parse_args()
    # Two threads on shared cores can be a hundred times slower than one for models of this size.
    torch.set_num_threads(1)
    sizes = Sizes(**{name: getattr(arguments, name) for name in vars(Sizes())})
    world = launched()
    stages = arguments.stage or list(STAGES)
    if world.size > 1 and (alone := [stage for stage in stages if stage not in SHARED]):
        parser.error(
            f"stage {alone[0]} is for one process; several share out {', '.join(SHARED)} (name them by --stage)."
        )
    build = Build(arguments.work, arguments.assets, arguments.human, arguments.seed, sizes, world)
    for stage in stages:
        pattern, maker = NEEDS.get(stage, ("", ""))
        if pattern and not any(arguments.work.glob(pattern)):
            parser.error(
                f"stage {stage} needs {arguments.work / pattern}, which is not there; run --stage {maker} first."
            )
        STAGES[stage](build)
        world.gather(None)  # the next stage reads what all have made


if __name__ == "__main__":
    main()
