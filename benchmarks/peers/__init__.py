"""Evolving top-down networks side by side with peers; run by `python -m benchmarks.peers`."""
