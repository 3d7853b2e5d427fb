"""Where battles and votes are kept: a database of events and, beside it, audio files named by their content."""

from app.store.audio_files import AudioFiles
from app.store.database import Store, StoreError, open_store
from app.store.job_rows import DeviceHold, JobRow

__all__ = ["AudioFiles", "DeviceHold", "JobRow", "Store", "StoreError", "open_store"]
