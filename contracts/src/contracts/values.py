"""Wire values that several producers share: words, quantities, windows, codes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.envelope import Moment

Kind = Literal["food", "medicine", "aid"]
Category = Literal[
    "prepared", "produce", "dairy", "bakery", "meat_fish", "dry", "beverage", "baby", "hygiene", "cleaning",
    "clothing", "bedding", "pet", "medicine", "packaging", "other",
]  # fmt: skip
Unit = Literal["portion", "g", "ml", "unit"]
Storage = Literal["ambient", "chilled", "frozen", "hot"]
Urgency = Literal["low", "normal", "high", "emergency"]
Severity = Literal["low", "high", "critical"]
TemperatureStage = Literal["storage", "pickup", "transit", "dropoff"]
ReservationMode = Literal["donor_delivers", "volunteer_pickup", "partner"]
OrganizationKind = Literal["provider", "receiver", "kitchen", "donor", "partner"]
PlaceRole = Literal["pickup", "receiving"]
MembershipRole = Literal["manager", "staff"]
PlatformRole = Literal["admin", "coordinator"]
KeyEnvironment = Literal["live", "test"]
Vehicle = Literal["foot", "bike", "motorbike", "car", "van", "truck"]
LoadMode = Literal["FULL", "DELTA"]
Locale = Literal["pt-BR", "en"]
Scope = Literal[
    "batches:read", "batches:write", "deliveries:read", "deliveries:write", "requests:read", "requests:write",
    "catalogue:read", "catalogue:write", "webhooks:manage", "analytics:read",
]  # fmt: skip

STOPPED_MAX = 200  # a stop-list is a list people read
QUANTITY_MAX = 10**9  # a thousand tonnes in grams: sums stay far inside 64 bits
Amount = Annotated[int, Field(ge=0, le=QUANTITY_MAX)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
IbgeCity = Annotated[str, Field(pattern=r"^[0-9]{7}$")]
Cnpj = Annotated[str, Field(pattern=r"^[0-9A-Z]{12}[0-9]{2}$")]
Gtin = Annotated[str, Field(pattern=r"^[0-9]{8}$|^[0-9]{12,14}$")]
Stopped = Category | Gtin  # what a place does not take in, by word or by product
TimeZone = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+\-/]+$")]

_CNPJ_WEIGHTS = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
# By length, what the weighted character codes of a valid GTIN add up to, modulo 10: that of as many zeros.
_GTIN_SUMS = {length: ord("0") * ((length + 1) // 2 + 3 * (length // 2)) % 10 for length in (8, 12, 13, 14)}


def cnpj_is_valid(cnpj: str) -> bool:
    """14 upper-case ASCII characters whose two check digits agree (Receita Federal: value = ASCII - 48, modulo 11)."""
    if len(cnpj) != 14 or not cnpj.isascii() or not cnpj[12:].isdigit():
        return False
    if not all(c.isdigit() or "A" <= c <= "Z" for c in cnpj):
        return False
    if len(set(cnpj)) == 1:
        return False
    return cnpj[12:] == _check_digit(cnpj[:12]) + _check_digit(cnpj[:12] + _check_digit(cnpj[:12]))


def _check_digit(body: str) -> str:
    weights = _CNPJ_WEIGHTS[-len(body) :]
    rest = sum((ord(c) - 48) * w for c, w in zip(body, weights, strict=True)) % 11
    return str(0 if rest < 2 else 11 - rest)


def gtin_is_valid(gtin: str) -> bool:
    """8, 12, 13 or 14 ASCII digits whose last is the GS1 modulo-10 check digit."""
    if len(gtin) not in _GTIN_SUMS or not gtin.isascii() or not gtin.isdigit():
        return False
    codes = gtin.encode()  # catalogues have millions: sums over bytes are four times as fast as over digits
    return (sum(codes[::-2]) + 3 * sum(codes[-2::-2])) % 10 == _GTIN_SUMS[len(gtin)]


class Value(BaseModel):
    """A frozen wire value."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Quantities(Value):
    """A batch's ledger: `total = available + held + in_transit + delivered + lost`, in the batch's unit."""

    total: Amount
    available: Amount
    held: Amount
    in_transit: Amount
    delivered: Amount
    lost: Amount


class Window(Value):
    """A half-open span of time in UTC."""

    from_at: Moment
    to_at: Moment
