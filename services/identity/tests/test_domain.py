"""The rules of identity, without I/O: given an aggregate, when a command, then facts or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from chassis.kernel import Aggregate, Invalid, InvalidTransition
from hypothesis import given
from hypothesis import strategies as st
from identity.domain import (
    EVENTS,
    MEMBERS_MAX,
    ApiKey,
    ApiKeyId,
    ApiKeyNotActive,
    CnpjInvalid,
    KeyEnvironment,
    KeySecret,
    LastManager,
    Locale,
    MemberNotFound,
    MembershipRole,
    Organization,
    OrganizationId,
    OrganizationIsClosed,
    OrganizationKind,
    OrganizationStatus,
    OwnAccount,
    Place,
    PlaceDetails,
    PlaceId,
    PlaceRole,
    PlatformRole,
    SessionId,
    SigningKey,
    SigningKeyId,
    TooManyMembers,
    User,
    UserId,
    UserIsSuspended,
    Vehicle,
    VolunteerProfile,
    email_key,
    is_email,
)
from identity.usecases.cnpj import normalised, normalised_or_root, root_of

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
ANA, BIA, ADMIN = (UserId(UUID(int=n)) for n in (1, 2, 9))
MANAGER, STAFF = MembershipRole.MANAGER, MembershipRole.STAFF


def an_organization(*commands: str) -> Organization:
    """Ana's organization, after these commands."""
    organization = Organization.register(
        OrganizationId(UUID(int=100)),
        cnpj="16727230000197",
        legal_name="Padaria Pão Quente Ltda",
        trade_name=None,
        kinds=(OrganizationKind.PROVIDER,),
        by=ANA,
        now=NOW,
    )
    for command in commands:
        _ORGANIZATION_COMMANDS[command](organization)
    return organization


_ORGANIZATION_COMMANDS: dict[str, Callable[[Organization], None]] = {
    "verify": lambda organization: organization.verify(),
    "suspend": lambda organization: organization.suspend(reason=None),
    "close": lambda organization: organization.close(reason=None),
}


def a_user(user_id: UserId = ANA) -> User:
    """Somebody who signed up."""
    return User.register(user_id, locale=Locale.PT_BR, now=NOW)


def a_key(**changes: Any) -> ApiKey:
    """A key that reads batches for ever."""
    wanted: dict[str, Any] = {
        "organization_id": OrganizationId(UUID(int=100)),
        "name": "ERP",
        "env": KeyEnvironment.LIVE,
        "scopes": ("batches:read",),
        "cnpjs": ("16727230",),
        "rate_per_minute": None,
        "expires_at": None,
        "secret": KeySecret(prefix="vaj_live_abcdefgh", sha256="0" * 64),
        "now": NOW,
    }
    return ApiKey.issue(ApiKeyId(UUID(int=200)), **(wanted | changes))


def a_place() -> Place:
    """A shop."""
    details = PlaceDetails(
        name="Loja",
        roles=(PlaceRole.PICKUP,),
        address="Rua A, 1",
        ibge_city="4314902",
        lat=-30.0,
        lon=-51.2,
        tz="America/Sao_Paulo",
        accepts=(),
    )
    return Place.add(PlaceId(UUID(int=300)), organization_id=OrganizationId(UUID(int=100)), details=details, now=NOW)


def recorded(aggregate: Aggregate) -> list[str]:
    """The names of what happened, in order."""
    return [type(event).__name__ for event in aggregate.pending]


def test_a_registered_organization_has_a_manager() -> None:
    """Who registers it manages it; it is not public."""
    organization = an_organization()

    assert recorded(organization) == ["OrganizationRegistered", "MembershipGranted"]
    assert organization.members == {ANA: MANAGER}
    assert not organization.is_public


