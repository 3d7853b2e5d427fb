"""Which layout a checkpoint has, told from its folder or its ``config.json``. A new layout is one line in ``LAYOUTS``.

A line names the module that opens checkpoints of that layout (see ``Loader``); it is imported only when one is opened.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from wavalign.models.description import LAYOUT_FILE, LayoutError, extended
from wavalign.models.families import FAMILIES
from wavalign.models.protocol import CheckpointError, Sampling, SpokenDialogueModel


class Loader(Protocol):
    """What the module of a layout holds. A base has ``name``, ``model`` (a torch module) and ``lock``."""

    def load_base(
        self,
        name: str,
        folder: Path,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        trust_remote_code: bool = False,
    ) -> Any:
        """A base folder in memory, in eval mode. ``device`` None: a GPU when there is one. ``dtype`` None: float32 on
        a CPU, as stored on a GPU.

        Raises:
            CheckpointError: one sentence.
        """

    def attach(self, base: Any, name: str, folder: Path) -> str:
        """Attaches an adapter folder to a base, once; returns its name there.

        Raises:
            CheckpointError: one sentence; the base is then as it was.
        """

    def open_model(self, base: Any, adapters: Mapping[str, str | None]) -> SpokenDialogueModel:
        """A model over checkpoints (name -> adapter there, None: the base itself) of one base."""

    def default_sampling(self, folder: Path) -> Sampling:
        """What the checkpoint recommends.

        Raises:
            CheckpointError: when its description is wrong.
        """


@dataclass(frozen=True)
class Layout:
    """``marker``: a file beside the weights; ``model_types`` and ``architectures``: as in ``config.json``.

    The marker is looked for first, on all lines, then the config. ``runs_code``: whether its module runs the Python
    files of a checkpoint whose ``model_type`` transformers does not know; the host has to allow that. ``reads``:
    whether the family was trained to answer what is typed.
    """

    name: str
    loader: str
    marker: str | None = None
    model_types: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    runs_code: bool = False
    reads: bool = True

    def opened(self) -> Loader:
        return importlib.import_module(self.loader)


LAYOUTS: tuple[Layout, ...] = (
    Layout("interleaved", "wavalign.models.loading", marker=LAYOUT_FILE, runs_code=True),
    Layout(
        "interleaved",
        "wavalign.models.loading",
        model_types=tuple(each for family in FAMILIES for each in family.model_types),
        architectures=tuple(each for family in FAMILIES for each in family.architectures),
    ),
    Layout("thinker-talker", "wavalign.models.thinker_talker_loading", model_types=("qwen2_5_omni", "qwen3_omni_moe")),
    Layout(
        "parallel",
        "wavalign.models.kimi_loading",
        model_types=("kimi_audio",),
        architectures=("MoonshotKimiaForCausalLM",),
        runs_code=True,
    ),
    Layout("parallel", "wavalign.models.moshi_loading", model_types=("moshi",), reads=False),
)
"""Several lines may carry one name: families of a layout that are opened by different modules."""

REMOTE = "remote"
"""The layout of checkpoints that another machine runs; they have no folder."""

_KNOWN_BUT_NOT_DIALOGUE = {
    "whisper": "it only transcribes",
    "qwen2_audio": "it hears and writes, but does not speak",
    "voxtral": "it hears and writes, but does not speak",
    "csm": "it reads text aloud, but writes none",
    "dia": "it reads text aloud, but writes none",
    "higgs_audio_v2": "it reads text aloud, but writes none",
}


def layout_of(files: Collection[str], config: Mapping[str, Any] | None, name: str) -> Layout:
    """The layout of a checkpoint with these file names and this ``config.json``.

    Raises:
        CheckpointError: when no line fits; the sentence says what was found and what would fit.
    """
    for layout in LAYOUTS:
        if layout.marker is not None and layout.marker in files:
            return layout
    if config is None:
        marks = " nor ".join(layout.marker for layout in LAYOUTS if layout.marker)
        raise CheckpointError(f'"{name}" is not a checkpoint: it holds neither {marks} nor config.json.')
    model_type, architectures = config.get("model_type"), config.get("architectures") or ()
    for layout in LAYOUTS:
        if model_type in layout.model_types or any(each in layout.architectures for each in architectures):
            return layout
    found = f"model_type {model_type!r}" + (f", architecture {architectures[0]!r}" if architectures else "")
    why = _KNOWN_BUT_NOT_DIALOGUE.get(str(model_type))
    if why is not None:
        raise CheckpointError(f'"{name}" ({found}) cannot be used here: {why}. Choose a speech-to-speech model.')
    known = sorted({each for layout in LAYOUTS for each in (*layout.model_types, layout.marker) if each})
    raise CheckpointError(
        f'"{name}" is not a checkpoint of a layout that is known here ({found}). Known are: {", ".join(known)}. A '
        f"causal LM over text and speech tokens needs an {LAYOUT_FILE} beside its weights."
    )


def layout_at(name: str, folder: Path) -> Layout:
    """The layout of a base's folder.

    Raises:
        CheckpointError: when no line fits.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    files = {path.name for path in folder.iterdir()} if folder.is_dir() else ()
    return layout_of(files, config if isinstance(config, dict) else None, name)


def brings_code(layout: Layout, config: Mapping[str, Any] | None, described: Mapping[str, Any] | None = None) -> bool:
    """Whether Python files of the checkpoint itself would run: it has some, and nothing here knows its type.

    ``described`` is what its ``LAYOUT_FILE`` says, None where it has none: a ``backbone``, its own or that of the
    family that it extends, is opened as one of transformers' own classes.
    """
    if config is None or not config.get("auto_map") or not layout.runs_code:
        return False
    try:
        if described is not None and extended(described).get("backbone") is not None:
            return False
    except LayoutError:  # loading says what is wrong
        pass
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return config.get("model_type") not in CONFIG_MAPPING_NAMES
