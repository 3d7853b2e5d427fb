"""Decoders that exist only as code of another repository: run from the host's own checkout, named before the start.

The variable is the host's consent to run that code; no page and no file of a checkpoint can name a checkout.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import yaml

import wavalign.torchaudio_guard  # noqa: F401  (these repositories import torchaudio)
from wavalign.codecs.parts import CodecError

_LOCK = threading.RLock()
_SEEDS = {"random.seed", "numpy.random.seed", "torch.manual_seed", "torch.cuda.manual_seed_all"}
_PLAIN_TAGS = {"ref", "copy", "tuple"}


@dataclass(frozen=True)
class Checkout:
    """A repository. ``variable`` names its folder in the environment; ``paths`` are what Python looks in, inside it."""

    title: str
    url: str
    variable: str
    paths: tuple[str, ...] = ("",)

    def folder(self, environment: Mapping[str, str] = os.environ) -> Path:
        """Raises:
        CodecError: when the host named none, or what was named is no folder.
        """
        told = environment.get(self.variable, "").strip()
        if not told:
            raise CodecError(
                f"The decoder of {self.title} is code of its own repository: git clone --recurse-submodules {self.url} "
                f"and start the app with {self.variable}=FOLDER, which lets that code run."
            )
        folder = Path(told).expanduser()
        if not folder.is_dir():
            raise CodecError(f"{self.variable} names {told}, which is no folder. Clone {self.url} there.")
        return folder

    @contextmanager
    def importable(self) -> Iterator[Path]:
        """While open, modules of the checkout can be imported, and are found first."""
        folder = self.folder()
        added = [str(folder / path) for path in self.paths]
        with _LOCK:
            sys.path[:0] = added
            try:
                yield folder
            finally:
                for path in added:
                    sys.path.remove(path)

    def module(self, name: str) -> ModuleType:
        """A module of the checkout; inside ``importable``.

        Raises:
            CodecError: when it is not there, needs a package that is not, or another module of that name came first.
        """
        folder = self.folder()
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise CodecError(
                f"{name} of {self.title} ({folder}) cannot be imported: {error}. Install what its requirements name, "
                "except torch and transformers."
            ) from error
        if folder.resolve() not in Path(module.__file__ or "").resolve().parents:
            raise CodecError(f"{name} was imported from {module.__file__}, not from {folder}. Use one checkout only.")
        return module


def check_recipe(path: Path, packages: Sequence[str]) -> None:
    """A hyperpyyaml file builds objects of the classes it names: only those of ``packages`` and seeds are let through.

    Raises:
        CodecError: naming the tag that would run something else.
    """
    try:
        tokens = list(yaml.scan(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise CodecError(f"{path} is missing or no YAML. Restore the folder.") from error
    for token in tokens:
        if isinstance(token, yaml.DirectiveToken):
            raise CodecError(f"{path} redefines YAML tags. Use the folder as it is on the Hub.")
        if not isinstance(token, yaml.TagToken):
            continue
        handle, suffix = token.value
        kind, _, name = suffix.partition(":")
        root = name.partition(".")[0]
        plain = not name and kind in _PLAIN_TAGS
        builds = kind in ("new", "name", "apply") and (root in packages or (kind == "apply" and name in _SEEDS))
        if handle != "!" or not (plain or builds):
            raise CodecError(f"{path} would run {handle or ''}{suffix}. Use the folder as it is on the Hub.")
