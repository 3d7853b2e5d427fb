"""``checkpoints.yaml``: what it may say, what it refuses, and that it is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wavalign.models.protocol import CheckpointError
from wavalign.models.registry import Registry
from wavalign.models.registry_entries import Entries, Entry, may_run_code, parsed
from wavalign.models.remote_description import RemoteDescription

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FAR = Entry(remote=RemoteDescription(url="http://localhost:9/v1", model="m", key_env="SOME_API_KEY"), arena=False)


def written(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints.yaml").write_text(text)
    return folder / "checkpoints.yaml"


def test_an_entry_comes_back_as_it_was_added(tmp_path: Path) -> None:
    entries = Entries(tmp_path / "assets", tmp_path / "home")
    qwen = Entry(source="Qwen/Qwen2.5-Omni-3B", revision=COMMIT, dtype="bfloat16", layout="thinker-talker")
    entries.add("qwen", qwen)
    entries.add("far", FAR)
    again = Entries(tmp_path / "assets", tmp_path / "home")
    assert again.all() == {"far": FAR, "qwen": qwen}
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["checkpoints.yaml"]
    entries.remove("far")
    assert again.all() == {"qwen": qwen}


def test_the_hosts_own_entry_stands_before_a_shipped_one(tmp_path: Path) -> None:
    written(tmp_path / "assets", "checkpoints: {far: {remote: {url: 'http://a/v1', model: a}}}")
    written(tmp_path / "home", "checkpoints: {far: {remote: {url: 'http://b/v1', model: b}}}")
    entries = Entries(tmp_path / "assets", tmp_path / "home")
    assert entries.all()["far"].remote.model == "b"
    with pytest.raises(CheckpointError, match="already"):
        entries.add("far", FAR)
    entries.remove("far")
    assert entries.all()["far"].remote.model == "a"
    with pytest.raises(CheckpointError, match="not an entry"):
        entries.remove("far")


WRONG = {
    "not yaml": ("checkpoints: [", "not valid YAML"),
    "another key": ("models: {}", '"checkpoints"'),
    "a list": ("checkpoints: [a]", "mapping"),
    "a name that leaves the folder": ("checkpoints: {../x: {source: /x}}", "not a name"),
    "nothing said": ("checkpoints: {x: {}}", "exactly one"),
    "two things said": ("checkpoints: {x: {source: /x, remote: {url: 'http://a/v1', model: m}}}", "exactly one"),
    "no revision": ("checkpoints: {x: {source: some/model}}", "40 hex"),
    "a branch": ("checkpoints: {x: {source: some/model, revision: main}}", "40 hex"),
    "a relative folder": ("checkpoints: {x: {source: models/x/y}}", "absolute"),
    "an adapter without a base": ("checkpoints: {x: {adapter: /x}}", "together"),
    "a dtype": ("checkpoints: {x: {source: /x, dtype: int3}}", "dtype"),
    "a device": ("checkpoints: {x: {source: /x, device: tpu}}", "device"),
    "a misspelt field": ("checkpoints: {x: {sauce: /x}}", "sauce"),
    "code that runs": ("checkpoints: {x: {source: /x, trust_remote_code: true}}", "trust_remote_code"),
    "a key": ("checkpoints: {x: {remote: {url: 'http://a/v1', model: m, key: sk-1}}}", "key"),
    "another secret": ("checkpoints: {x: {remote: {url: 'http://a/v1', model: m, key_env: HF_TOKEN}}}", "_API_KEY"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_in_the_file_is_one_sentence(tmp_path: Path, kind: str) -> None:
    text, words = WRONG[kind]
    path = written(tmp_path, text)
    with pytest.raises(CheckpointError, match=words) as error:
        parsed(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_broken_file_leaves_the_folders_to_use_and_is_told(assets: Path, tmp_path: Path) -> None:
    written(tmp_path, "checkpoints: [")
    registry = Registry(assets, tmp_path)
    assert "tiny-base" in registry.names()
    assert "not valid YAML" in registry.trouble()
    assert registry.load(["tiny-base"]).names == ("tiny-base",)


def test_an_adapter_whose_base_is_not_listed_is_named(tmp_path: Path) -> None:
    lines = "{x: {adapter: /x, base: gone}, y: {adapter: /y, base: x}, z: {adapter: /z, base: z}}"
    written(tmp_path, f"checkpoints: {lines}")
    registry = Registry(tmp_path)
    with pytest.raises(CheckpointError, match=r'^Adapter "x" is for the base "gone", which is not among'):
        registry.load(["x"])
    for name, base in (("y", "x"), ("z", "z")):
        with pytest.raises(CheckpointError, match=rf'^Adapter "{name}" is for "{base}", which is not a base'):
            registry.checkpoint(name)


def test_a_file_that_cannot_be_written_is_said_and_nothing_is_left(tmp_path: Path, monkeypatch) -> None:
    entries = Entries(tmp_path / "assets", tmp_path)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CheckpointError, match="No space left"):
        entries.add("far", FAR)
    assert list(tmp_path.iterdir()) == []


def test_code_runs_only_where_the_host_said_so() -> None:
    environment = {"WAVALIGN_TRUST_REMOTE_CODE": "some/model, /data/other/"}
    assert may_run_code("some/model", environment)
    assert may_run_code("/data/other", environment)
    assert not may_run_code("some/model-2", environment)
    assert not may_run_code("", environment)
    assert not may_run_code("some/model", {})
