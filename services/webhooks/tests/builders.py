"""What tests of webhooks start from."""

from __future__ import annotations

from uuid import UUID

from chassis.testing.callers import Caller


class Tenant:
    """An organization with a manager and a partner's key."""

    organization_id: UUID
    manager: Caller
    partner: Caller
