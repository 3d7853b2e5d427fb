"""Stage ``ship``: trained weights and data as the folders under assets/ that everything else loads."""

from __future__ import annotations

import io
import itertools
import json
import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import torch
from peft import PeftModel
from tqdm import tqdm
from transformers import LlamaForCausalLM

from wavalign.audio import Waveform
from wavalign.closedtalk import other_voices
from wavalign.closedtalk.build.cards import base_card, codec_card, data_card, recogniser_card, tuned_card
from wavalign.closedtalk.build.tokenizer import DESCRIPTION, make_tokenizer
from wavalign.closedtalk.build.tokens import Encoder
from wavalign.closedtalk.dataset import read_dialogues, write_dialogues
from wavalign.closedtalk.deliveries import Delivery, Tone
from wavalign.closedtalk.delivery import DeliveryReferences
from wavalign.closedtalk.dialogues import dialogue_spec
from wavalign.closedtalk.families import FAMILIES
from wavalign.closedtalk.lexicon import balanced_word_strings
from wavalign.closedtalk.synthesis import speak, speak_assistant
from wavalign.closedtalk.users import DIGITS, Speaker, UserStudio, espeak_setting
from wavalign.closedtalk.world import answer, learnable_items
from wavalign.codecs.fsq_world import FsqWorldCodec
from wavalign.metrics.recogniser import Recogniser

#: Default sampling: words with some freedom, sound with little (see the card).
SAMPLING = {"temperature": 0.7, "speech_temperature": 0.3, "top_p": 0.95, "max_seconds": 8.0, "max_tokens": 320}
EXAMPLES = (
    ("what is seven plus five", Tone.PLAIN),
    ("what is the capital of france in an excited voice", Tone.PLAIN),
    ("what sound does a cow make", Tone.SLOW_LOW),
    ("which is bigger two or six in a sad voice", Tone.PLAIN),
    ("what is the opposite of hot", Tone.FAST_HIGH),
    ("what day comes after monday in a happy voice", Tone.PLAIN),
)


def ogg(waveform: Waveform, compression: float = 0.2) -> bytes:
    """Ogg Opus; ``compression`` 0 is the best quality, 1 the smallest file."""
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        np.clip(waveform.samples, -1, 1),
        waveform.sample_rate,
        format="OGG",
        subtype="OPUS",
        compression_level=compression,
    )
    return buffer.getvalue()


def ship_codec(codec: FsqWorldCodec, assets: Path, made: str) -> None:
    """fp16 keeps the file under 10 MB; every later stage encodes with the rounded weights, loaded as float32."""
    folder = assets / "closedtalk-codec"
    codec.cpu().eval().half().save_pretrained(str(folder))
    (folder / "README.md").write_text(codec_card(made))


def ship_recogniser(model: Recogniser, assets: Path, made: str) -> None:
    folder = assets / "closedtalk-recogniser"
    model.cpu().eval().half().save_pretrained(str(folder))
    (folder / "README.md").write_text(recogniser_card(made))


def ship_base(model: LlamaForCausalLM, assets: Path, made: str) -> None:
    """fp16 keeps the file under 10 MB; it is loaded as float32."""
    folder = assets / "closedtalk-base"
    model = model.cpu().eval()
    model.generation_config.update(
        do_sample=True, temperature=0.7, top_p=0.95, max_new_tokens=320, bos_token_id=1, eos_token_id=9, pad_token_id=0
    )
    model.to(torch.float16).save_pretrained(str(folder))
    make_tokenizer().save_pretrained(str(folder))
    (folder / "interleaved.json").write_text(json.dumps({**DESCRIPTION, "sampling": SAMPLING}, indent=2) + "\n")
    (folder / "provenance.json").write_text(json.dumps({"made_by": made}, indent=2) + "\n")
    (folder / "README.md").write_text(base_card(made))


