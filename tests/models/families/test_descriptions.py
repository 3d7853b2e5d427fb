"""A family's description is whole, follows the ratio that its checkpoints say, and names the field that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wavalign.models import families
from wavalign.models.description import InterleavedDescription, LayoutError


def test_a_ratio_counts_the_boundaries_of_a_chunk() -> None:
    assert families.of_ratio([1, 10, 4, 10]) == {"first_chunks": [[1, 8]], "text_chunk": 4, "speech_chunk": 8}
    balance = {"first_chunks": [[1, 2], [3, 6]], "text_chunk": 4, "speech_chunk": 8}
    assert families.of_ratio([1, 4, 3, 8, 4, 10]) == balance


@pytest.mark.parametrize(
    ("mode", "first"), [([1, 4, 3, 8, 4, 10], ((1, 2), (3, 6))), ([8192, 0], ((1, 8),)), (None, ((1, 8),))]
)
def test_vita_audios_checkpoints_say_their_ratio_beside_their_config(tmp_path: Path, mode: Any, first: tuple) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_mtp"}')
    (tmp_path / "generation_config.json").write_text(json.dumps({"mtp_inference_mode": mode}))
    description = InterleavedDescription.read(tmp_path)
    assert description.first_chunks == first
    assert (description.text_chunk, description.speech_chunk) == (4, 8)


@pytest.mark.parametrize("name", families.names())
def test_every_familys_description_is_whole_and_is_what_it_says(name: str) -> None:
    description = InterleavedDescription.parse(families.description_of(name))
    assert description.family == name
    assert InterleavedDescription.parse(json.loads(json.dumps(description.told()))) == description


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"extends": "moshi"}, 'extends "moshi"; the known families are: vita-audio-plus'),
        ({"text_pad": "<x>"}, '"text_pad" and "speech_pad".* go together'),
        ({"user_audio": {"kind": "mel"}}, '"codes" or "features", got .mel'),
        ({"user_audio": {"kind": "features"}}, 'needs "ears" and "placeholder"'),
        ({"prompt": {"user": 3}}, '"user" in the layout description.s prompt must be a string'),
        ({"codec": 3}, '"codec" in the layout description must be a folder or an object'),
    ],
)
def test_a_description_that_is_wrong_names_its_field(changes: dict, said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        InterleavedDescription.parse({"extends": "glm-4-voice", **changes})
