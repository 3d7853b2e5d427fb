"""Starts WavAlign Workbench: ``python app.py``. Hugging Face Spaces runs this file."""

import multiprocessing
import os
import sys

# Before torch and gradio are imported: more threads than one make a tiny model slower, and nothing calls home.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


def main() -> None:
    from app import logs, uploads
    from app.services import Services
    from app.settings import Settings

    try:
        logs.configure()
        settings = Settings.from_environment()
        # For libraries, and for the programs that the app starts: they write where the app does.
        os.environ["WAVALIGN_HOME"] = str(settings.home)
        if settings.place.is_space or settings.notes:
            os.environ.setdefault("HF_HOME", str(settings.home / "huggingface"))
        if settings.place.borrows_gpu:
            try:
                import spaces  # noqa: F401  (before torch: it says which GPU there is)
            except ModuleNotFoundError as error:
                sys.exit(
                    f"Cannot start: a GPU is to be borrowed (SPACES_ZERO_GPU), and the package {error.name} is not "
                    f"installed; run pip install {error.name}, or unset the variable."
                )
        services = Services(settings)
    except (ValueError, OSError) as error:
        sys.exit(f"Cannot start: {error}")
    for note in settings.notes:
        logs.say(note)
    # Before gradio is imported. Its own folder is shared by all that runs it on this machine.
    os.environ.setdefault("GRADIO_TEMP_DIR", str(uploads.private_folder()))
    from app.frame import launch

    launch(services)
    sys.stdout.flush()
    for worker in multiprocessing.active_children():  # of a lent GPU; leaving so suddenly would leave them
        worker.kill()
    os._exit(0)  # all is saved; a thread that does not end must not keep the machine waiting


if __name__ == "__main__":
    main()
