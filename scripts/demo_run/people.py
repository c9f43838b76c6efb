"""Who takes part: an admin, organizations that the admin verifies, their places and members, volunteers, one partner."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from scripts.demo_run import data, state
from scripts.demo_run.client import Gateway, Json, Key, Person, Refused
from scripts.demo_run.progress import Stages
from scripts.demo_run.state import Account, State, person_of

T = TypeVar("T")

VOLUNTEERS = 40
CLAIMS_BEFORE_MAX = 5  # who carried more than this in the last day rests: ten a day are allowed
PROVIDERS = 14
SHELTERS_PER_ORGANIZATION_MAX = 16
STAFFED = 6  # organizations where a second person helps
ALPHANUMERIC_EVERY = 3  # of the CNPJs: the form that Receita Federal hands out from July 2026 on
PARTNER = "partner"
PET_SHELTER_ACCEPTS = ["pet", "medicine", "cleaning", "bedding", "packaging", "hygiene", "other"]
PARTNER_SCOPES = [
    "batches:read", "batches:write", "deliveries:read", "requests:read", "webhooks:manage", "analytics:read",
]  # fmt: skip
CATALOGUE_SCOPES = ["catalogue:read", "catalogue:write"]
# (vehicle, capacity in grams): a few cannot carry much, and the platform has to see to that.
VEHICLES = [
    ("van", 900_000), ("car", 350_000), ("truck", 3_000_000), ("car", 350_000), ("van", 900_000), ("motorbike", 30_000),
    ("car", 350_000), ("van", 900_000), ("bike", 15_000), ("truck", 3_000_000),
]  # fmt: skip
VOLUNTEER_RADIUS_M = 150_000
FIRST_NAMES = [
    "Ana", "Bruno", "Carla", "Diego", "Elisa", "Fábio", "Gabriela", "Heitor", "Inês", "João", "Karina", "Lucas", "Marina",
    "Nelson", "Olívia", "Paulo", "Quitéria", "Rafael", "Sofia", "Tiago", "Úrsula", "Vítor", "Wanda", "Yara", "Zeca",
]  # fmt: skip
LAST_NAMES = ["Souza", "Pereira", "Almeida", "Ferreira", "Ribeiro", "Machado", "Teixeira", "Moraes", "Schneider"]
TAKEN = ("email-taken", "email-already-registered", "email-in-use")
# What other services say until they have heard of a new place, organization or membership.
NEW_TENANT = ("place-not-found", "organization-not-verified", "not-your-place", "organization-not-found")


@dataclass
class Place:
    """A place that the platform knows; `key` is its name in the state file."""

    key: str
    id: str
    name: str
    lat: float
    lon: float
    organization: Organization
    accepts: list[str] = field(default_factory=list)
    shelter: data.Shelter | None = None


@dataclass
class Organization:
    """An organization with the people who act for it."""

    key: str
    name: str
    kinds: list[str]
    id: str = ""
    members: list[Person] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    @property
    def manager(self) -> Person:
        """The person who registered it."""
        return self.members[0]

    def somebody(self, turn: int) -> Person:
        """A member, in turn: so the work and the quota are shared."""
        return self.members[turn % len(self.members)]


@dataclass
class Cast:
    """Everybody who takes part."""

    admin: Person
    coordinator: Person
    receivers: list[Organization]
    providers: list[Organization]
    partner: Organization
    partner_key: Key
    catalogue_key: Key
    volunteers: list[Person]

    @property
    def organizations(self) -> list[Organization]:
        """All of them."""
        return [*self.receivers, *self.providers, self.partner]

    @property
    def shelters(self) -> list[Place]:
        """Every receiving place."""
        return [place for organization in self.receivers for place in organization.places]

    @property
    def people(self) -> list[Person]:
        """Everybody with an account."""
        members = [member for organization in self.organizations for member in organization.members]
        return [self.admin, self.coordinator, *members, *self.volunteers]


class Casting:
    """Brings everybody about; what an earlier run brought about already is used again."""

    def __init__(self, gateway: Gateway, stages: Stages, known: State, path: Path) -> None:
        self._gateway = gateway
        self._stages = stages
        self._state = known
        self._path = path

    def account(self, key: str, number: int) -> Account:
        """The credentials of somebody, made once and kept before they are used."""
        if key not in self._state.accounts:
            first, last = FIRST_NAMES[number % len(FIRST_NAMES)], LAST_NAMES[number % len(LAST_NAMES)]
            locale = "en" if number % 5 == 4 else "pt-BR"
            email = f"{key}.{self._state.seed}@demo.example"
            self._state.accounts[key] = Account(email, secrets.token_urlsafe(18), f"{first} {last}", locale)
        return self._state.accounts[key]

    async def assemble(self, admin: Person) -> Cast:
        """Everybody, registered, verified, with places and roles."""
        receivers, providers = _receivers(), _providers()
        partner = Organization(PARTNER, "Mercado Parceiro (demonstração)", ["partner", "provider"])
        organizations = [*receivers, *providers, partner]
        members = {one.key: self._member_accounts(one, number) for number, one in enumerate(organizations)}
        volunteers = {key: self.account(key, n) for n, key in enumerate(self._rested())}
        coordinator = self.account("coordinator", 7)
        self._save()
        everybody = [*(account for group in members.values() for account in group), *volunteers.values(), coordinator]
        await self._kept("people sign up", everybody, self._sign_up)
        people = {account.email: person_of(account) for account in everybody}
        await self._stages.each("people sign in", [admin, *people.values()], self._sign_in)
        for organization in organizations:
            organization.members = [people[account.email] for account in members[organization.key]]
        await self._organizations(admin, organizations)
        await self._places(receivers, [*providers, partner])
        await self._volunteers(volunteers, people)
        await self._role(admin, people[coordinator.email], "coordinator")
        shop, tills = await self._keys(partner)
        self._save()
        carriers = [people[account.email] for account in volunteers.values()]
        return Cast(admin, people[coordinator.email], receivers, providers, partner, shop, tills, carriers)

    def _rested(self) -> list[str]:
        """So many volunteers who can still carry a lot today: those with an unfinished delivery, old ones, new ones."""
        unfinished = {left["volunteer"] for left in self._state.unfinished}
        busy = [name for name, account in self._state.accounts.items() if account.email in unfinished]
        yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        rested = (
            name
            for name in (f"volunteer{n:02d}" for n in itertools.count())
            if name not in busy
            and sum(claimed > yesterday for claimed in self._state.carried.get(name, ())) <= CLAIMS_BEFORE_MAX
        )
        return [*busy, *itertools.islice(rested, VOLUNTEERS - len(busy))]

    def _member_accounts(self, organization: Organization, number: int) -> list[Account]:
        helper = [f"{organization.key}.staff"] if number % 5 == 0 and number < 5 * STAFFED else []
        return [self.account(key, number * 3 + n) for n, key in enumerate([f"{organization.key}.manager", *helper])]

    async def _sign_up(self, account: Account) -> None:
        if account.id:
            return
        body = {
            "email": account.email,
            "password": account.password,
            "display_name": account.name,
            "locale": account.locale,
        }
        try:
            account.id = (await self._gateway.post(None, "/v1/users", json=body))["id"]
        except Refused as refused:
            if refused.code not in TAKEN:  # an earlier run was cut off between the answer and keeping it
                raise
            account.id = (await self._gateway.get(person_of(account), "/v1/me"))["id"]

    async def _sign_in(self, person: Person) -> None:
        await person.sign_in(self._gateway)

    async def _organizations(self, admin: Person, organizations: list[Organization]) -> None:
        async def found(numbered: tuple[int, Organization]) -> None:
            number, organization = numbered
            if organization.key not in self._state.organizations:
                body = {
                    "cnpj": data.cnpj(
                        f"{self._state.seed}:{organization.key}", alphanumeric=number % ALPHANUMERIC_EVERY == 0
                    ),
                    "legal_name": f"{organization.name} Ltda.",
                    "trade_name": organization.name,
                    "kinds": organization.kinds,
                }
                answer = await self._gateway.post(organization.manager, "/v1/organizations", json=body)
                self._state.organizations[organization.key] = answer["id"]
            organization.id = self._state.organizations[organization.key]
            if organization.key not in self._state.verified:
                await self._gateway.post(admin, "/v1/organizations/{}/verify", organization.id, json={})
                self._state.verified.append(organization.key)
            for member in organization.members[1:]:
                await self._join(organization, member)

        await self._kept("organizations, verified", enumerate(organizations), found)

    async def _join(self, organization: Organization, member: Person) -> None:
        mark = f"{organization.key}/{member.email}"
        if mark not in self._state.members:
            body = {"email": member.email, "role": "staff"}
            await self._gateway.post(organization.manager, "/v1/organizations/{}/members", organization.id, json=body)
            self._state.members.append(mark)

    async def _places(self, receivers: list[Organization], providers: list[Organization]) -> None:
        groups = data.grouped(data.shelters(), size_max=SHELTERS_PER_ORGANIZATION_MAX)
        wanted = [
            (organization, _shelter_place(shelter))
            for organization, group in zip(receivers, groups, strict=True)
            for shelter in group
        ]
        seats = data.municipalities()
        wanted += [
            (organization, _pickup_place(seat))
            for number, organization in enumerate(providers)
            for seat in (seats[number], seats[number + len(providers)])
        ]

        async def added(pair: tuple[Organization, Json]) -> None:
            organization, body = pair
            key, shelter = body.pop("key"), body.pop("shelter", None)
            if key not in self._state.places:
                body["organization_id"] = organization.id
                answer = await self._gateway.post(organization.manager, "/v1/places", json=body)
                self._state.places[key] = answer["id"]
            place = Place(key, self._state.places[key], body["name"], body["lat"], body["lon"], organization)
            place.accepts, place.shelter = body["accepts"], shelter
            organization.places.append(place)

        await self._kept("places", wanted, added)

    async def _volunteers(self, accounts: dict[str, Account], people: dict[str, Person]) -> None:
        async def offered(numbered: tuple[int, str]) -> None:
            number, key = numbered
            if key in self._state.profiles:
                return
            vehicle, capacity_g = VEHICLES[number % len(VEHICLES)]
            home = data.municipalities()[number % PROVIDERS]
            body = {
                "vehicle": vehicle,
                "capacity_g": capacity_g,
                "lat": home.lat,
                "lon": home.lon,
                "radius_m": VOLUNTEER_RADIUS_M,
            }
            await self._gateway.send(people[accounts[key].email], "PUT", "/v1/me/volunteer-profile", json=body)
            self._state.profiles.append(key)

        await self._kept("volunteers offer to carry", enumerate(accounts), offered)

    async def _role(self, admin: Person, person: Person, role: str) -> None:
        mark = f"{person.email}/{role}"
        if mark not in self._state.roles:
            await self._gateway.post(admin, "/v1/users/{}/roles", person.id, json={"role": role})
            self._state.roles.append(mark)
            self._save()

    async def _keys(self, partner: Organization) -> tuple[Key, Key]:
        """The keys of the partner's shop and of its tills: each may do what it is for."""
        known = self._state
        known.partner_key = known.partner_key or await self._key(partner, "loja on-line (demonstração)", PARTNER_SCOPES)
        known.catalogue_key = known.catalogue_key or await self._key(partner, "caixa (demonstração)", CATALOGUE_SCOPES)
        return Key(known.partner_key), Key(known.catalogue_key)

    async def _key(self, partner: Organization, name: str, scopes: list[str]) -> str:
        body = {"organization_id": partner.id, "name": name, "scopes": scopes, "env": "live"}
        return str((await self._gateway.post(partner.manager, "/v1/api-keys", json=body))["key"])

    async def _kept(self, title: str, items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
        try:
            await self._stages.each(title, items, work)
        finally:
            self._save()

    def _save(self) -> None:
        state.save(self._path, self._state)


def _receivers() -> list[Organization]:
    groups = data.grouped(data.shelters(), size_max=SHELTERS_PER_ORGANIZATION_MAX)
    return [
        Organization(f"receiver{n:02d}", f"Rede de Abrigos de {group[0].municipality.name} {n + 1}", ["receiver"])
        for n, group in enumerate(groups)
    ]


def _providers() -> list[Organization]:
    seats = data.municipalities()[:PROVIDERS]
    return [
        Organization(f"provider{n:02d}", f"Banco de Alimentos de {seat.name} (demonstração)", ["provider", "donor"])
        for n, seat in enumerate(seats)
    ]


def _shelter_place(shelter: data.Shelter) -> Json:
    return {
        "key": f"shelter:{shelter.key}",
        "shelter": shelter,
        "name": shelter.name,
        "roles": ["receiving"],
        "address": shelter.address,
        "ibge_city": shelter.municipality.ibge_code,
        "lat": shelter.lat,
        "lon": shelter.lon,
        "tz": shelter.municipality.timezone,
        "accepts": PET_SHELTER_ACCEPTS if shelter.pets_only else [],
    }


def _pickup_place(seat: data.Municipality) -> Json:
    return {
        "key": f"seat:{seat.ibge_code}",
        "name": f"Depósito de {seat.name}",
        "roles": ["pickup"],
        "address": f"Centro, {seat.name}, RS",
        "ibge_city": seat.ibge_code,
        "lat": seat.lat,
        "lon": seat.lon,
        "tz": seat.timezone,
        "accepts": [],
    }
