from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.tasks import data
from evaluation.tasks.data import folder_of, recording
from evaluation.tasks.protocol import TaskError
from tests.evaluation.tasks.datasets import context, tone, wav


def test_a_hub_id_fetches_the_files_that_are_needed_at_its_revision(monkeypatch, tmp_path):
    asked = {}

    def snapshot(repo: str, **settings) -> str:
        asked.update(settings, repo=repo)
        return str(tmp_path)

    monkeypatch.setattr(data, "snapshot_download", snapshot)
    folder = folder_of(
        "voicebench", context(voicebench="hlt-lab/voicebench@v1"), "hlt-lab/voicebench", ["bbh/*.parquet"]
    )
    assert folder == tmp_path
    assert asked == {
        "repo": "hlt-lab/voicebench",
        "repo_type": "dataset",
        "revision": "v1",
        "allow_patterns": ["bbh/*.parquet"],
    }


def test_a_hub_that_refuses_is_one_sentence(monkeypatch):
    def snapshot(repo: str, **settings) -> str:
        raise ConnectionError("no route to the hub\nand a long trace")

    monkeypatch.setattr(data, "snapshot_download", snapshot)
    with pytest.raises(TaskError) as error:
        folder_of("voicebench", context(voicebench="hlt-lab/voicebench"), "hlt-lab/voicebench", ["*"])
    assert "could not be fetched from the hub (ConnectionError: no route to the hub)" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["~/nowhere/at/all", "./voicebench", "C:\\data", "voicebench"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_not_looked_up(monkeypatch, source):
    monkeypatch.setattr(data, "snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    with pytest.raises(TaskError, match="There is no folder"):
        folder_of("voicebench", context(voicebench=source), "hlt-lab/voicebench", ["*"])


def test_a_recording_is_read_from_bytes_a_struct_or_a_file_of_the_data_set(tmp_path):
    wav(tmp_path / "a.wav")
    bytes_ = tone().to_wav_bytes()
    for cell in (bytes_, {"bytes": bytes_, "path": "x.wav"}, {"bytes": None, "path": "a.wav"}, "a.wav"):
        assert recording(cell, tmp_path, "p").seconds == pytest.approx(0.1)
    for cell, message in (
        (None, "has no recording"),
        ({"bytes": None, "path": None}, "has no recording"),
        ("b.wav", "is missing"),
        ("../a.wav", "outside its data set"),
        (str(Path("/etc/passwd")), "outside its data set"),
        (b"RIFFnoise", "cannot be decoded"),
    ):
        with pytest.raises(TaskError, match=message):
            recording(cell, tmp_path, "p")
