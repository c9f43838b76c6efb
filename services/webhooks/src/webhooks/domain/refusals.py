"""What webhooks says no to, each with the stable code callers see."""

from __future__ import annotations

from chassis.kernel import BadRequest, Conflict, Forbidden, Invalid, NotFound


class EndpointNotFound(NotFound):
    """No such endpoint, or not for this caller."""

    slug = "endpoint-not-found"


class MessageNotFound(NotFound):
    """No such message, or not for this caller."""

    slug = "message-not-found"


class OrganizationNotFound(NotFound):
    """No such organization, or not for this caller."""

    slug = "organization-not-found"


class NotYourOrganization(Forbidden):
    """Only managers of an organization decide where its events go."""

    slug = "not-your-organization"


class TooManyEndpoints(Conflict):
    """The organization has as many endpoints as it may have."""

    slug = "too-many-endpoints"


class InvalidEventType(Invalid):
    """A filter is neither a full event type nor a prefix ending in `.*`."""

    slug = "invalid-event-type"


class SecretInUse(Invalid):
    """The endpoint signs with this secret already."""

    slug = "secret-in-use"


class InvalidEndpoint(Invalid):
    """A property of an endpoint is outside its bounds."""

    slug = "invalid-endpoint"


class InvalidOverlap(Invalid):
    """An old secret stays valid for 0 to 7 days."""

    slug = "invalid-overlap"


class InvalidSpan(Invalid):
    """A span of time is empty, or begins too long ago."""

    slug = "invalid-span"


class RecoveryRunning(Conflict):
    """The endpoint is being recovered already."""

    slug = "recovery-running"


class TooManySecrets(BadRequest):
    """Ten old secrets are still valid: one has to run out before the next rotation, or the newest goes without overlap."""

    slug = "too-many-secrets"
