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
        settings = Settings.from_environment()
        # For libraries, and for the programs that the app starts: they write where the app does.
        os.environ["WAVALIGN_HOME"] = str(settings.home)
        if settings.place.is_space or settings.notes:
            os.environ.setdefault("HF_HOME", str(settings.home / "huggingface"))
        services = Services(settings)
    except (SettingsError, OSError) as error:
        sys.exit(f"Cannot start: {error}")
    for note in settings.notes:
        print(note, flush=True)
    from app.frame import launch

    launch(services)


if __name__ == "__main__":
    main()