@pytest.mark.parametrize(
    ("path", "status", "allowed"),
    [
        ((), OrganizationStatus.REGISTERED, ["verify", "close"]),
        (("verify",), OrganizationStatus.VERIFIED, ["suspend", "close"]),
        (("verify", "suspend"), OrganizationStatus.SUSPENDED, ["verify", "close"]),
        (("verify", "suspend", "verify"), OrganizationStatus.VERIFIED, ["suspend", "close"]),
        (("verify", "suspend", "close"), OrganizationStatus.CLOSED, []),
        (("close",), OrganizationStatus.CLOSED, []),
    ],
)
def test_an_organization_moves_only_as_it_may(
    path: tuple[str, ...], status: OrganizationStatus, allowed: list[str]
) -> None:
    """In each state exactly the commands of the table work; any other names the state and what is allowed."""
    assert an_organization(*path).status is status
    for command, run in _ORGANIZATION_COMMANDS.items():
        organization = an_organization(*path)
        if command in allowed:
            run(organization)
            continue
        with pytest.raises(InvalidTransition) as refused:
            run(organization)
        assert refused.value.details == {"current_status": status, "allowed": allowed}


def test_the_last_manager_stays() -> None:
    """Neither removal nor another role takes the last manager; with a second one either may go."""
    organization = an_organization()

    for attempt in (lambda: organization.revoke(ANA), lambda: organization.grant(ANA, role=STAFF)):
        with pytest.raises(LastManager):
            attempt()
    organization.grant(BIA, role=MANAGER)
    organization.revoke(ANA)

    assert organization.members == {BIA: MANAGER}


def test_the_same_membership_again_is_no_news() -> None:
    """A repeated grant records nothing; another role replaces; a stranger cannot be removed."""
    organization = an_organization()
    organization.grant(BIA, role=STAFF)
    version = organization.version

    organization.grant(BIA, role=STAFF)
    assert organization.version == version
    organization.grant(BIA, role=MANAGER)

    assert organization.members[BIA] is MANAGER
    with pytest.raises(MemberNotFound):
        organization.revoke(ADMIN)


def test_an_organization_has_a_bounded_number_of_members() -> None:
    """One more than the most is refused; a member's role may still change."""
    organization = an_organization()
    for n in range(MEMBERS_MAX - 1):
        organization.grant(UserId(UUID(int=1_000 + n)), role=STAFF)

    with pytest.raises(TooManyMembers):
        organization.grant(BIA, role=STAFF)
    organization.grant(UserId(UUID(int=1_000)), role=MANAGER)


def test_a_closed_organization_takes_and_loses_nobody() -> None:
    """Terminal states are frozen."""
    organization = an_organization("close")

    for attempt in (lambda: organization.revoke(ANA), lambda: organization.grant(BIA, role=STAFF)):
        with pytest.raises(OrganizationIsClosed):
            attempt()


def test_a_suspended_person_is_given_nothing() -> None:
    """No role and no offer to carry after suspension; suspending twice is once, and never oneself."""
    user = a_user()
    with pytest.raises(OwnAccount):
        user.suspend(by=ANA)
    user.suspend(by=ADMIN)
    user.suspend(by=ADMIN)

    assert recorded(user) == ["UserRegistered", "UserSuspended"]
    with pytest.raises(UserIsSuspended):
        user.grant(PlatformRole.ADMIN)
    with pytest.raises(UserIsSuspended):
        user.offer_to_carry(a_profile())


def a_profile(lat: float = -30.034647, lon: float = -51.217658) -> VolunteerProfile:
    """A car in Porto Alegre."""
    return VolunteerProfile.near_home(vehicle=Vehicle.CAR, capacity_g=100_000, lat=lat, lon=lon, radius_m=5_000)


@given(lat=st.floats(-90, 90), lon=st.floats(-180, 180))
def test_a_home_is_never_exact(lat: float, lon: float) -> None:
    """The point kept is on the grid of hundredths, at most half a step away, and still on the globe."""
    profile = a_profile(lat, lon)

    assert (profile.lat, profile.lon) == (round(profile.lat, 2), round(profile.lon, 2))
    assert max(abs(profile.lat - lat), abs(profile.lon - lon)) <= 0.005 + 1e-9
    assert -90 <= profile.lat <= 90
    assert -180 <= profile.lon <= 180


def test_a_key_lives_until_its_time_or_its_revocation() -> None:
    """Active before `expires_at`, not at it; never after revocation; only an active one is rotated."""
    key = a_key(expires_at=NOW + timedelta(hours=1))
    new = KeySecret(prefix="vaj_live_zyxwvuts", sha256="1" * 64)

    assert key.is_active(now=NOW + timedelta(minutes=59))
    assert not key.is_active(now=NOW + timedelta(hours=1))
    key.rotate(new, now=NOW)
    assert key.secret == new
    key.revoke()
    key.revoke()

    assert recorded(key) == ["ApiKeyIssued", "ApiKeyRotated", "ApiKeyRevoked"]
    with pytest.raises(ApiKeyNotActive):
        key.rotate(new, now=NOW)
    with pytest.raises(Invalid):
        a_key(expires_at=NOW)


