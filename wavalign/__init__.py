"""Post-training of end-to-end spoken dialogue models: audio, codecs, models, metrics, rewards, training."""

# First of all, so that no import of transformers anywhere below meets a torchaudio that cannot load.
from wavalign import torchaudio_guard as torchaudio_guard
