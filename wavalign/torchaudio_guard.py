"""Lets torchaudio's pure-Python part import where its compiled part cannot load.

The torchaudio on PyPI is a CUDA build. Beside a CPU-only torch its import raises OSError, and with it every audio
model of transformers fails to import. Importing this module hooks the import of ``torchaudio._extension`` alone: the
real one is tried first, and only if it cannot load does a stub that says "no extension" take its place. Mel
spectrograms, Griffin-Lim and resampling work without it; forced alignment and the RNN-T loss do not.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

_GUARDED = "torchaudio._extension"


def _no_alignment(function: object) -> object:
    return function


def _no_check() -> None:
    return None


class _TolerantLoader(importlib.abc.Loader):
    def __init__(self, real: importlib.abc.Loader) -> None:
        self._real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self._real.exec_module(module)
        # OSError: a library is missing; ImportError: half of it loaded; RuntimeError: built for another CUDA.
        except (OSError, ImportError, RuntimeError) as error:
            module._IS_TORCHAUDIO_EXT_AVAILABLE = False
            module._IS_ALIGN_AVAILABLE = False
            module._check_cuda_version = _no_check
            module.fail_if_no_align = _no_alignment
            module.guarded_against = error


class _ExtensionFinder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _GUARDED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _TolerantLoader(spec.loader)
        return spec


def install() -> None:
    """Hooks the import once per interpreter; imports nothing itself."""
    if not any(isinstance(finder, _ExtensionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ExtensionFinder())


def is_stubbed() -> bool:
    """Whether torchaudio was imported and had to do without its compiled part."""
    return hasattr(sys.modules.get(_GUARDED), "guarded_against")


install()
