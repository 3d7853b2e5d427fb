"""Finds a Chromium for the browser tests, or installs one: ``python -m tests.browser.chromium``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """Path of a Chromium: ``WAVALIGN_CHROMIUM``, one on the PATH, or the one playwright installed."""
    chosen = os.environ.get("WAVALIGN_CHROMIUM")
    if chosen:
        return chosen
    for name in NAMES:
        path = shutil.which(name)
        if path:
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> str | None:
    """Installs a Chromium with the system's packages, else with playwright; returns its path, or None."""
    for attempt in _ways():
        print(f"Installing Chromium: {' '.join(attempt[-1])} ...", flush=True)
        for command in attempt:
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode != 0:
                print(f"  did not work: {(result.stderr or result.stdout).strip().splitlines()[-1:]}", flush=True)
                break
        found = find()
        if found:
            return found
    return None


def _ways() -> list[list[list[str]]]:
    ways = []
    if shutil.which("apt-get"):
        root = [] if os.geteuid() == 0 else ["sudo", "-n"] if shutil.which("sudo") else None
        if root is not None:
            ways.append([[*root, "apt-get", "update", "-qq"], [*root, "apt-get", "install", "-y", "-qq", "chromium"]])
    ways.append([[sys.executable, "-m", "playwright", "install", "--with-deps", "chromium"]])
    ways.append([[sys.executable, "-m", "playwright", "install", "chromium"]])
    return ways


def main() -> int:
    if find() or install():
        return 0
    print(
        "No Chromium was found or could be installed; install one and run again, or set WAVALIGN_CHROMIUM to its path."
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
