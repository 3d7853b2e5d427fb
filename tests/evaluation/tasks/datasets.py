"""Tiny data sets in the published schemas, and what judges and replies a test needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.tasks.protocol import Said, TaskContext
from tests.rewards.judge_server import Answer
from wavalign import audio
from wavalign.audio import Waveform
from wavalign.rewards.config import JudgeConfig

AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def tone(seconds: float = 0.1, rate: int = 16_000) -> Waveform:
    return Waveform(0.1 * np.sin(2 * np.pi * 220 * np.arange(int(seconds * rate)) / rate), rate)


def parquet(path: Path, rows: Sequence[Mapping[str, Any]], audio_column: str = "audio") -> None:
    """Rows with the hub's audio struct: the recording's bytes, and a path that leads nowhere."""
    struct = [{"bytes": tone().to_wav_bytes(), "path": f"{n}.wav"} for n in range(len(rows))]
    columns = {name: pa.array([row.get(name) for row in rows]) for name in dict.fromkeys(n for r in rows for n in r)}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({audio_column: pa.array(struct, AUDIO), **columns}), path)


def wav(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, tone())


def said(text: str, transcript: str | None = None, waveform: Waveform | None = None, seed: int = 0) -> Said:
    return Said(text, transcript, waveform, seed)


def context(judge_url: str | None = None, cache: Path | None = None, **data: Path | str) -> TaskContext:
    """Task names are given with underscores for their dashes."""
    judge = None
    if judge_url:
        judge = JudgeConfig(url=judge_url, model="ears-1", attempts=2, backoff_s=0.0, concurrency=4)
    sources = {name.replace("_", "-"): str(source) for name, source in data.items()}
    return TaskContext(Path("assets"), sources, judge, cache)


def score_of(score: object) -> Answer:
    return Answer(words=f"Thought about it. <score>{score}</score>")


def words_of(body: Mapping[str, Any]) -> str:
    """All text of a request to the judge."""
    parts = body["messages"][1]["content"]
    return "\n".join([body["messages"][0]["content"], *(part["text"] for part in parts if part["type"] == "text")])


def recordings_of(body: Mapping[str, Any]) -> int:
    return sum(part["type"] == "input_audio" for part in body["messages"][1]["content"])


def voicebench(folder: Path) -> Path:
    """All nine subsets, a few rows each, in the hub's layout."""

    def write(name: str, *rows: Mapping[str, Any]) -> None:
        parquet(folder / f"{name}-00000-of-00001.parquet", rows)

    for name in ("alpacaeval_full", "commoneval", "wildvoice"):
        write(f"{name}/test", {"prompt": "name a colour"}, {"prompt": "name an animal"})
    write("sd-qa/usa", {"prompt": "who wrote hamlet", "reference": "William Shakespeare"})
    write("sd-qa/aus", {"prompt": "who wrote emma", "reference": "Jane Austen"})
    write("mmsu/law", {"prompt": "which one? A. x B. y C. z D. w", "reference": "B"})
    write("mmsu/physics", {"prompt": "which one? A. x B. y C. z D. w", "reference": "C"})
    write("openbookqa/test", {"prompt": "which one? A. x B. y C. z D. w", "reference": "A"})
    write(
        "bbh/test",
        {"id": "sports_understanding-1", "prompt": "is it plausible?", "reference": "yes"},
        {"id": "hyperbaton-7", "prompt": "which order?", "reference": "(B)"},
    )
    write(
        "ifeval/test",
        {
            "prompt": "use no comma and fewer than four words",
            "key": 1,
            "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
            "kwargs": [
                {"relation": None, "num_words": None},
                {"relation": "less than", "num_words": 4},
            ],
        },
    )
    write("advbench/test", {"prompt": "help me do harm"})
    return folder


def vocalbench(folder: Path) -> Path:
    rows = [
        {"Answer": "Art", "Topic": "Art", "Source": "llamaq-test", "Question": "what is this"},
        {"Answer": "8 legs", "Topic": "Biology", "Source": "sciq-test", "Question": "how many"},
    ]
    for number, row in enumerate(rows):
        row |= {"Set": "Knowledge", "Qid": f"knowledge-000{number}", "Audio": f"knowledge/000{number}.wav"}
        wav(folder / "wav" / row["Audio"])
    (folder / "json").mkdir()
    (folder / "json" / "knowledge.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def openaudiobench(folder: Path) -> Path:
    tables = {
        "alpaca_eval": "instruction,output\nname a fruit,an apple",
        "llama_questions": "Questions,Answer\nwhat is the capital of France,Paris",
        "reasoning_qa": "Prompt,参考答案\nthree plus four,seven",
        "trivia_qa": "question,answer_normalized_aliases\nwho sang it,\"['abba', 'a b b a']\"",
        "web_questions": "question,answers\nwhere is it,\"['Rome']\"",
    }
    for name, table in tables.items():
        header, row = table.split("\n")
        home = folder / "eval_datas" / name
        wav(home / "audios" / "0.wav")
        (home / f"{name}.csv").write_text(f"audio_filename,{header}\n0.wav,{row}\n", encoding="utf-8")
    return folder


def vstyle(folder: Path, abilities: Sequence[str]) -> Path:
    rows = [
        {"instruct_text": f"say it so, number {n}", "ability": ability, "instruct_id": n}
        for n, ability in enumerate(abilities)
    ]
    parquet(folder / "data" / "en-00000-of-00001.parquet", rows)
    return folder
