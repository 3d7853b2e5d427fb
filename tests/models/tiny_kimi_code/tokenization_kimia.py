"""The tokenizer of a tiny Kimi-Audio: bytes, and marks behind them, behind the calls of the published one."""

import json
from pathlib import Path

from transformers import PreTrainedTokenizer


class TikTokenTokenizer(PreTrainedTokenizer):
    vocab_files_names = {"vocab_file": "marks.model"}  # noqa: RUF012

    def __init__(self, vocab_file, **settings):
        marks = json.loads(Path(vocab_file).read_text(encoding="utf-8"))
        self.n_words = 256 + len(marks)
        self.special_tokens = {mark: 256 + index for index, mark in enumerate(marks)}
        self.pad_id = 256
        super().__init__(**settings)

    @property
    def vocab_size(self):
        return self.n_words

    def get_vocab(self):
        return {**{f"<{index}>": index for index in range(256)}, **self.special_tokens}

    def encode(self, text, *, bos, eos):
        return list(text.encode("utf-8"))

    def decode(self, ids):
        return bytes(index for index in ids if index < 256).decode("utf-8", errors="replace")
