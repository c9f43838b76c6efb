"""The organization: who it is, how it stands, and who acts for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from chassis.kernel import Aggregate, InvalidTransition

from identity.domain import facts, refusals
from identity.domain.terms import MembershipRole, OrganizationId, OrganizationKind, OrganizationStatus, UserId

MEMBERS_MAX = 1_000  # they are part of the aggregate, which is loaded whole

_ALLOWED: dict[OrganizationStatus, list[str]] = {
    OrganizationStatus.REGISTERED: ["verify", "close"],
    OrganizationStatus.VERIFIED: ["suspend", "close"],
    OrganizationStatus.SUSPENDED: ["verify", "close"],
    OrganizationStatus.CLOSED: [],
}


@dataclass
class Organization(Aggregate):
    """`registered → verified ⇄ suspended → closed`; always with a manager."""

    status: OrganizationStatus = OrganizationStatus.REGISTERED
    cnpj: str = ""
    legal_name: str = ""
    trade_name: str | None = None
    kinds: tuple[OrganizationKind, ...] = ()
    members: dict[UserId, MembershipRole] = field(default_factory=dict)
    registered_at: datetime | None = None

    @classmethod
    def register(
        cls,
        organization_id: OrganizationId,
        *,
        cnpj: str,
        legal_name: str,
        trade_name: str | None,
        kinds: tuple[OrganizationKind, ...],
        by: UserId,
        now: datetime,
    ) -> Self:
        """A new organization, managed by who registers it; `cnpj` has been checked."""
        organization = cls(id=organization_id)
        organization.record(
            facts.OrganizationRegistered(
                cnpj=cnpj, legal_name=legal_name, trade_name=trade_name, kinds=kinds, registered_at=now
            )
        )
        organization.grant(by, role=MembershipRole.MANAGER)
        return organization

    @property
    def is_public(self) -> bool:
        """Any signed-in caller sees a verified organization and its places."""
        return self.status is OrganizationStatus.VERIFIED

    def verify(self) -> None:
        """Let it act, for the first time or again after a suspension."""
        self._require("verify")
        self.record(facts.OrganizationVerified())

    def suspend(self, *, reason: str | None) -> None:
        """Hide it until it is verified again."""
        self._require("suspend")
        self.record(facts.OrganizationSuspended(reason=reason))

    def close(self, *, reason: str | None) -> None:
        """End it for good."""
        self._require("close")
        self.record(facts.OrganizationClosed(reason=reason))

    def grant(self, user_id: UserId, *, role: MembershipRole) -> None:
        """Make a person a member, or give a member another role; the same role again records nothing."""
        self.require_open()
        if self.members.get(user_id) is role:
            return
        if user_id not in self.members and len(self.members) >= MEMBERS_MAX:
            raise refusals.TooManyMembers(most=MEMBERS_MAX)
        if role is not MembershipRole.MANAGER:
            self._require_another_manager(user_id)
        self.record(facts.MembershipGranted(user_id=user_id, role=role))

    def revoke(self, user_id: UserId) -> None:
        """Let a member go; the last manager stays."""
        self.require_open()
        if user_id not in self.members:
            raise refusals.MemberNotFound
        self._require_another_manager(user_id)
        self.record(facts.MembershipRevoked(user_id=user_id))

    def require_open(self) -> None:
        """A closed organization is frozen."""
        if self.status is OrganizationStatus.CLOSED:
            raise refusals.OrganizationIsClosed

    def _require(self, command: str) -> None:
        if command not in _ALLOWED[self.status]:
            raise InvalidTransition(status=self.status, allowed=_ALLOWED[self.status])

    def _require_another_manager(self, user_id: UserId) -> None:
        managers = {member for member, role in self.members.items() if role is MembershipRole.MANAGER}
        if managers == {user_id}:
            raise refusals.LastManager

    def _on_OrganizationRegistered(self, event: facts.OrganizationRegistered) -> None:  # noqa: N802
        self.cnpj = event.cnpj
        self.legal_name = event.legal_name
        self.trade_name = event.trade_name
        self.kinds = event.kinds
        self.registered_at = event.registered_at

    def _on_OrganizationVerified(self, _: facts.OrganizationVerified) -> None:  # noqa: N802
        self.status = OrganizationStatus.VERIFIED

    def _on_OrganizationSuspended(self, _: facts.OrganizationSuspended) -> None:  # noqa: N802
        self.status = OrganizationStatus.SUSPENDED

    def _on_OrganizationClosed(self, _: facts.OrganizationClosed) -> None:  # noqa: N802
        self.status = OrganizationStatus.CLOSED

    def _on_MembershipGranted(self, event: facts.MembershipGranted) -> None:  # noqa: N802
        self.members[event.user_id] = event.role

    def _on_MembershipRevoked(self, event: facts.MembershipRevoked) -> None:  # noqa: N802
        del self.members[event.user_id]