def test_a_place_changes_only_by_difference() -> None:
    """The same details again record nothing."""
    place = a_place()

    place.change({"name": "Loja"})
    place.change({"name": "Loja do Centro", "people_served": 30})

    assert recorded(place) == ["PlaceAdded", "PlaceChanged"]
    assert (place.details.name, place.details.people_served, place.details.lat) == ("Loja do Centro", 30, -30.0)


@pytest.mark.parametrize("email", ["a@b.co", "Ana.Silva+vaj@exemplo.com.br", "x@xn--exmplo-bva.com", "a'b@c-d.org"])
def test_addresses_that_mail_reaches(email: str) -> None:
    """What people really have is accepted."""
    assert is_email(email)
    assert email_key(email) == email_key(email.upper())


@pytest.mark.parametrize(
    "email",
    ["", "a", "a@b", "@b.co", "a@.co", "a@b..co", ".a@b.co", "a.@b.co", "a b@c.co", "a@b.co\n", "á@b.co", "a@-b.co",
     "\u212a@b.co", "a@b.co,c@d.co", "a" * 250 + "@b.co"],
)  # fmt: skip
def test_addresses_that_are_none(email: str) -> None:
    """Anything that could be two addresses, none, or somebody else's after folding is refused."""
    assert not is_email(email)


@pytest.mark.parametrize("written", ["16.727.230/0001-97", "16727230000197"])
def test_a_cnpj_may_be_written_with_punctuation(written: str) -> None:
    """Points, stroke and dash are for people."""
    assert normalised(written) == "16727230000197"
    assert root_of(normalised(written)) == "16727230"


@pytest.mark.parametrize(
    "written", ["16.727.230/0001-98", "1672723000019", "12abc34501de35", "\uff11" + "6727230000197", ""]
)
def test_a_wrong_cnpj_says_where(written: str) -> None:
    """Shape, ASCII and check digits are checked, in this order, and the refusal points at the member."""
    with pytest.raises(CnpjInvalid) as refused:
        normalised(written, pointer="/cnpjs/3")
    assert refused.value.details["pointer"] == "/cnpjs/3"


def test_a_root_has_no_check_digits() -> None:
    """Eight characters are a company; nine are nothing."""
    assert normalised_or_root("16.727.230", pointer="/cnpjs/0") == "16727230"
    with pytest.raises(CnpjInvalid):
        normalised_or_root("167272300", pointer="/cnpjs/0")


def a_life_of_each() -> list[Aggregate]:
    """Every aggregate after every kind of fact."""
    organization = an_organization("verify", "suspend", "verify")
    organization.grant(BIA, role=MANAGER)
    organization.revoke(ANA)
    organization.close(reason="mudança")
    user = a_user()
    user.grant(PlatformRole.COORDINATOR)
    user.offer_to_carry(a_profile())
    user.end_session(SessionId(UUID(int=5)))
    user.suspend(by=ADMIN)
    key = a_key(expires_at=NOW + timedelta(days=1), rate_per_minute=60)
    key.rotate(KeySecret(prefix="vaj_live_zyxwvuts", sha256="1" * 64), now=NOW)
    key.revoke()
    place = a_place()
    place.change({"accepts": ("dairy",), "cep": "90020007"})
    signing = SigningKey.publish(SigningKeyId(UUID(int=400)), jwk={"kid": "k", "kty": "EC"}, now=NOW)
    return [organization, user, key, place, signing]


def test_every_fact_survives_json() -> None:
    """Facts written and read back are equal and fold to the same aggregate, and each kind of fact is tried."""
    tried = set()
    for aggregate in a_life_of_each():
        read: list[Any] = [
            msgspec.json.decode(msgspec.json.encode(event), type=EVENTS[type(event).__name__])
            for event in aggregate.pending
        ]
        assert read == aggregate.pending
        assert type(aggregate).fold(aggregate.id, read) == aggregate
        tried |= {type(event).__name__ for event in read}
    assert tried == EVENTS.keys()
