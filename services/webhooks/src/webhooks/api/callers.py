"""Who may call: managers, and keys with the scope."""

from __future__ import annotations

from typing import Annotated

from chassis.access import Principal
from chassis.routing import require

Manager = Annotated[Principal, require("webhooks:manage")]
