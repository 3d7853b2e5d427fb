"""Builds the embedded checkpoints and their data from scratch: ``python -m wavalign.closedtalk.build``."""
