"""Makes `receiver.py` importable for the tests beside it: with `--import-mode=importlib` a folder is no import path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
