"""The person, without anything that says who it is: e-mail, name and password live in a row of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from chassis.kernel import Aggregate

from identity.domain import facts, refusals
from identity.domain.terms import Locale, PlatformRole, SessionId, UserId, VolunteerProfile

# ASCII only: addresses that look alike or change under case folding cannot be registered beside each other.
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
EMAIL_PATTERN = rf"^[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+)*@({_LABEL}\.)+{_LABEL}$"
EMAIL_CHARS_MAX = 254  # RFC 5321
PASSWORD_CHARS_MIN, PASSWORD_CHARS_MAX = 8, 256  # NIST SP 800-63B: length counts, composition rules do not


def is_email(text: str) -> bool:
    """Has the shape of an address that mail can be sent to."""
    return len(text) <= EMAIL_CHARS_MAX and re.fullmatch(EMAIL_PATTERN[1:-1], text) is not None


def email_key(email: str) -> str:
    """What two spellings of one address have in common."""
    return email.lower()


@dataclass
class User(Aggregate):
    """A person: may sign in until suspended, may hold platform roles, may offer to carry."""

    locale: Locale = Locale.PT_BR
    suspended: bool = False
    roles: tuple[PlatformRole, ...] = ()
    volunteer: VolunteerProfile | None = None
    registered_at: datetime | None = None

    @classmethod
    def register(cls, user_id: UserId, *, locale: Locale, now: datetime) -> Self:
        """A person signs up."""
        user = cls(id=user_id)
        user.record(facts.UserRegistered(locale=locale, registered_at=now))
        return user

    def suspend(self, *, by: UserId) -> None:
        """End the person's access; twice records nothing."""
        if by == self.id:
            raise refusals.OwnAccount("another admin may suspend you")
        if not self.suspended:
            self.record(facts.UserSuspended())

    def grant(self, role: PlatformRole) -> None:
        """Give a platform role; a role held already records nothing."""
        self._require_active()
        if role not in self.roles:
            self.record(facts.PlatformRoleGranted(role=role))

    def offer_to_carry(self, profile: VolunteerProfile) -> None:
        """Volunteer, or change what is offered; the same offer records nothing."""
        self._require_active()
        if profile != self.volunteer:
            self.record(facts.VolunteerProfileChanged(profile=profile))

    def end_session(self, session_id: SessionId) -> None:
        """A sign-in of this person is over; the caller knows that it was not before."""
        self.record(facts.UserSessionEnded(session_id=session_id))

    def _require_active(self) -> None:
        if self.suspended:
            raise refusals.UserIsSuspended

    def _on_UserRegistered(self, event: facts.UserRegistered) -> None:  # noqa: N802
        self.locale = event.locale
        self.registered_at = event.registered_at

    def _on_UserSuspended(self, _: facts.UserSuspended) -> None:  # noqa: N802
        self.suspended = True

    def _on_PlatformRoleGranted(self, event: facts.PlatformRoleGranted) -> None:  # noqa: N802
        self.roles = (*self.roles, event.role)

    def _on_VolunteerProfileChanged(self, event: facts.VolunteerProfileChanged) -> None:  # noqa: N802
        self.volunteer = event.profile

    def _on_UserSessionEnded(self, _: facts.UserSessionEnded) -> None:  # noqa: N802
        """Which sessions are over is no state of the person."""
