"""What tests of batches start from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from chassis.kernel import new_id
from contracts.envelope import Event


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


class Supply:
    """A ready batch of 40 and what its provider needs to look at it."""

    def __init__(self, batch: dict[str, Any], headers: dict[str, str]) -> None:
        self.id = UUID(batch["id"])
        self.organization_id = UUID(batch["organization_id"])
        self.place_id = UUID(batch["place_id"])
        self.headers = headers

    def fact(
        self,
        kind: type[Event],
        *,
        delivery_id: UUID,
        line_id: UUID,
        planned: int,
        told: Mapping[str, Any] | None = None,
        **line: int,
    ) -> Event:
        """A delivery's fact with one line of this batch; `told` is what it says otherwise."""
        specifics = {"reason": "test", "usable": True, "previous_volunteer_id": new_id(), "reporter_id": new_id()}
        return kind.model_validate(
            {
                "delivery_id": delivery_id,
                "status": "planned",
                "provider_organization_ids": [self.organization_id],
                "pickup_place_id": self.place_id,
                "receiving_organization_id": new_id(),
                "receiving_place_id": new_id(),
                "lines": [
                    {
                        "line_id": line_id,
                        "batch_id": self.id,
                        "organization_id": self.organization_id,
                        "category": "prepared",
                        "product_name": "Sopa",
                        "unit": "portion",
                        "planned": planned,
                        **line,
                    }
                ],
                **specifics,
                **(told or {}),
            }
        )


async def quantities(client: httpx.AsyncClient, supply: Supply) -> dict[str, int]:
    """The ledger as the provider sees it."""
    answer = await client.get(f"/v1/batches/{supply.id}", headers=supply.headers)
    shown: dict[str, int] = answer.json()["quantities"]
    return shown
