"""Where battles and votes are kept: a database of events and, beside it, audio files named by their content."""

from app.store.audio_files import AudioFiles
from app.store.database import Store, StoreError, open_store

__all__ = ["AudioFiles", "Store", "StoreError", "open_store"]
