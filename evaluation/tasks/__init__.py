"""Benchmarks that checkpoints are evaluated on, one file each."""
