"""Where the parts of a codec are: folders of the Hub that a checkpoint's description names but does not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path


class CodecError(RuntimeError):
    """A codec that cannot be used; the message is one sentence that names it."""


_MOVED = {"THUDM": "zai-org"}
"""Owners on the Hub that go by two names."""


def find_part(source: str, base: Path | None, field: str) -> Path:
    """The folder of ``source``: an absolute path, a path in the checkpoint's folder ``base``, or a hub id that lies in
    the checkpoint's folder, beside it, or in the Hub's cache under its last name. Nothing is downloaded.

    ``field`` is what the description calls it; ``base`` None: the checkpoint is not here yet.

    Raises:
        CodecError: when it is in none of these places; the sentence says which they are.
    """
    path = Path(source).expanduser()
    if path.is_absolute():
        if path.is_dir():
            return path
        raise CodecError(f'The layout\'s codec names {source} as its "{field}", and there is no such folder.')
    for place in () if base is None else (base / path, base / path.name, base.parent / path.name):
        if place.is_dir():
            return place
    owner, _, name = source.partition("/")
    if not name:
        raise CodecError(
            f'{base / source if base else source} is missing (the "{field}" of its codec). Restore the folder.'
        )
    for each in filter(None, (owner, _MOVED.get(owner))):
        cached = _cached(f"{each}/{name}")
        if cached is not None:
            return cached
    beside = name if base is None else base.parent / name
    raise CodecError(
        f"{source} is not here: download it (hf download {source}), or put it beside the checkpoint, as "
        f'{beside}, or name its folder as "{field}" of the codec in its description.'
    )


def _cached(repo: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, local_files_only=True))
    except Exception:  # not here, or here in part
        return None


def said_by(looks: Sequence[Callable[[], object]]) -> Iterator[str]:
    """The sentences of those looks that found nothing."""
    for look in looks:
        try:
            look()
        except CodecError as error:
            yield str(error)


def first_words(error: Exception) -> str:
    """What code that is not ours said, short enough for a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def need_files(folder: Path, names: tuple[str, ...], what: str) -> None:
    """Raises:
    CodecError: naming the first file that is missing.
    """
    for name in names:
        if not (folder / name).is_file():
            raise CodecError(f"{what} in {folder} lacks {name}. Download the folder again.")
