"""What is in memory: estimated before, shared, put away when it is not used, and told while it is loaded."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests import tiny
from tests.models.chat_service import RATE, b64, chat_service, tone, wav, whole
from wavalign.dialogue import Dialogue, Turn
from wavalign.models import memory, memory_estimate, registry_layouts, registry_opening
from wavalign.models.memory_estimate import (
    cache_bytes,
    decoders,
    estimate,
    estimate_folder,
    in_words,
    of_header,
    of_parameters,
    stored_in,
)
from wavalign.models.protocol import CheckpointError, GenerationError, Request, Sampling
from wavalign.models.registry import Registry
from wavalign.models.registry_bases import LoadedBases, budget_of, footprint
from wavalign.models.registry_entries import Entry
from wavalign.models.remote import RemoteModel
from wavalign.models.remote_description import RemoteDescription
from wavalign.models.together import TogetherModel

ASKED = Dialogue((Turn("user", text="what is two plus two"),))
SHORT = Sampling(temperature=0.0, max_tokens=40, max_seconds=0.5)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and an adapter on it that are in no place where checkpoints are looked for."""
    folder = tmp_path_factory.mktemp("elsewhere")
    tiny.make_tiny_checkpoint(folder / "second", seed=5)
    tiny.make_tiny_adapter(folder / "second-tuned", folder / "second")
    return folder


@pytest.fixture
def two_bases(assets: Path, elsewhere: Path, tmp_path: Path) -> Path:
    """A home whose ``checkpoints.yaml`` names a second base and an adapter on it."""
    home = tmp_path / "home"
    entries = Registry(assets, home).entries
    entries.add("other-base", Entry(source=str(elsewhere / "second")))
    entries.add("other-tuned", Entry(base="other-base", adapter=str(elsewhere / "second-tuned")))
    return home


def test_weights_are_counted_exactly(tmp_path: Path) -> None:
    """2 x 3 float32 = 24 bytes, 4 bfloat16 = 8, 10 int8 = 10; in float32: 24 + 16 + 10, in bfloat16: 12 + 8 + 10."""
    tensors = {
        "a": torch.zeros(2, 3),
        "b": torch.zeros(4, dtype=torch.bfloat16),
        "c": torch.zeros(10, dtype=torch.int8),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    stored = stored_in(tmp_path / "model.safetensors")
    assert (stored.loaded(None), stored.loaded(4), stored.loaded(2)) == (42, 50, 30)
    assert of_parameters({"F32": 6, "BF16": 4, "I8": 10}) == stored
    assert of_header({"__metadata__": {}, "a": {"dtype": "F32", "shape": [2, 3]}}).loaded(None) == 24


def test_parts_of_an_older_upload_are_not_counted(tmp_path: Path) -> None:
    """Two uploads of one model in one folder; the index names the first, of 24 bytes in each part."""
    for name in ("model-00001-of-00002", "model-00002-of-00002", "model-00001-of-00001"):
        save_file({"a": torch.zeros(2, 3)}, tmp_path / f"{name}.safetensors")
    assert estimate_folder(tmp_path).weights == 3 * 24
    named = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}), encoding="utf-8")
    assert estimate_folder(tmp_path).weights == 2 * 24


def test_caches_by_hand() -> None:
    """2 (keys, values) x 28 layers x 4 heads x 128 x 4096 tokens x 2 replies x 2 bytes = 469 762 048 (Qwen2.5-7B)."""
    qwen = {"num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "hidden_size": 3584}
    assert cache_bytes(qwen, 2) == 469_762_048
    nested = {"thinker_config": {"text_config": {**qwen, "vocab_size": 9}}, "audio_config": {**qwen, "vocab_size": 9}}
    assert len(list(decoders(nested))) == 1
    told = estimate(of_parameters({"BF16": 7_600_000_000}), {**qwen, "vocab_size": 9}, "auto", "cuda")
    assert told.weights == 15_200_000_000
    assert in_words(told.total) == "17 GB"
    assert cache_bytes({"num_hidden_layers": "many"}, 2) == 0


def test_a_folder_that_is_not_there_is_one_sentence_and_exit_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["memory_estimate", str(tmp_path / "nope")])
    with pytest.raises(SystemExit) as end:
        memory_estimate.main()
    assert end.value.code == f"There is no folder {tmp_path / 'nope'}."  # a string is printed, and the code is 1


