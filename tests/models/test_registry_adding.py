"""Adding checkpoints: what is told before and written after, from folders, services and the Hub (its client faked)."""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from tests import tiny
from wavalign.models.protocol import CheckpointError
from wavalign.models.registry import Registry
from wavalign.models.registry_adding import Wish, add, look, look_remote
from wavalign.models.registry_entries import Entry
from wavalign.models.registry_layouts import REMOTE

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    tiny.make_tiny_checkpoint(folder / "second", seed=5)
    tiny.make_tiny_adapter(folder / "on-second", folder / "second")
    return folder


def test_a_folder_is_looked_at_then_listed(assets: Path, elsewhere: Path, tmp_path: Path) -> None:
    registry = Registry(assets, tmp_path)
    looked = look(registry, Wish(str(elsewhere / "second"), dtype="bfloat16"))
    assert (looked.name, looked.kind, looked.layout) == ("second", "base", "interleaved")
    assert looked.facts["Architecture"] == "LlamaForCausalLM"
    assert looked.estimate.weights < looked.estimate.total
    assert looked.download == 0
    assert "second" not in registry.names()
    add(registry, looked)
    assert registry.load(["second"]).names == ("second",)
    with pytest.raises(CheckpointError, match='on the list already, as "second"'):
        look(registry, Wish(str(elsewhere / "second"), dtype="bfloat16"))
    with pytest.raises(CheckpointError, match='"second" already'):
        look(registry, Wish(str(elsewhere / "second"), name="second"))
    assert look(registry, Wish(str(elsewhere / "second"))).name == "second-2"


def test_a_base_and_an_adapter_come_together_or_not_at_all(assets: Path, elsewhere: Path, tmp_path: Path) -> None:
    registry = Registry(assets, tmp_path)
    wish = Wish(str(elsewhere / "second"), adapter=str(elsewhere / "on-second"), name="mine")
    looked = look(registry, wish)
    assert (looked.name, looked.kind, list(looked.entries)) == ("mine", "adapter", ["second", "mine"])
    assert looked.facts["Adapter"] == "LoRA, rank 4"
    add(registry, looked)
    assert registry.checkpoint("mine").base_name == "second"
    with pytest.raises(CheckpointError, match="already"):
        add(registry, looked)
    again = look(registry, Wish(str(elsewhere / "second"), adapter=str(elsewhere / "on-second"), name="other"))
    assert list(again.entries) == ["other"]  # the base is there
    registry.entries.remove("mine")
    with pytest.raises(CheckpointError, match="already"):
        add(registry, looked)
    assert "mine" not in registry.names()


def test_an_adapter_alone_finds_its_base(assets: Path, elsewhere: Path, tmp_path: Path) -> None:
    registry = Registry(assets, tmp_path)
    with pytest.raises(CheckpointError, match='adapter for "second", which is not on the list'):
        look(registry, Wish(str(elsewhere / "on-second")))
    adapter = tiny.make_tiny_adapter(tmp_path / "elsewhere" / "tuned", assets / "tiny-base")
    looked = look(registry, Wish(str(adapter)))
    assert looked.facts["On"] == "tiny-base"
    add(registry, looked)
    assert registry.load(["tiny-base", "tuned"]).names == ("tiny-base", "tuned")


