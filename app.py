"""Starts WavAlign Workbench: ``python app.py``. Hugging Face Spaces runs this file."""

import os
import sys

# Before torch and gradio are imported: more threads than one make a tiny model slower, and nothing calls home.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


def main() -> None:
    from app.services import Services
    from app.settings import Settings, SettingsError

    try:
        services = Services(Settings.from_environment())
    except (SettingsError, OSError) as error:
        sys.exit(f"Cannot start: {error}")
    from app.frame import launch

    launch(services)


if __name__ == "__main__":
    main()
