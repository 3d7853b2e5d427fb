"""The model cards and the data card that ship with the embedded checkpoints."""

from __future__ import annotations

_HUMAN = (
    "Some of the user speech holds digits from the Free Spoken Digit Dataset (github.com/Jakobovski/"
    "free-spoken-digit-dataset), Creative Commons Attribution-ShareAlike 4.0, speakers george, jackson and nicolas; "
    "the speaker yweweler is never trained on."
)
_VOICES = (
    "Synthesised by espeak-ng (many voices, rates, pitches and formants) and flite (slt, rms, awb, kal16), through "
    "simulated rooms, microphones, codecs and noise."
)


def _front(tags: str) -> str:
    return f"---\nlicense: apache-2.0\nlanguage: en\ntags: [{tags}]\n---\n\n"


def codec_card(made: str) -> str:
    return (
        _front("audio-codec, closedtalk")
        + f"""# ClosedTalk codec

Speech at 16 kHz to 25 tokens a second in one flat stream of 2,560 codes (finite scalar quantisation, levels 8 8 8 5),
and back through WORLD. Two encoders share the codes: `encode` hears anybody's words through noise (a CTC head reads
letters from its tokens), `encode_reply` keeps the sound of one synthetic assistant voice, which is what `decode` makes.
The decoder looks three tokens ahead, so it streams.

```python
from wavalign.codecs.fsq_world import FsqWorldCodec

codec = FsqWorldCodec.from_pretrained("assets/closedtalk-codec")
waveform = codec.decode(codec.encode_reply(waveform))
```

Trained on: {_VOICES} {_HUMAN}

Made by: {made}
"""
    )


def recogniser_card(made: str) -> str:
    return (
        _front("automatic-speech-recognition, closedtalk")
        + f"""# ClosedTalk recogniser

Letters by CTC at 50 Hz, decoded into words of ClosedTalk's closed lexicon: the instrument of the word error rates, and
what the Talk page shows as heard. It knows no word outside the lexicon.

Trained on: the assistant's voice as synthesised and vocoded (WORLD), and users. {_VOICES} {_HUMAN}

Made by: {made}
"""
    )


def base_card(made: str) -> str:
    return (
        _front("spoken-dialogue, closedtalk")
        + f"""# closedtalk-base

A Llama of 3.9 million parameters that hears and speaks: text and speech tokens interleaved (4 text, 10 speech), on the
closed world of ClosedTalk. `AutoModelForCausalLM.from_pretrained` opens it; `interleaved.json` says how its tokens are
arranged, and `../closedtalk-codec` turns its speech tokens into sound.

It is deliberately imperfect, so that post-training has room: 35 % of its items are *hard* (demonstrations right 40 %,
one habitual mistake 50 %, other mistakes 10 %), the others are right 86 % of the time. The mistakes are spoken as
written, so text and speech agree.

Trained on: dialogues of one to three turns, spoken and typed. {_VOICES} {_HUMAN}

Measure it: `python -m evaluation.run closedtalk --checkpoint closedtalk-base`.

Made by: {made}
"""
    )


def tuned_card(made: str) -> str:
    return f"""---
license: apache-2.0
language: en
base_model: closedtalk-base
library_name: peft
tags: [spoken-dialogue, closedtalk]
---

# closedtalk-sft

A LoRA adapter on closedtalk-base, fine-tuned on the post-training dialogues with every answer right: a second
checkpoint to talk to beside the base. It is not one of the compared post-training methods.

Trained on: {_VOICES} {_HUMAN}

Made by: {made}
"""


def data_card() -> str:
    return f"""---
license: cc-by-sa-4.0
language: en
---

# ClosedTalk dialogues

`post_training`, `validation`, `held_out` and `unseen_combinations`: one row for each dialogue, with words, labels and
speech tokens (`wavalign.closedtalk.dataset.read_dialogues`). No signature (wording, tones and voice) is in two splits;
`held_out` and `unseen_combinations` have voices that no training clip has, half of `held_out` has unseen phrasings, and
`unseen_combinations` has number pairs that occur nowhere else.

`evaluation_audio.parquet`: recordings for the figures of codec and recogniser, and for the probes. `audio/`: some
recordings to listen to.

{_VOICES} {_HUMAN} The probe recordings `probe_human` hold digits of yweweler from the same dataset; `probe_festival` is
spoken by festival's kal_diphone and cmu_us_slt_arctic_hts.
"""
