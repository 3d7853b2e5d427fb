"""How each family's talker is told what the thinker says (the comparison with ``generate`` is in the tests)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from wavalign.models.thinker_talker_network import Cue, OmniNetwork, Read


class Qwen25Network(OmniNetwork):
    """Qwen2.5-Omni: the talker reads the whole prompt and each word as the thinker's last hidden state plus embedding.

    ``voice`` is the id, in the thinker's vocabulary, that opens speech of the speaker.
    """

    def __init__(self, full: Any, voice: int) -> None:
        super().__init__(full)
        self.voice = voice

    def cue(self, read: Read, row: int, prompt: Sequence[int], words: int) -> Cue:
        """The opening is prompt, voice mark and first word; the lines are the other words, their end, and nothing."""
        size = len(prompt)
        ids = torch.tensor(prompt, device=self.device)
        # The talker hears recordings through the thinker alone, not through their encoding.
        embeds = read.embeds[row, :size].masked_fill((ids == self.thinker.config.audio_token_id)[:, None], 0)
        said = read.hidden[row, size : size + words] + read.embeds[row, size : size + words]
        marks = self.language_model.embed_tokens(
            torch.tensor([self.voice, self.talker.text_eos_token, self.talker.text_pad_token], device=self.device)
        )
        codec = self.talker.get_input_embeddings()(
            torch.tensor([self.talker.codec_pad_token, self.talker.codec_bos_token], device=self.device)
        )
        opening = [read.hidden[row, :size] + embeds, marks[:1] + codec[:1], said[:1] + codec[1:]]
        return Cue(torch.cat(opening), torch.cat([said[1:], marks[1:]]))

    def projected(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.talker.thinker_to_talker_proj(inputs)

    def code_embeds(self, frames: torch.Tensor) -> torch.Tensor:
        return self.talker.get_input_embeddings()(frames[..., 0])


class Qwen3Network(OmniNetwork):
    """Qwen3-Omni: the talker reads the user's turns (words as embeddings, recordings as a middle layer's hidden
    states) and the reply's words as embeddings; a code predictor makes the later books of each frame.

    ``voice`` is the talker's id of the speaker; ``marks`` are the thinker's ids of (start of turn, user) and of
    (speech begins, ends, nothing more to say).
    """

    def __init__(self, full: Any, voice: int, marks: tuple[int, ...]) -> None:
        super().__init__(full)
        self.voice = voice
        self.turn, self.user, self.speech_begins, self.speech_ends, self.nothing = marks
        layers = full.talker.config.accept_hidden_layer
        # With as many layers as there are, "after the last" means after the final norm too.
        self.middle_layer = None if layers == len(self.language_model.layers) else layers

    def cue(self, read: Read, row: int, prompt: Sequence[int], words: int) -> Cue:
        config, talker, size = self.talker.config, self.talker, len(prompt)
        heard = (read.hidden if read.middle is None else read.middle)[row, :size]
        ids = torch.tensor(prompt, device=self.device)
        mine = torch.tensor(self._by_user(prompt), device=self.device)
        recorded = (ids == self.thinker.config.audio_token_id)[:, None]
        # Both projections on all positions: data-dependent shapes would cost a synchronisation on a GPU.
        users = torch.where(recorded, talker.hidden_projection(heard), talker.text_projection(read.embeds[row, :size]))
        special = torch.tensor([self.speech_begins, self.speech_ends, self.nothing], device=self.device)
        begin, end, nothing = talker.text_projection(self.language_model.embed_tokens(special)).split(1)
        mark = talker.text_projection(read.embeds[row, size - 3 : size])
        said = talker.text_projection(read.embeds[row, size : size + words])
        codec = talker.get_input_embeddings()(
            torch.tensor(
                [
                    config.codec_nothink_id,
                    config.codec_think_bos_id,
                    config.codec_think_eos_id,
                    self.voice,
                    config.codec_pad_id,
                    config.codec_bos_id,
                ],
                device=self.device,
            )
        )
        told = torch.cat([nothing.expand(4, -1), begin, said[:1]]) + codec
        return Cue(torch.cat([users[mine], mark, told]), torch.cat([said[1:], end, nothing]))

    def _by_user(self, prompt: Sequence[int]) -> list[bool]:
        """Which positions are of a user's turn, its marks included."""
        mine, inside = [], False
        for place, token in enumerate(prompt):
            if token == self.turn:
                inside = prompt[place + 1 : place + 2] == [self.user]
            mine.append(inside)
        return mine

    def projected(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs

    def code_embeds(self, frames: torch.Tensor) -> torch.Tensor:
        return self.book_embeds(frames).sum(-2)

    def book_embeds(self, codes: torch.Tensor) -> torch.Tensor:
        tables = self.talker.code_predictor.get_input_embeddings()
        size = self.tokens.codes
        first = self.talker.get_input_embeddings()(self.tokens.talker_id(codes[..., 0]))
        # A row that has ended is drawn for until it is dropped, and its places are of no book.
        later = [
            tables[book - 1]((codes[..., book] - book * size).clamp(0, size - 1)) for book in range(1, codes.shape[-1])
        ]
        return torch.stack([first, *later], -2)
