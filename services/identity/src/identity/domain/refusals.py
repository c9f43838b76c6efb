"""What identity says no to, each with the stable code callers see."""

from __future__ import annotations

from chassis.kernel import Conflict, Forbidden, Invalid, NotFound


class OrganizationNotFound(NotFound):
    """No such organization, or not for this caller."""

    slug = "organization-not-found"


class PlaceNotFound(NotFound):
    """No such place, or not for this caller."""

    slug = "place-not-found"


class UserNotFound(NotFound):
    """No such person."""

    slug = "user-not-found"


class MemberNotFound(NotFound):
    """This person is no member of the organization."""

    slug = "member-not-found"


class ApiKeyNotFound(NotFound):
    """No such key, or not for this caller."""

    slug = "api-key-not-found"


class SigningKeyNotFound(NotFound):
    """No such signing key."""

    slug = "signing-key-not-found"


class CnpjInvalid(Invalid):
    """The CNPJ has a wrong shape or wrong check digits."""

    slug = "cnpj-invalid"


class CnpjTaken(Conflict):
    """An organization with this CNPJ is registered already."""

    slug = "cnpj-taken"


class EmailTaken(Conflict):
    """A person with this e-mail address is registered already."""

    slug = "email-taken"


class LastManager(Conflict):
    """An organization always has somebody who decides."""

    slug = "last-manager"


class TooManyMembers(Conflict):
    """The organization has as many members as one may have."""

    slug = "too-many-members"


class OrganizationIsClosed(Conflict):
    """A closed organization changes no more."""

    slug = "organization-closed"


class UserIsSuspended(Conflict):
    """A suspended person is given nothing."""

    slug = "user-suspended"


class OwnAccount(Conflict):
    """Admins do not lock themselves out."""

    slug = "own-account"


class ApiKeyNotActive(Conflict):
    """A revoked or expired key cannot be rotated; issue another."""

    slug = "api-key-not-active"


class TooManyApiKeys(Conflict):
    """The organization has as many active keys as one may have."""

    slug = "too-many-api-keys"


class NotAManager(Forbidden):
    """Only the organization's managers do this."""

    slug = "not-a-manager"


class NotAMember(Forbidden):
    """Only the organization's members see this."""

    slug = "not-a-member"


class CnpjOfAnother(Forbidden):
    """The CNPJ belongs to a registered organization that the caller does not manage."""

    slug = "cnpj-of-another-organization"