def test_the_estimate_of_the_weights_is_what_loading_takes(assets: Path) -> None:
    model = Registry(assets).load(["tiny-base"])
    weights = estimate_folder(assets / "tiny-base").weights
    assert 0.95 <= weights / footprint(model.base) <= 1.05


def test_checkpoints_that_are_listed_load_like_folders(assets: Path, two_bases: Path) -> None:
    registry = Registry(assets, two_bases)
    assert registry.names() == ("other-base", "tiny-base", "other-tuned", "tiny-other", "tiny-tuned")
    model = registry.load(["other-base", "other-tuned"])
    replies = model.reply_many([Request(ASKED, name, SHORT) for name in model.names])
    assert replies[0].tokens != replies[1].tokens
    assert registry.default_sampling("other-tuned").max_tokens == 60
    with pytest.raises(CheckpointError, match="different bases"):
        registry.load(["other-base", "tiny-base"])


def test_dtype_and_device_are_as_chosen(assets: Path, two_bases: Path, elsewhere: Path) -> None:
    registry = Registry(assets, two_bases)
    source = str(elsewhere / "second")
    registry.entries.add("half", Entry(source=source, dtype="bfloat16", device="cpu"))
    network = registry.load(["half"]).base.network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    registry.entries.add("far-device", Entry(source=source, device="cuda:63"))
    with pytest.raises(CheckpointError, match="no device cuda:63"):
        registry.load(["far-device"])


def test_the_least_recently_used_gives_way(assets: Path, two_bases: Path) -> None:
    registry = Registry(assets, two_bases, budget=250_000_000)  # one estimate (about 70 MB of work) fits, two do not
    registry.bases.budget = estimate_folder(assets / "tiny-base").total + 1_000_000
    registry.load(["tiny-base"])
    registry.load(["other-base"])
    assert [each.name for each in registry.bases.all()] == ["other-base", "tiny-base"]  # both are really small
    registry.bases.budget = estimate_folder(assets / "tiny-base").total
    registry.unload("other-base")
    registry.load(["other-base"])
    assert [each.name for each in registry.bases.all()] == ["other-base"]
    assert registry.load(["tiny-tuned"]).names == ("tiny-tuned",)
    assert [each.name for each in registry.bases.all()] == ["tiny-base"]


def test_what_answers_is_not_put_away(assets: Path, two_bases: Path) -> None:
    registry = Registry(assets, two_bases, budget=estimate_folder(assets / "tiny-base").total)
    registry.load(["tiny-base"])
    with registry.using(["tiny-tuned"]):
        registry.load(["other-base"])
        assert {each.name for each in registry.bases.all()} == {"tiny-base", "other-base"}
        with pytest.raises(CheckpointError, match="answering right now"):
            registry.unload("tiny-base")
    registry.unload("tiny-base")
    assert [each.name for each in registry.bases.all()] == ["other-base"]


def test_what_cannot_fit_is_refused_before_it_is_read(assets: Path) -> None:
    registry = Registry(assets, budget=10_000)
    with pytest.raises(CheckpointError, match=r'"tiny-base" needs about .* MB.*WAVALIGN_MODEL_MEMORY'):
        registry.load(["tiny-base"])
    assert registry.bases.all() == ()


