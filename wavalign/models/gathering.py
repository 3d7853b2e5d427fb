"""Runs several tasks at once and hands over what each tells, as it comes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
TICK_SECONDS = 0.05


def gathered(
    tasks: Sequence[Callable[[Callable[[Item], None]], Result]], name: str
) -> Generator[tuple[int, Item] | None, None, list[Result]]:
    """Each task runs in a thread of its own and is given a function that tells an item.

    Yields (number of the task, item) as items come and None about every ``TICK_SECONDS`` when none comes, so that the
    caller can look whether it is still wanted. Returns what the tasks return. The first exception is raised here. A
    closed generator no longer listens: tasks that wait for something must be told to end by other means.
    """
    told: queue.SimpleQueue[tuple[int, str, Any]] = queue.SimpleQueue()

    def run(number: int, task: Callable[[Callable[[Item], None]], Result]) -> None:
        try:
            told.put((number, "end", task(lambda item: told.put((number, "item", item)))))
        except BaseException as error:  # carried over to the caller's thread
            told.put((number, "error", error))

    for number, task in enumerate(tasks):
        threading.Thread(target=run, args=(number, task), name=f"{name}-{number}", daemon=True).start()
    results: dict[int, Result] = {}
    while len(results) < len(tasks):
        try:
            number, kind, value = told.get(timeout=TICK_SECONDS)
        except queue.Empty:
            yield None
            continue
        if kind == "error":
            raise value
        if kind == "end":
            results[number] = value
        else:
            yield number, value
    return [results[number] for number in range(len(tasks))]
