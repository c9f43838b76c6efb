"""A floor is what a script reaches that knows nothing of a service's settings: with the collector as Python comes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

PYTHONS_OWN = gc.get_threshold()


@contextmanager
def collecting_as_python_comes() -> Iterator[None]:
    """Inside, the collector comes as often as by default; afterwards as before."""
    ours = gc.get_threshold()
    gc.set_threshold(*PYTHONS_OWN)
    try:
        yield
    finally:
        gc.set_threshold(*ours)
