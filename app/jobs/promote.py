"""Makes a run's adapter a checkpoint that Talk and the Arena offer: named, measured, with its origin and a card."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.jobs.job import Job, JobError
from app.jobs.queue import Queue
from evaluation.intervals import Estimate, bootstrap_mean, bootstrap_ratio
from wavalign.models.protocol import CheckpointError, GenerationError
from wavalign.models.registry import HOME_FOLDER, Registry
from wavalign.training.journal import ADAPTER

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PROMPTS = 40
Measure = Callable[[str, str, Path, Path, int], dict[str, Any] | None]
_SEED = 11


@dataclass(frozen=True)
class Promotion:
    """``state``: measuring, done or failed; ``words`` is for the page."""

    name: str
    state: str
    words: str


class Promotions:
    """Promotions under way and done, by job; each in a thread of its own."""

    def __init__(
        self, queue: Queue, home: Path, assets: Path, prompts: int = PROMPTS, measure: Measure | None = None
    ) -> None:
        self.queue, self.home, self.assets, self.prompts = queue, home, assets, prompts
        self.measure = measure or compare
        self._known: dict[str, Promotion] = {}
        self._lock = threading.Lock()

    def of(self, job: str) -> Promotion | None:
        return self._known.get(job)

    def begin(self, job: Job, name: str) -> threading.Thread:
        """Checks what can be checked at once; the rest goes on in the background.

        Raises:
            JobError: one sentence, when the name or the run does not fit.
        """
        if not _NAME.fullmatch(name):
            raise JobError("A name has letters, digits, dots, dashes and underscores, up to 64 of them.")
        if not job.is_final:
            raise JobError(f"{job.name} is {job.state}: stop it first, or wait for its end.")
        if not (job.folder / ADAPTER).is_dir():
            raise JobError(f"{job.name} has no trained adapter: resume it, and let it end or stop it.")
        if name in Registry(self.assets, self.home).names() or (self.home / HOME_FOLDER / name).exists():
            raise JobError(f'There is a checkpoint "{name}" already. Choose another name.')
        with self._lock:
            before = self._known.get(job.id)
            if before is not None and before.state == "measuring":
                raise JobError(f"{job.name} is just being promoted as {before.name}.")
            self._known[job.id] = Promotion(name, "measuring", f"Measuring {name} …")
        thread = threading.Thread(target=self._run, args=(job, name), name="promote", daemon=True)
        thread.start()
        return thread

    def _run(self, job: Job, name: str) -> None:
        try:
            told = lambda said: self._say(job.id, name, said)  # noqa: E731
            words = promote(job, name, self.home, self.assets, told, self.prompts, self.measure)
            self.queue.move(job.id, (job.state,), promoted=name)
            self._known[job.id] = Promotion(name, "done", words)
        except (JobError, CheckpointError, GenerationError) as error:
            self._known[job.id] = Promotion(name, "failed", str(error))
        except Exception as error:  # the outermost boundary of the thread: the page gets a sentence
            self._known[job.id] = Promotion(name, "failed", f"{type(error).__name__}: {error}")

    def _say(self, job: str, name: str, words: str) -> None:
        self._known[job] = Promotion(name, "measuring", words)


def promote(
    job: Job,
    name: str,
    home: Path,
    assets: Path,
    told: Callable[[str], None] = print,
    prompts: int = PROMPTS,
    measure: Measure | None = None,
) -> str:
    """Copies the adapter, measures it against what it was trained from, and registers it; says how it compares.

    It appears among the checkpoints whole or not at all. ``measure`` does what ``compare`` does, elsewhere.

    Raises:
        JobError, CheckpointError: one sentence; then nothing is registered.
    """
    stage = home / "jobs" / "promoting" / job.id
    shutil.rmtree(stage, ignore_errors=True)
    place = stage / HOME_FOLDER / name
    try:
        place.parent.mkdir(parents=True)
        shutil.copytree(job.folder / ADAPTER, place)
        if (home / HOME_FOLDER).is_dir():  # its base may be among the user's own
            for other in (home / HOME_FOLDER).iterdir():
                (place.parent / other.name).symlink_to(other)
        provenance = _provenance(place)
        start = str(provenance.get("start") or provenance.get("base"))
        told(f"Measuring {name} against {start} on held-out questions …")
        measured = (measure or compare)(name, start, assets, stage, prompts)
        provenance |= {"promoted_from": job.name, "measured": measured}
        (place / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
        (place / "README.md").write_text(_card(name, job, provenance, measured), encoding="utf-8")
        final = home / HOME_FOLDER / name
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            raise JobError(f'There is a checkpoint "{name}" already. Choose another name.')
        place.rename(final)
        return words_of(name, start, measured)
    except OSError as error:
        raise JobError(f"{name} could not be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def compare(name: str, start: str, assets: Path, home: Path, prompts: int) -> dict[str, Any] | None:
    """Both on the same held-out ClosedTalk questions with the same seeds.

    None where that data is not there, or a model does not read its questions' speech tokens.
    """
    from evaluation.closedtalk_bench import DATA_FOLDER, Bench
    from evaluation.closedtalk_prompts import prompt_of, sampled_replies
    from wavalign.metrics.measures import measure

    model = Registry(assets, home).load([name])  # that it loads is checked in any case
    family = getattr(getattr(model.tokens, "description", None), "family", None)
    if not (assets / DATA_FOLDER / "held_out.parquet").is_file() or family != "closedtalk":
        return None
    del model
    found: dict[str, Any] = {"prompts": prompts, "seed": _SEED}
    for checkpoint in (start, name):
        bench = Bench(assets, checkpoint, prompts, _SEED, quiet=True, home=home)
        asked = [prompt_of(dialogue) for dialogue in bench.dialogues("held_out", prompts)]
        sampling = replace(bench.model.default_sampling, seed=_SEED)
        replies = [group[0] for group in sampled_replies(bench, asked, 1, sampling, True, "")]
        ids = [reply.prompt.id for reply in replies]
        spoken = [reply for reply in replies if reply.text.strip()]
        errors = bench.heard([reply.waveform for reply in spoken], [reply.text for reply in spoken])
        fits = [
            float(bench.references.adherence_of(measure(reply.waveform, reply.text), reply.prompt.delivery).right)
            for reply in replies
        ]
        found[checkpoint] = {
            "right": _plain(bootstrap_mean([float(reply.correct) for reply in replies], ids, _SEED)),
            "wer": _plain(bootstrap_ratio([e.errors for e in errors], [e.words for e in errors], seed=_SEED)),
            "delivery": _plain(bootstrap_mean(fits, ids, _SEED)),
        }
    return found


def words_of(name: str, start: str, measured: Mapping[str, Any] | None) -> str:
    """One sentence or two about what changed."""
    if measured is None:
        return f"{name} is in Talk and in the Arena. It was not measured: that needs ClosedTalk's held-out questions."
    before, after = measured[start], measured[name]
    parts = []
    for key, label in (
        ("right", "right answers"),
        ("wer", "word errors of the speech"),
        ("delivery", "fitting delivery"),
    ):
        if before[key] and after[key]:
            parts.append(f"{label} {100 * before[key]['value']:.0f} → {100 * after[key]['value']:.0f} %")
    return f"{name} is in Talk and in the Arena. On {measured['prompts']} held-out questions: {', '.join(parts)}."


def _plain(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _provenance(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JobError(f"The adapter does not say where it comes from: {folder.name}/provenance.json.") from error


def _card(name: str, job: Job, provenance: Mapping[str, Any], measured: Mapping[str, Any] | None) -> str:
    start = str(provenance.get("start") or provenance.get("base"))
    lines = [
        "---",
        f"base_model: {provenance.get('base')}",
        "library_name: peft",
        "---",
        f"# {name}",
        "",
        f"Trained from {start} by the run {job.name} ({provenance.get('step')} steps, seed {provenance.get('seed')}).",
        "",
    ]
    if measured:
        lines += [f"| on {measured['prompts']} held-out questions | {start} | {name} |", "|---|---|---|"]
        for key, label in (("right", "right answers"), ("wer", "WER of the speech"), ("delivery", "delivery fits")):
            lines.append(f"| {label} | {_cell(measured[start][key])} | {_cell(measured[name][key])} |")
        lines.append("")
    return "\n".join(lines)


def _cell(value: Mapping[str, float] | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value['value']:.1f} % ({100 * value['low']:.1f} to {100 * value['high']:.1f})"
