"""What tests of batches start from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID


def a_batch(place_id: UUID, **changes: Any) -> dict[str, Any]:
    """Forty portions of soup for tomorrow, unless told otherwise."""
    now = datetime.now(UTC)
    return {
        "place_id": str(place_id),
        "kind": "food",
        "product": {"name": "Sopa de legumes", "category": "prepared"},
        "unit": "portion",
        "quantity": 40,
        "storage": "ambient",
        "use_by_at": (now + timedelta(days=1)).isoformat(),
        "pickup_window": {"from": now.isoformat(), "to": (now + timedelta(hours=4)).isoformat()},
        **changes,
    }
