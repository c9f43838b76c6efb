"""What verifiers of tokens look up."""

from __future__ import annotations

from chassis.routing import OfRuntime, Tx, api_router
from chassis.wire import View
from fastapi import Response

from identity import queries
from identity.api.inputs import ANONYMOUS

KEYS_FRESH_S = 300

router = api_router("discovery")


class KeySetOut(View):
    """A JWK set (RFC 7517): the public halves of the keys that tokens are signed with."""

    keys: list[dict[str, str]]


class DiscoveryOut(View):
    """Who issues tokens, and where its keys are."""

    issuer: str
    jwks_uri: str


@router.get("/.well-known/jwks.json", operation_id="get_key_set", openapi_extra=ANONYMOUS)
async def get_key_set(tx: Tx, response: Response) -> KeySetOut:
    """The keys that access tokens are verified with."""
    response.headers["Cache-Control"] = f"public, max-age={KEYS_FRESH_S}"
    return KeySetOut(keys=[row["jwk"] for row in await queries.signing_keys(tx)])


@router.get("/.well-known/openid-configuration", operation_id="get_discovery", openapi_extra=ANONYMOUS)
async def get_discovery(runtime: OfRuntime, response: Response) -> DiscoveryOut:
    """Where to find what."""
    response.headers["Cache-Control"] = f"public, max-age={KEYS_FRESH_S}"
    public_url = runtime.settings.public_url.rstrip("/")
    return DiscoveryOut(issuer=runtime.settings.token_issuer, jwks_uri=f"{public_url}/.well-known/jwks.json")