def test_memory_that_runs_out_while_loading_is_explained_and_the_rest_goes_on(
    assets: Path, two_bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(assets, two_bases)
    registry.load(["tiny-base"])
    opened, tries = registry_layouts.Layout.opened, []

    class Full:
        """The GPU at its edge: as torch says it, wrapped as the loader wraps it."""

        def load_base(self, *args: object) -> None:
            tries.append(args)
            try:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            except RuntimeError as error:
                raise CheckpointError("cannot be loaded") from error

    monkeypatch.setattr(registry_layouts.Layout, "opened", lambda self: Full())
    with pytest.raises(CheckpointError, match=r'Memory ran out while "other-base" was loaded'):
        registry.load(["other-base"])
    assert len(tries) == 2  # once more when the idle base had been put away
    monkeypatch.setattr(registry_layouts.Layout, "opened", opened)
    assert registry.load(["other-base"]).reply_many([Request(ASKED, "other-base", SHORT)])


def test_what_running_out_of_memory_looks_like() -> None:
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"),
    ):
        assert memory.is_out_of_memory(error)
    assert not memory.is_out_of_memory(RuntimeError("shapes do not match"))
    assert memory.free_bytes("cpu") <= memory.total_bytes("cpu")


def test_an_adapter_that_was_replaced_is_loaded_anew(assets: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "mine"
    tiny.make_tiny_adapter(folder, assets / "tiny-base", seed=1)
    registry = Registry(assets, tmp_path)
    before = registry.load(["mine"]).reply_many([Request(ASKED, "mine", SHORT)])
    shutil.rmtree(folder)
    tiny.make_tiny_adapter(folder, assets / "tiny-base", seed=9)
    after = registry.load(["mine"]).reply_many([Request(ASKED, "mine", SHORT)])
    fresh = Registry(assets, tmp_path).load(["mine"]).reply_many([Request(ASKED, "mine", SHORT)])
    assert after[0].tokens == fresh[0].tokens != before[0].tokens


def test_loading_is_told_while_it_happens(assets: Path) -> None:
    registry = Registry(assets)
    seen, opened = [], registry_opening.opened

    def watched(*args: object) -> object:
        *rest, tell = args
        told = opened(*rest, lambda words, share=None: (tell(words, share), seen.extend(registry.board.all())))
        return told

    registry_opening.opened = watched
    try:
        registry.load(["tiny-base"])
    finally:
        registry_opening.opened = opened
    assert seen[-1].name == "tiny-base"
    assert [each.fraction for each in seen] == sorted(each.fraction for each in seen)
    assert seen[-1].fraction == 1.0
    assert "100 %" in seen[-1].sentence()
    assert registry.board.all() == ()


def test_the_budget_is_in_gigabytes() -> None:
    assert budget_of({"WAVALIGN_MODEL_MEMORY": "24"}) == 24_000_000_000
    assert budget_of({}) is None
    with pytest.raises(CheckpointError, match="WAVALIGN_MODEL_MEMORY"):
        budget_of({"WAVALIGN_MODEL_MEMORY": "lots"})
    assert LoadedBases(5).budget == 5


def test_only_what_is_the_homes_own_can_be_removed(assets: Path, two_bases: Path, elsewhere: Path) -> None:
    registry = Registry(assets, two_bases)
    with pytest.raises(CheckpointError, match='"other-tuned" stands on "other-base"'):
        registry.remove("other-base")
    for name in ("tiny-base", "tiny-tuned"):
        with pytest.raises(CheckpointError, match=r"ships with the app|stands on"):
            registry.remove(name)
    registry.load(["other-tuned"])
    registry.remove("other-tuned")
    registry.remove("other-base")
    assert "other-base" not in registry.names()
    assert registry.bases.all() == ()
    assert (elsewhere / "second").is_dir()
    folder = two_bases / "checkpoints" / "promoted"
    tiny.make_tiny_adapter(folder, assets / "tiny-base")
    assert "deleted" in registry.remove("promoted")
    assert list((two_bases / "checkpoints").iterdir()) == []
    run = two_bases / "runs" / "first" / "adapter"
    tiny.make_tiny_adapter(run, assets / "tiny-base")
    with pytest.raises(CheckpointError, match="delete the run"):
        registry.remove("first")


def test_what_a_run_made_meets_others_once_it_is_promoted(assets: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "runs" / "first" / "adapter", tmp_path / "checkpoints" / "first-v1"):
        tiny.make_tiny_adapter(folder, assets / "tiny-base")
    registry = Registry(assets, tmp_path)
    assert not registry.checkpoint("first").arena
    assert registry.checkpoint("first-v1").arena


CONFIGS = {
    "only hears": ({"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}, "only transcribes"),
    "unknown": ({"model_type": "novel"}, "not a checkpoint of a layout"),
    "no config": (None, "neither"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_layout_that_is_not_known_is_said(kind: str) -> None:
    config, words = CONFIGS[kind]
    with pytest.raises(CheckpointError, match=words):
        registry_layouts.layout_of({"model.safetensors"}, config, "mine")


def test_code_of_a_checkpoint_does_not_run_unless_the_host_allows_it(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(assets / "tiny-codec", tmp_path / "tiny-codec")
    folder = shutil.copytree(assets / "tiny-base", tmp_path / "coded")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "novel", "auto_map": {"AutoConfig": "novel.Config", "AutoModelForCausalLM": "novel.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    ran = tmp_path / "ran"
    (folder / "novel.py").write_text(f"open({str(ran)!r}, 'w')\n")
    with pytest.raises(CheckpointError, match=rf"WAVALIGN_TRUST_REMOTE_CODE={folder}"):
        Registry(tmp_path).load(["coded"])
    assert not ran.exists()
    monkeypatch.setenv("WAVALIGN_TRUST_REMOTE_CODE", str(folder))
    with pytest.raises(CheckpointError, match="cannot be loaded"):  # its code was run, and holds no such class
        Registry(tmp_path).load(["coded"])
    assert ran.exists()


def test_two_bases_and_a_service_answer_together(assets: Path, two_bases: Path) -> None:
    registry = Registry(assets, two_bases)
    answer = whole({"content": "Four.", "audio": {"data": b64(wav(tone()))}})
    names = ("other-tuned", "far", "tiny-base", "other-base")
    with chat_service(lambda number, body: answer) as service:
        far = RemoteModel("far", RemoteDescription(url=service.url, model="m"))
        model = TogetherModel([registry.load(["other-base", "other-tuned"]), far, registry.load(["tiny-base"])])
        requests = [Request(ASKED, name, SHORT) for name in names]
        stream, texts = model.stream_many(requests), [""] * 4
        while True:
            try:
                chunks = next(stream)
            except StopIteration as end:
                replies = end.value
                break
            for place, chunk in enumerate(chunks):
                texts[place] += chunk.text if chunk else ""
        alone = registry.load(["tiny-base"]).reply_many([requests[2]])
    assert replies[1].text == "Four."
    assert replies[1].waveform.sample_rate == RATE
    assert replies[2].tokens == alone[0].tokens
    assert np.array_equal(replies[2].waveform.samples, alone[0].waveform.samples)
    assert [text.strip() for text in texts] == [reply.text.strip() for reply in replies]
    assert len(service.requests) == 1
    with pytest.raises(GenerationError, match="not loaded"):
        model.reply_many([Request(ASKED, "nobody", SHORT)])


def test_when_one_side_fails_the_other_ends_and_a_stop_reaches_both(assets: Path) -> None:
    held = threading.Event()
    with chat_service(lambda number, body: whole({"content": "x"}, status=400 if number == 0 else 200)) as service:
        far = RemoteModel("far", RemoteDescription(url=service.url, model="m"))
        model = TogetherModel([Registry(assets).load(["tiny-base"]), far])
        requests = [Request(ASKED, "tiny-base", SHORT), Request(ASKED, "far", SHORT)]
        with pytest.raises(GenerationError, match="status 400"):
            model.reply_many(requests)
        held.set()
        replies = model.reply_many(requests, held)  # stopped before it began: what came is kept
    assert len(replies) == 2
