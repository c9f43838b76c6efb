"""How the stack fails: naming the part and showing the end of its log."""

from __future__ import annotations

from pathlib import Path

LINES_SHOWN = 25


PREPARATION_FAILED = 10  # exit code of a preparation that failed at the first service; one more for each later one


class StackError(Exception):
    """A part of the stack could not be started."""

    def __init__(self, part: str, detail: str, *, log: Path | None = None) -> None:
        super().__init__(f"{part}: {detail}")
        self.part = part
        self.log = log

    def log_tail(self) -> str:
        """The last lines the part wrote, empty when there is no log."""
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LINES_SHOWN:])