REFUSED: dict[str, tuple[Wish, str]] = {
    "nothing": (Wish(""), "Give a hub id"),
    "neither": (Wish("models/of/mine"), "neither"),
    "no folder": (Wish("/no/such/place"), "no folder"),
    "a revision of a folder": (Wish("BASE", revision="main"), "revision is of a hub id"),
    "a device": (Wish("BASE", device="cuda:63"), "no device"),
    "a device nobody knows": (Wish("BASE", device="tpu9"), "no device"),
    "a dtype": (Wish("BASE", dtype="int3"), "dtype"),
    "a base as an adapter": (Wish("BASE", adapter="BASE"), "not an adapter"),
    "an adapter on an adapter": (Wish("ADAPTER", adapter="ADAPTER"), "is an adapter itself"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_added_is_one_sentence(assets: Path, elsewhere: Path, tmp_path: Path, kind: str) -> None:
    wish, words = REFUSED[kind]
    places = {"BASE": str(elsewhere / "second"), "ADAPTER": str(elsewhere / "on-second")}
    told = {name: places.get(value, value) for name, value in vars(wish).items()}
    with pytest.raises(CheckpointError, match=words) as error:
        look(Registry(assets, tmp_path), Wish(**told))
    assert "\n" not in str(error.value)


def test_a_name_that_is_none_is_refused_when_it_is_listed(assets: Path, elsewhere: Path, tmp_path: Path) -> None:
    looked = look(Registry(assets, tmp_path), Wish(str(elsewhere / "second"), name="../../evil"))
    with pytest.raises(CheckpointError, match="A name has letters"):
        add(Registry(assets, tmp_path), looked)
    assert not (tmp_path / "checkpoints.yaml").exists()


class FakeHub:
    """One repository behind the functions of huggingface_hub: a folder that is here only once it was downloaded."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache, self.error = folder, cache, None
        self.files = {each.name: each.stat().st_size for each in folder.iterdir()} | {"pytorch_model.bin": 10**12}

    def model_info(self, repo: str, revision: str | None = None, **_: Any) -> SimpleNamespace:
        if self.error is not None:
            raise self.error
        siblings = [SimpleNamespace(rfilename=name, size=size) for name, size in self.files.items()]
        return SimpleNamespace(
            sha=COMMIT, siblings=siblings, safetensors=SimpleNamespace(parameters={"F32": 2_000_000})
        )

    def hf_hub_download(self, repo: str, name: str, revision: str) -> str:
        return str(self.folder / name)

    def snapshot_download(
        self,
        repo: str,
        *,
        revision: str,
        ignore_patterns: list[str],
        local_files_only: bool = False,
        tqdm_class: Any = None,
    ) -> str:
        self.ignored = ignore_patterns
        if not self.cache.is_dir():
            if local_files_only:
                raise errors.LocalEntryNotFoundError("not here")
            bar = tqdm_class(total=100, unit="B")
            bar.update(40)
            bar.update(60)
            shutil.copytree(self.folder, self.cache)
        return str(self.cache)


@pytest.fixture
def hub(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    shutil.copytree(elsewhere / "tiny-codec", tmp_path / "hub" / "tiny-codec")
    fake = FakeHub(elsewhere / "second", tmp_path / "hub" / COMMIT)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.hf_hub_download)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


def test_a_repository_is_pinned_estimated_and_downloaded_when_it_is_asked(
    assets: Path, hub: FakeHub, tmp_path: Path
) -> None:
    registry = Registry(assets, tmp_path / "home")
    looked = look(registry, Wish("some/second", revision="main", dtype="bfloat16"))
    assert looked.facts["Revision"] == COMMIT
    assert looked.estimate.weights == 4_000_000  # two million parameters, two bytes each
    assert 0 < looked.download < 10**9  # without the pickled copy
    add(registry, looked)
    checkpoint = registry.checkpoint("second")
    assert (checkpoint.base, checkpoint.layout, checkpoint.revision) == ("some/second", "interleaved", COMMIT)
    assert not registry.is_ready("second")
    with pytest.raises(CheckpointError, match="not downloaded yet"):
        registry.default_sampling("second")
    assert registry.load(["second"]).names == ("second",)
    assert registry.is_ready("second")
    assert registry.checkpoint("second").base == hub.cache


def test_an_encoder_and_a_decoder_in_folders_of_a_repository_are_estimated(
    assets: Path, hub: FakeHub, tmp_path: Path
) -> None:
    """As Kimi-Audio's: 3 MB beside their pickled copy, 5 MB of pickles; what is not downloaded does not count."""
    hub.files |= {"whisper/model.safetensors": 3_000_000, "whisper/pytorch_model.bin": 3_000_001}
    hub.files |= {"audio_detokenizer/model.pt": 4_000_000, "vocoder/pytorch_model.bin": 1_000_000, "onnx/model.bin": 9}
    looked = look(Registry(assets, tmp_path / "home"), Wish("some/second", revision="main", dtype="bfloat16"))
    assert looked.estimate.weights == 4_000_000 + 3_000_000 + 5_000_000


def test_parts_of_an_older_upload_are_not_downloaded(assets: Path, hub: FakeHub, tmp_path: Path) -> None:
    """The index names one part of one; the repository still holds the first of seven."""
    parts = tmp_path / "parts"
    shutil.copytree(hub.folder, parts)
    (parts / "model.safetensors").rename(parts / "model-00001-of-00001.safetensors")
    named = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    (parts / "model.safetensors.index.json").write_text(json.dumps(named), encoding="utf-8")
    hub.folder = parts
    hub.files = {each.name: each.stat().st_size for each in parts.iterdir()}
    needed = sum(hub.files.values())
    hub.files["model-00001-of-00007.safetensors"] = 10**12
    registry = Registry(assets, tmp_path / "home")
    looked = look(registry, Wish("some/second", revision="main"))
    assert looked.download == needed
    add(registry, looked)
    registry.load(["second"])
    ignored = {name for name in hub.files if any(fnmatch(name, pattern) for pattern in hub.ignored)}
    assert ignored == {"model-00001-of-00007.safetensors"}


FAILURES = {
    "gated": (errors.GatedRepoError, "accept its terms"),
    "absent": (errors.RepositoryNotFoundError, "There is no model some/second"),
    "no revision": (errors.RevisionNotFoundError, "has no revision 'main'"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_what_the_hub_refuses_is_said(assets: Path, hub: FakeHub, tmp_path: Path, kind: str) -> None:
    error, words = FAILURES[kind]
    response = SimpleNamespace(headers={}, status_code=403, request=None, text="")
    hub.error = error("refused", response=response)
    with pytest.raises(CheckpointError, match=words):
        look(Registry(assets, tmp_path), Wish("some/second", revision="main"))
    hub.error = errors.OfflineModeIsEnabled("hf_TokenThatMustNotShow")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE"):
        look(Registry(assets, tmp_path), Wish("some/second"))
    hub.error = OSError("hf_TokenThatMustNotShow is wrong")
    with pytest.raises(CheckpointError, match=r"\(token\) is wrong"):
        look(Registry(assets, tmp_path), Wish("some/second"))


def test_a_service_is_listed_without_being_asked(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAR_API_KEY", raising=False)
    registry = Registry(assets, tmp_path)
    wish = {"url": "https://api.far.example/v1", "model": "omni 3", "key_env": "FAR_API_KEY", "sample_rate": "16000"}
    looked = look_remote(registry, None, wish, False)
    assert (looked.name, looked.kind) == ("omni-3", REMOTE)
    assert any("is sent to api.far.example" in words for words in looked.warnings)
    assert any("set FAR_API_KEY" in words for words in looked.warnings)
    add(registry, looked)
    assert registry.names()[-1] == "omni-3"
    assert not registry.is_ready("omni-3")
    monkeypatch.setenv("FAR_API_KEY", "sk-0123456789")
    assert registry.is_ready("omni-3")
    assert registry.load(["omni-3"]).sample_rate == 16_000
    assert "sk-0123456789" not in (tmp_path / "checkpoints.yaml").read_text()
    with pytest.raises(CheckpointError, match=r"The service: remote.key_env: .*_API_KEY"):
        look_remote(registry, "x", {**wish, "key_env": "sk-0123456789"}, False)


def test_an_adapter_stands_only_on_a_base(assets: Path, tmp_path: Path) -> None:
    registry = Registry(assets, tmp_path)
    add(registry, look_remote(registry, "far", {"url": "http://far.example/v1", "model": "m"}, False))
    registry.entries.add("odd", Entry(base="far", adapter=str(assets / "tiny-tuned")))
    with pytest.raises(CheckpointError, match="not a base"):
        registry.checkpoint("odd")


def test_a_config_that_is_not_json_is_said(assets: Path, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        look(Registry(assets, tmp_path), Wish(str(tmp_path / "odd")))
    (tmp_path / "odd" / "config.json").write_text(json.dumps({"model_type": "novel"}))
    with pytest.raises(CheckpointError, match="'novel'"):
        look(Registry(assets, tmp_path), Wish(str(tmp_path / "odd")))
