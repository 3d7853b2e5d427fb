"""The tokenizer of a tiny Kimi-Audio: bytes, and marks behind them, behind the calls of the published one.

Like that one, it does not call its base's ``__init__``.
"""

import json
from pathlib import Path

from transformers.tokenization_utils import PreTrainedTokenizer


class TikTokenTokenizer(PreTrainedTokenizer):
    vocab_files_names = {"vocab_file": "marks.model"}  # noqa: RUF012

    def __init__(self, vocab_file, bos_token="[BOS]", **settings):
        marks = json.loads(Path(vocab_file).read_text(encoding="utf-8"))
        self.n_words = 256 + len(marks)
        self.special_tokens = {mark: 256 + index for index, mark in enumerate(marks)}
        self.bos_token = bos_token
        self.pad_token = marks[0]
        self.pad_id = self.special_tokens[self.pad_token]

    @property
    def vocab_size(self):
        return self.n_words

    def encode(self, text, *, bos, eos):
        return list(text.encode("utf-8"))

    def decode(self, ids):
        return bytes(index for index in ids if index < 256).decode("utf-8", errors="replace")
