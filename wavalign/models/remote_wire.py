"""What goes to a chat service and what comes back, in every shape that OpenAI-compatible servers use."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue
from wavalign.models.protocol import GenerationError, Sampling
from wavalign.models.remote_description import RemoteDescription

_MOST_SENT_HZ = 24_000
DONE = "[DONE]"


@dataclass(frozen=True)
class Piece:
    """A part of a reply. ``transcript`` is text that goes with the speech, ``content`` text of its own: services send
    one, the other, or both with the same words. ``audio`` is base64, ``rate`` its rate in Hz where the service says it.
    """

    content: str = ""
    transcript: str = ""
    audio: str = ""
    rate: int | None = None
    end: str | None = None
    """Why a choice ended: stop, length, content_filter, ..."""


def request_body(description: RemoteDescription, dialogue: Dialogue, sampling: Sampling) -> dict[str, Any]:
    """The JSON of one request.

    Raises:
        GenerationError: when the dialogue holds a turn that cannot be sent.
    """
    if not dialogue.turns or dialogue.turns[-1].role != "user":
        raise GenerationError("A dialogue to answer ends with the user's turn.")
    dialect, streams = description.spoken, description.streams
    recordings: list[str] = []
    messages = [_message(turn, dialect.audio_in, recordings) for turn in dialogue.turns]
    if description.system:
        messages.insert(0, {"role": "system", "content": description.system})
    body: dict[str, Any] = {
        "model": description.model,
        "messages": messages,
        "modalities": ["text", "audio"],
        **description.extra,
    }
    if streams:
        body["stream"] = True
    voice = description.voice or dialect.voice
    if dialect.voice_field == "audio":
        body["audio"] = {"format": dialect.stream_format if streams else description.audio_format}
        if voice:
            body["audio"]["voice"] = voice
    elif voice:
        body[dialect.voice_field] = voice
    if recordings:
        body["audios"] = recordings
    for name in dialect.sampling if description.send is None else description.send:
        value = getattr(sampling, name)
        if name == "top_k" and value == 0:
            continue  # "all" is another number on every server
        body[name] = value % 2**31 if name == "seed" else value
    if description.max_tokens is not None:
        body[dialect.token_limit] = description.max_tokens
    return body


def _message(turn: Any, audio_in: str, recordings: list[str]) -> dict[str, Any]:
    if turn.role == "assistant":
        if turn.text is None:
            raise GenerationError("A remote checkpoint needs the words of the earlier replies, and one has none.")
        return {"role": "assistant", "content": turn.text or "…"}
    if turn.speech is None:  # codes of another model's codec are nothing to a service: it gets their transcript
        if turn.text is None:
            raise GenerationError("A remote checkpoint takes speech as a recording, and this turn has only codes.")
        return {"role": "user", "content": turn.text}
    data = _wav(turn.speech)
    if audio_in == "input_audio":
        part = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
        return {"role": "user", "content": [part]}
    address = f"data:audio/wav;base64,{data}"
    if audio_in == "audio_url":
        return {"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": address}}]}
    recordings.append(address)
    return {"role": "user", "content": ""}


def _wav(speech: Waveform) -> str:
    sent = speech.resampled(_MOST_SENT_HZ) if speech.sample_rate > _MOST_SENT_HZ else speech
    return base64.b64encode(sent.to_wav_bytes()).decode("ascii")


def completion_pieces(data: Any) -> Iterator[Piece]:
    """The parts of a whole chat completion: text and speech may be in one choice or in two.

    Raises:
        GenerationError: when it is an error, or no chat completion.
    """
    for choice in _choices(data):
        yield _piece(choice, choice.get("message"), spoken_content=False)


def events(lines: Iterable[str]) -> Iterator[str]:
    """The data of server-sent events (one ``[DONE]`` among them), from their lines."""
    held: list[str] = []
    for line in lines:
        if not line:
            if held:
                yield "\n".join(held)
                held = []
        elif line.startswith("data:"):
            held.append(line[5:].removeprefix(" "))
    if held:
        yield "\n".join(held)


def event_pieces(data: str) -> Iterator[Piece]:
    """The parts in one event of a stream.

    Raises:
        GenerationError: when it is an error, or not an event of a chat completion.
    """
    try:
        event = json.loads(data)
    except ValueError as error:
        raise GenerationError("The service's answer is not a chat completion: an event of it is not JSON.") from error
    if isinstance(event, dict) and event.get("choices") == [] and error_words(event) is None:
        return  # usage
    spoken = isinstance(event, dict) and event.get("modality") == "audio"  # vLLM-Omni: speech stands for content
    for choice in _choices(event):
        yield _piece(choice, choice.get("delta", choice.get("message")), spoken)


def error_words(data: Any) -> str | None:
    """What a body says of an error, in the shapes that services use; None when it says nothing."""
    if not isinstance(data, Mapping):
        return None
    told = data.get("error", data.get("detail"))
    if told is None and data.get("object") == "error":
        told = data.get("message")
    if isinstance(told, Mapping):
        told = told.get("message") or told.get("code")
    if isinstance(told, list) and told and isinstance(told[0], Mapping):
        told = told[0].get("msg")
    return str(told) if told else None


def _choices(data: Any) -> list[dict[str, Any]]:
    if (said := error_words(data)) is not None:
        raise GenerationError(f"The service could not answer: {said[:300]}")
    choices = data.get("choices") if isinstance(data, Mapping) else None
    if not isinstance(choices, list) or not all(isinstance(each, dict) for each in choices) or not choices:
        raise GenerationError("The service's answer is not a chat completion: it has no choices.")
    return choices


def _piece(choice: Mapping[str, Any], message: Any, spoken_content: bool) -> Piece:
    message = message if isinstance(message, Mapping) else {}
    content = _words(message.get("content"))
    sound = message.get("audio")
    sound = sound if isinstance(sound, Mapping) else {}
    data, transcript, rate = sound.get("data"), sound.get("transcript"), sound.get("sample_rate")
    if data is not None and not isinstance(data, str):
        raise GenerationError("The service sent speech that is not base64.")
    if data is not None and data.startswith("data:"):
        data = data.partition(",")[2]
    end = choice.get("finish_reason")
    return Piece(
        content="" if spoken_content else content or _words(message.get("refusal")),
        transcript=transcript if isinstance(transcript, str) else "",
        audio=(content if spoken_content else "") or data or "",
        rate=rate if isinstance(rate, int) and not isinstance(rate, bool) else None,
        end=end if isinstance(end, str) else None,
    )


def _words(content: Any) -> str:
    """A string, or the text of a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return ""
