"""Stands for Hugging Face's ``spaces`` package on ZeroGPU: put the folder of this file on sys.path.

As there: the function runs in a forked worker that is kept while it is idle, arguments and results are pickled, a
generator that is closed is closed in the worker after its next value, exceptions come back as ``gr.Error`` with the
class's name alone, and a call that takes longer than it said is killed. Stricter than there: a call within a call is
refused. Each call is a line of JSON in the file that FAKE_SPACES_LOG names. ``close`` ends all workers: a forked child
holds every file and pipe that its parent had open, and whoever waits for the end of one waits for the child too.
"""

from __future__ import annotations

import inspect
import json
import multiprocessing
import os
import pickle
import threading
import time
from functools import partial, wraps

import gradio as gr

_fork = multiprocessing.get_context("fork")
_in_worker = False
_decorated: list[str] = []
_workers: list[_Worker] = []
_closed = False
_starting = threading.Lock()


def GPU(task=None, *, duration=None, size=None):
    if task is None:
        return partial(GPU, duration=duration, size=size)
    _decorated.append(task.__name__)
    idle: list[_Worker] = []
    lock = threading.Lock()

    def begin(args, kwargs):
        if _in_worker:
            raise RuntimeError("A GPU call within a GPU call.")
        seconds = duration(*args, **kwargs) if callable(duration) else duration
        with lock:
            worker = idle.pop() if idle and idle[-1].process.is_alive() else _Worker(task)
        worker.arguments.send_bytes(pickle.dumps((args, kwargs)))
        return worker, 60 if seconds is None else seconds, time.monotonic()

    def end(worker, seconds, began, kind, value):
        _log(task=task.__name__, duration=seconds, seconds=round(time.monotonic() - began, 3), pid=worker.pid, end=kind)
        if kind in ("ok", "end"):
            with lock:
                idle.append(worker)
            return value
        worker.process.kill()
        message = "GPU task aborted" if kind == "aborted" else value
        raise gr.Error(message, title="ZeroGPU worker error")

    def results(worker, seconds, began):
        while True:
            left = began + seconds - time.monotonic()
            try:
                if left <= 0 or not worker.results.poll(left):
                    yield "aborted", None
                    return
                kind, value = pickle.loads(worker.results.recv_bytes())
            except (EOFError, OSError):
                yield "aborted", None
                return
            yield kind, value
            if kind != "value":
                return

    @wraps(task)
    def called(*args, **kwargs):
        worker, seconds, began = begin(args, kwargs)
        kind, value = next(results(worker, seconds, began))
        return end(worker, seconds, began, kind, value)

    @wraps(task)
    def generated(*args, **kwargs):
        worker, seconds, began = begin(args, kwargs)
        for kind, value in results(worker, seconds, began):
            if kind != "value":
                end(worker, seconds, began, kind, value)
                return
            try:
                yield value
            except GeneratorExit:
                worker.stop.set()
                for last, _ in results(worker, seconds, began):
                    if last != "value":
                        _log(task=task.__name__, duration=seconds, seconds=0, pid=worker.pid, end="closed")
                        worker.process.kill()
                raise

    return generated if inspect.isgeneratorfunction(task) else called


def gradio_auto_wrap(task):
    """Gradio asks this for each of its handlers; wrapping all of them is an option that is off."""
    return task


def close() -> None:
    """Ends every worker, also one that is at work; none is forked from here on."""
    global _closed
    with _starting:
        _closed = True
        for worker in _workers:
            worker.process.kill()
            worker.process.join()


class _Worker:
    def __init__(self, task) -> None:
        with _starting:
            if _closed:
                raise RuntimeError("No GPU is lent any more.")
            self._start(task)
            _workers.append(self)

    def _start(self, task) -> None:
        mine, self.arguments = _fork.Pipe(duplex=False)
        self.results, theirs = _fork.Pipe(duplex=False)
        self.stop = _fork.Event()
        self.process = _fork.Process(target=_work, args=(task, mine, theirs, self.stop), daemon=True)
        self.process.start()
        self.pid = self.process.pid
        mine.close()
        theirs.close()


def _work(task, arguments, results, stop) -> None:
    global _in_worker
    _in_worker = True

    def told(kind, value=None):
        results.send_bytes(pickle.dumps((kind, value)))

    def one(args, kwargs):
        try:
            if not inspect.isgeneratorfunction(task):
                told("ok", task(*args, **kwargs))
                return
            made = task(*args, **kwargs)
            for value in made:
                if stop.is_set():
                    made.close()
                    break
                told("value", value)
            told("end")
        except Exception as error:
            told("failed", type(error).__name__)

    while True:
        try:
            args, kwargs = pickle.loads(arguments.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)
        stop.clear()
        thread = threading.Thread(target=one, args=(args, kwargs))  # not the main thread: no signal handlers there
        thread.start()
        thread.join()


def _log(**line) -> None:
    if path := os.environ.get("FAKE_SPACES_LOG"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
