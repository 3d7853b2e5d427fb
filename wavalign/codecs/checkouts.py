"""Decoders that exist only as code of another repository: run from the host's own checkout, named before the start.

The variable is the host's consent to run that code; no page and no file of a checkpoint can name a checkout.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping
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
_LIBRARY = {"omegaconf.DictConfig", "whisper.tokenizer.get_tokenizer"}
"""What the families' recipes name beside their own code."""


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


def check_recipe(path: Path, checkout: Checkout) -> None:
    """A hyperpyyaml file builds what it names: only classes and functions that the checkout itself defines are let
    through, and seeds. Names that lead from there to another module (``matcha.cli.os.system``) are not.

    Raises:
        CodecError: naming the tag that would run something else.
    """
    roots = [checkout.folder() / place for place in checkout.paths]
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
        plain = not name and kind in _PLAIN_TAGS
        seeds = kind == "apply" and name in _SEEDS
        builds = kind in ("new", "name") and (name in _LIBRARY or any(_defined(name, root) for root in roots))
        if handle != "!" or not (plain or seeds or builds):
            raise CodecError(
                f"{path} would run {handle or ''}{suffix}, which {checkout.title} does not define. Use the folder as "
                "it is on the Hub."
            )


def _defined(name: str, root: Path) -> bool:
    """Whether ``name`` is a class or function that a file under ``root`` defines at its top level."""
    module, _, last = name.rpartition(".")
    parts = module.split(".")
    if not all(part.isidentifier() for part in (*parts, last)):
        return False
    file = root.joinpath(*parts).with_suffix(".py")
    if not file.is_file():
        return False
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return False
    return any(isinstance(each, ast.ClassDef | ast.FunctionDef) and each.name == last for each in tree.body)
