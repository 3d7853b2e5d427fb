"""The tasks by name. A new benchmark is one file and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from evaluation.tasks.protocol import Task, TaskContext, TaskError

TASKS: dict[str, str] = {
    "closedtalk": "evaluation.tasks.closedtalk:ClosedTalk",
    "voicebench": "evaluation.tasks.voicebench:VoiceBench",
    "vocalbench-knowledge": "evaluation.tasks.vocalbench:VocalBenchKnowledge",
    "openaudiobench": "evaluation.tasks.openaudiobench:OpenAudioBench",
    "vstyle": "evaluation.tasks.vstyle:VStyle",
}
"""Name -> "module:callable" that takes (context, part); ``part`` is what stands after a slash, or None."""


def create(name: str, context: TaskContext) -> Task:
    """The task ``name``: "voicebench" is the whole benchmark, "voicebench/ifeval,bbh" those subsets of it.

    Raises:
        TaskError: when there is no such task or no such part of it.
    """
    task, _, part = name.partition("/")
    if task not in TASKS:
        raise TaskError(f'There is no task "{task}"; the tasks are: {", ".join(TASKS)}.')
    module, _, attribute = TASKS[task].partition(":")
    build: Callable[[TaskContext, str | None], Task] = getattr(importlib.import_module(module), attribute)
    return build(context, part or None)
