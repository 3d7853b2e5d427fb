"""What the app does with speech besides answering it: hearing, understanding, measuring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from app.conversation import Figures
from app.settings import Settings
from wavalign.audio import Waveform
from wavalign.dialogue import Reply

if TYPE_CHECKING:  # torch takes seconds to import: the page is up before it is
    from app.answering import Heard
    from wavalign.closedtalk.delivery import DeliveryReferences
    from wavalign.metrics.recogniser import Recogniser


@dataclass
class ClosedTalkSenses:
    """Hearing, understanding and measuring with what ships in ``assets``; what is not there is left out."""

    settings: Settings

    def load(self) -> None:
        """Loads the recogniser and the references now instead of at the first reply."""
        _ = self._recogniser, self._references

    @cached_property
    def _recogniser(self) -> Recogniser | None:
        folder = self.settings.assets / "closedtalk-recogniser"
        if not folder.is_dir():
            return None
        from wavalign.metrics.recogniser import Recogniser

        return Recogniser.from_pretrained(str(folder)).eval()

    @cached_property
    def _references(self) -> DeliveryReferences | None:
        path = self.settings.assets / "closedtalk-references.json"
        if not path.is_file():
            return None
        from wavalign.closedtalk.delivery import DeliveryReferences

        return DeliveryReferences.load(path)

    def wording(self, text: str) -> str:
        """Typed text in the words of the closed world, digits spelled out; empty when it holds no words."""
        from wavalign.closedtalk.normalising import normalise_typed

        return normalise_typed(text)

    def hear(self, waveform: Waveform) -> Heard | None:
        from app.answering import Heard

        if self._recogniser is None:
            return None
        transcript = self._recogniser.transcribe_with_confidence([waveform])[0]
        return Heard(transcript.text, transcript.fit)

    def knows(self, text: str, history: Sequence[str]) -> bool:
        from wavalign.closedtalk.understanding import Question, understand

        questions: list[Question] = []
        for earlier in history:
            question = understand(earlier, questions)
            if question is not None:
                questions.append(question)
        return understand(text, questions) is not None

    def gauge(self, reply: Reply) -> tuple[Figures, str | None]:
        from wavalign.metrics.measures import measure
        from wavalign.metrics.wer import word_error_rate

        waveform = reply.waveform
        if not len(waveform.samples):
            return Figures(), None
        measures = measure(waveform, reply.text)
        wer = None
        if self._recogniser is not None and reply.text:
            wer = word_error_rate(reply.text, self._recogniser.transcribe([waveform])[0])
        distances = self._references.distances_of(measures) if self._references is not None else None
        return (
            Figures(
                f0_median_hz=measures.f0_median_hz,
                f0_sd_semitones=measures.f0_sd_semitones,
                articulation_rate=measures.articulation_rate,
                energy_db=measures.energy_db,
                word_error_rate=wer,
            ),
            str(min(distances, key=distances.__getitem__)) if distances else None,
        )
