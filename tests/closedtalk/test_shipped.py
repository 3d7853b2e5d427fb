"""What lies in assets/ is what the cards say: open formats, small files, splits that do not overlap."""

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from evaluation.closedtalk_data import read_recordings
from wavalign import audio
from wavalign.closedtalk.dataset import read_dialogues
from wavalign.closedtalk.deliveries import Delivery
from wavalign.closedtalk.delivery import DeliveryReferences
from wavalign.closedtalk.users import HELD_OUT_VOICES, TRAIN_VOICES
from wavalign.closedtalk.world import is_unseen, item_of
from wavalign.models.registry import Registry

ASSETS = Path(__file__).parents[2] / "assets"
SPLITS = ("post_training", "validation", "held_out", "unseen_combinations")


@pytest.fixture(scope="module")
def splits() -> dict:
    return {split: read_dialogues(ASSETS / "closedtalk-data" / f"{split}.parquet") for split in SPLITS}


def test_no_signature_and_no_typed_wording_is_in_two_splits(splits: dict) -> None:
    signatures = {split: {row.signature for row in rows} for split, rows in splits.items()}
    for one, other in combinations(SPLITS, 2):
        assert not signatures[one] & signatures[other]


def test_held_out_voices_are_heard_nowhere_else(splits: dict) -> None:
    assert not set(HELD_OUT_VOICES) & set(TRAIN_VOICES)
    for split in ("held_out", "unseen_combinations"):
        assert {row.voice for row in splits[split] if not row.typed} <= set(HELD_OUT_VOICES)
    for split in ("post_training", "validation"):
        assert not {row.voice for row in splits[split]} & set(HELD_OUT_VOICES)


def test_unseen_combinations_are_asked_in_their_own_split_only(splits: dict) -> None:
    for split, rows in splits.items():
        unseen = [is_unseen(item_of(turn.item)) for row in rows for turn in row.turns]
        assert all(unseen) if split == "unseen_combinations" else not any(unseen)


def test_half_of_held_out_is_phrased_as_training_never_is(splits: dict) -> None:
    share = np.mean([row.phrasing == "unseen" for row in splits["held_out"]])
    assert 0.4 < share < 0.6
    assert all(row.phrasing == "seen" for row in splits["post_training"])


def test_every_file_is_under_ten_megabytes() -> None:
    for path in ASSETS.rglob("*"):
        assert path.is_dir() or path.stat().st_size < 10_000_000, path


def test_the_base_opens_and_generates_without_our_code(tmp_path: Path) -> None:
    script = (
        # All that is ours here: torchaudio's CUDA build beside a CPU torch would break transformers itself.
        "import sys, torch, wavalign.torchaudio_guard\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"folder = {str(ASSETS / 'closedtalk-base')!r}\n"
        "model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        "chat = [{'role': 'user', 'content': 'what is the capital of france'}]\n"
        "prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)\n"
        "ids = tokenizer(prompt, return_tensors='pt', add_special_tokens=False).input_ids\n"
        "assert tokenizer.unk_token_id not in ids[0].tolist()\n"
        "out = model.generate(ids, do_sample=False, max_new_tokens=200)[0, ids.shape[1]:]\n"
        "assert not any(name.startswith('wavalign.models') for name in sys.modules)\n"
        "print(tokenizer.decode(out))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ASSETS.parent)}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("the capital of france <|audio_")
    # Four words, then speech: the layout shows in plain generation too.


def test_references_tell_the_deliveries_of_shipped_renderings_apart() -> None:
    references = DeliveryReferences.load(ASSETS / "closedtalk-references.json")
    recordings = read_recordings(ASSETS, "assistant_domain", 40)
    right = [references.classify(r.waveform, r.text) is r.delivery for r in recordings]
    assert {r.delivery for r in recordings} == set(Delivery)
    assert np.mean(right) >= 0.9


def test_examples_are_recordings_that_sound() -> None:
    listing = json.loads((ASSETS / "examples" / "examples.json").read_text())
    assert len(listing) >= 4
    for entry in listing:
        waveform = audio.read(ASSETS / "examples" / entry["audio"])
        assert waveform.seconds > 0.5
        assert waveform.peak() > 0.05


def test_every_shipped_checkpoint_loads() -> None:
    registry = Registry(ASSETS)
    assert "closedtalk-base" in registry.names()
    for name in registry.names():
        registry.load([name])