def ship_tuned(model: PeftModel, assets: Path, made: str) -> None:
    """A plain PEFT folder that names its base beside it."""
    folder = assets / "closedtalk-sft"
    model.peft_config["default"].base_model_name_or_path = "../closedtalk-base"
    model.cpu().eval().save_pretrained(str(folder))
    provenance = {"made_by": made, "data": "closedtalk-data/post_training.parquet, right answers", "recipe": "sft"}
    (folder / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    (folder / "README.md").write_text(tuned_card(made))


def ship_references(codec: FsqWorldCodec, assets: Path, answers: int) -> None:
    """Measured on ``answers`` right answers from all families, as synthesised and after the codec's round trip."""
    rng = random.Random(5)
    items = rng.sample([item for name in FAMILIES for item in learnable_items(name)], answers)

    def samples() -> Iterator[tuple[Delivery, Waveform, str]]:
        for item, delivery in tqdm(list(itertools.product(items, Delivery)), desc="references"):
            text = answer(item)
            spoken = speak_assistant(text, delivery)
            yield delivery, spoken, text
            yield delivery, codec.decode(codec.encode_reply(spoken)), text

    DeliveryReferences.fit(samples()).save(assets / "closedtalk-references.json")


def ship_data(encoder: Encoder, assets: Path, split_sizes: Mapping[str, int], listening_clips: int) -> None:
    folder = assets / "closedtalk-data"
    for split, count in split_sizes.items():
        path = folder / f"{split}.parquet"
        if not path.exists():
            specs = (dialogue_spec(split, index) for index in range(count))
            rows = (row for spec in tqdm(specs, desc=split, total=count) for row in encoder.rows(spec))
            write_dialogues(path, rows)
    _ship_listening(encoder, folder, listening_clips)
    (folder / "README.md").write_text(data_card())


def _ship_listening(encoder: Encoder, folder: Path, clips: int) -> None:
    """The first recordings of the shipped splits, for ears."""
    audio = folder / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    for split in ("post_training", "held_out"):
        spoken = [row for row in read_dialogues(folder / f"{split}.parquet", 200) if not row.typed][: clips // 2]
        for row in spoken:
            spec = dialogue_spec(split, row.index)
            for number in range(len(row.turns)):
                path = audio / f"{split}-{row.index:04d}-{number}.ogg"
                path.write_bytes(ogg(encoder.recording(spec, number), 0.8))


def ship_evaluation_audio(encoder: Encoder, assets: Path, clips: int) -> None:
    """Recordings for the figures of codec, recogniser and probes, none of them from the training splits."""
    columns: dict[str, list] = {name: [] for name in ("id", "kind", "text", "delivery", "source", "ogg")}
    recordings = list(_evaluation_clips(encoder, clips))
    for kind, text, delivery, source, waveform in tqdm(recordings, desc="evaluation audio"):
        columns["id"].append(f"{kind}-{len(columns['id']):04d}")
        columns["kind"].append(kind)
        columns["text"].append(text)
        columns["delivery"].append(delivery)
        columns["source"].append(source)
        columns["ogg"].append(ogg(waveform, 0.8))
    path = assets / "closedtalk-data" / "evaluation_audio.parquet"
    pq.write_table(pa.table(columns), path, compression="none")


def _evaluation_clips(encoder: Encoder, clips: int) -> Iterator[tuple[str, str, str | None, str, Waveform]]:
    deliveries = list(Delivery)
    studio = encoder.studio
    for index, text in enumerate(balanced_word_strings(seed=91, count=clips, words_per_string=5)):
        delivery = deliveries[index % len(deliveries)]
        yield "assistant_balanced", text, delivery.value, "espeak", speak_assistant(text, delivery)
    for index in range(clips):
        turn = dialogue_spec("held_out", 50_000 + index).turns[0]
        yield (
            "assistant_domain",
            turn.answer,
            turn.delivery.value,
            "espeak",
            speak_assistant(turn.answer, turn.delivery),
        )
    found = 0
    for index in itertools.count(60_000):
        spec = dialogue_spec("held_out", index)
        if found < clips and not spec.typed:
            yield "user_heldout", spec.turns[0].text, None, "espeak", encoder.recording(spec, 0)
            found += 1
        if found == clips:
            break
    if studio.human:
        yield from _human_probe(studio, clips)
    if shutil.which("text2wave"):
        yield from _festival_probe(studio, clips)


def _human_probe(studio: UserStudio, clips: int) -> Iterator[tuple[str, str, str | None, str, Waveform]]:
    """Questions whose digits the fourth speaker says, in carrier sentences of unseen voices."""
    found = 0
    for index in itertools.count(70_000):
        if found == clips:
            return
        text = dialogue_spec("held_out", index).turns[0].text
        if not DIGITS & set(text.split()):
            continue
        rng = random.Random(f"human probe/{index}")
        espeak = studio.speaker(rng.getrandbits(31), True, [text], True)
        setting = espeak_setting(espeak.voice, Tone.PLAIN, espeak.formant, rng)
        spoken = studio.human.splice(text, lambda words, s=setting: speak(words, s), other_voices.PROBE_SPEAKER, rng)
        speaker = Speaker("human", other_voices.PROBE_SPEAKER, 1.0, rng.getrandbits(31))
        yield "probe_human", text, None, f"human/{other_voices.PROBE_SPEAKER}", studio.recorded(spoken, speaker, 0)
        found += 1


def _festival_probe(studio: UserStudio, clips: int) -> Iterator[tuple[str, str, str | None, str, Waveform]]:
    for index in range(clips * 2 // 3):
        text = dialogue_spec("held_out", 80_000 + index).turns[0].text
        voice = other_voices.FESTIVAL_VOICES[index % len(other_voices.FESTIVAL_VOICES)]
        speaker = Speaker("festival", voice, 1.0, 900_000 + index)
        clean = studio.clean(text, Tone.PLAIN, speaker, 0)
        yield "probe_festival", text, None, f"festival/{voice}", studio.recorded(clean, speaker, 0)


def ship_examples(studio: UserStudio, assets: Path) -> None:
    """Questions with recordings for the page, in clean unseen voices."""
    folder = assets / "examples"
    folder.mkdir(parents=True, exist_ok=True)
    listing = []
    for number, (text, tone) in enumerate(EXAMPLES):
        speaker = studio.speaker(4000 + number, True, [text], True)
        name = f"{number + 1}-{'-'.join(text.split()[:6])}.ogg"
        (folder / name).write_bytes(ogg(studio.clean(text, tone, speaker, 0), 0.7))
        listing.append({"text": text, "audio": name})
    (folder / "examples.json").write_text(json.dumps(listing, indent=2) + "\n")
