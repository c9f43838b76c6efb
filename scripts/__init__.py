"""The commands of a checkout; `scripts.stack` is also importable from the repository root."""
