"""What a look at an interleaved checkpoint can tell before it is loaded: its family, and what it lacks here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavalign.codecs.loading import missing_parts
from wavalign.models import families
from wavalign.models.description import LAYOUT_FILE, InterleavedDescription
from wavalign.models.protocol import CheckpointError


def hints(
    config: Mapping[str, Any], folder: Path | None, source: str, allowed: bool
) -> tuple[dict[str, str], list[str]]:
    """Facts for people, by label, and warnings. ``folder`` None: not downloaded yet; ``allowed``: its code may run."""
    family = families.family_of(config)
    try:
        if folder is not None and (family is not None or (folder / LAYOUT_FILE).is_file()):
            description = InterleavedDescription.read(folder)
        elif family is not None:
            description = InterleavedDescription.parse(families.description_of(family.name))
        else:
            return {}, []
    except CheckpointError as error:
        return {}, [str(error)]
    warnings = missing_parts(description.codec, folder)
    if description.user_audio.kind == "features" and not allowed:
        warnings.append(
            "It hears recordings by Python code of its own, which does not run unless the host starts the app with "
            f"WAVALIGN_TRUST_REMOTE_CODE={source}; without it, it answers what is typed."
        )
    return {"Family": family.title} if family is not None else {}, warnings
