"""The embedded model's tokenizer: a word for every word of the lexicon, and a named token for every code."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from wavalign.closedtalk.lexicon import lexicon

CODES = 2560
SPECIALS = (
    "<|pad|>",
    "<|bos|>",
    "<|eos|>",
    "<|unk|>",
    "<|user|>",
    "<|assistant|>",
    "<|begin_of_audio|>",
    "<|end_of_audio|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
)
#: Turns as they are rendered for the model; a spoken turn's content is its speech tokens between the audio marks.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }}"
    "{% if message['role'] == 'user' %} <|end_of_turn|>{% endif %} {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

DESCRIPTION: dict[str, object] = {
    "layout": "interleaved",
    "family": "closedtalk",
    "text_chunk": 4,
    "speech_chunk": 10,
    "pattern": "repeat",
    "chunk_begin": None,
    "chunk_end": None,
    "text_end": "<|end_of_text|>",
    "turn_end": "<|end_of_turn|>",
    "speech_first": "<|audio_0|>",
    "speech_count": CODES,
    "prompt": {
        "bos": "<|bos|>",
        "user": "<|user|>",
        "assistant": "<|assistant|>",
        "audio_begin": "<|begin_of_audio|>",
        "audio_end": "<|end_of_audio|>",
        "end_of_turn": "<|end_of_turn|>",
    },
    "codec": "../closedtalk-codec",
}


def make_tokenizer(words: Sequence[str] | None = None, codes: int = CODES) -> PreTrainedTokenizerFast:
    """Word level and lower-cased; an unknown word becomes ``<|unk|>``; the speech tokens are the last block.

    ``words`` None takes the closed lexicon.
    """
    known = lexicon() if words is None else words
    names = [*SPECIALS, *known, *(f"<|audio_{code}|>" for code in range(codes))]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<|unk|>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|bos|>",
        eos_token="<|end_of_turn|>",
        pad_token="<|pad|>",
        unk_token="<|unk|>",
        additional_special_tokens=list(SPECIALS[4:]),
    )
    made.chat_template = CHAT_TEMPLATE
    return made
