"""Takes a catalogue in as a stream: bounded, counted, hashed, kept; and only then is it a load."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from chassis.access import Principal
from chassis.idempotency import Answer, IdempotencyKeyTaken
from chassis.kernel import Invalid, new_id
from chassis.ratelimit import Quota
from chassis.routing import require
from contracts.values import LoadMode
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from resources import domain, usecases
from resources.api.load_shapes import LoadOut, load_of
from resources.catalogue import CONTENT_ENCODINGS, MEDIA_TYPES

router = APIRouter(tags=["resources"])

SEQUENCE_MAX = 2**53  # what JSON numbers hold exactly
Loader = Annotated[Principal, require("catalogue:write")]
PATHS = ("/v1/catalogue-loads", "/v1/inovafarma/products")  # bodies of these are read as they come
_BODY = {
    "requestBody": {
        "required": True,
        "description": "Rows `{sku?, gtin?, name, brand?, category?, price_cents | price, stock, unit?, storage?, expires_on?}`:"
        ' a line each, an array, `{"products": [...]}` or CSV; also with `Content-Encoding: gzip`.',
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}},
            "application/json": {"schema": {"anyOf": [{"type": "array"}, {"type": "object"}]}},
            "text/csv": {"schema": {"type": "string"}},
        },
    }
}


@dataclass(frozen=True)
class Asked:
    """What the headers say about a load."""

    organization_id: UUID
    cnpj: str
    mode: domain.LoadMode
    sequence: int | None
    media_type: str
    content_encoding: str


@router.post("/v1/catalogue-loads", status_code=202, operation_id="start_catalogue_load", openapi_extra=_BODY)
async def start_catalogue_load(
    request: Request,
    principal: Loader,
    x_load_type: Annotated[LoadMode, Header()],
    x_cnpj: Annotated[str | None, Header(max_length=20)] = None,
    x_load_sequence: Annotated[int | None, Header(ge=0, le=SEQUENCE_MAX)] = None,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> LoadOut:
    """Send a company's products: all of them (FULL) or changes (DELTA). The same payload again is the same load."""
    if x_cnpj is None:
        raise Invalid("say for which company", pointer="header:x-cnpj")
    return await _take(request, principal, x_load_type, x_cnpj, x_load_sequence, idempotency_key)  # type: ignore[return-value]


@router.post("/v1/inovafarma/products", status_code=202, operation_id="start_inovafarma_load", openapi_extra=_BODY)
async def start_inovafarma_load(
    request: Request,
    principal: Loader,
    x_inova_load_type: Annotated[LoadMode | None, Header()] = None,
    x_load_type: Annotated[LoadMode | None, Header()] = None,
    x_cnpj: Annotated[str | None, Header(max_length=20)] = None,
    x_load_sequence: Annotated[int | None, Header(ge=0, le=SEQUENCE_MAX)] = None,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> LoadOut:
    """The older name of the same; the company may be left out when the key has only one."""
    mode = x_inova_load_type or x_load_type
    if mode is None:
        raise Invalid("FULL or DELTA", pointer="header:x-inova-load-type")
    return await _take(request, principal, mode, x_cnpj, x_load_sequence, idempotency_key)  # type: ignore[return-value]


async def _take(
    request: Request, principal: Principal, mode: str, cnpj: str | None, sequence: int | None, key: str | None
) -> Response:  # fmt: skip
    runtime = request.app.state.runtime
    media_type, content_encoding = _kind(request)
    _expect_fitting(request, runtime.settings.load_bytes_max)
    organization_id, company = await usecases.company_for(runtime.database.reading(), principal, cnpj)
    quota: Quota = await runtime.quotas.take(f"loads:{company}", limit=runtime.settings.loads_per_minute)
    asked = Asked(organization_id, company, domain.LoadMode(mode), sequence, media_type, content_encoding)
    if key is None:
        answer = await _receive(request, principal, asked, None)
    else:
        scope = runtime.idempotency_keys.scope(str(principal.id), "POST", request.url.path, key)
        with runtime.idempotency_keys.running(scope):
            answer = await _receive(request, principal, asked, scope)
    answer.headers.update(quota.headers)
    return answer


def _kind(request: Request) -> tuple[str, str]:
    media_type = request.headers.get("content-type", "")
    content_encoding = request.headers.get("content-encoding", "").strip().lower()
    if media_type.partition(";")[0].strip().lower() not in MEDIA_TYPES:
        raise HTTPException(415, f"send {', '.join(MEDIA_TYPES)}")
    if (content_encoding or None) not in CONTENT_ENCODINGS:
        raise HTTPException(415, "send it as it is, or as gzip")
    return media_type[:200], content_encoding


def _expect_fitting(request: Request, bytes_max: int) -> None:
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length[:18]) > bytes_max:
        raise HTTPException(413, f"at most {bytes_max} bytes")


class _Counted:
    """A body as it comes: counted, hashed, and refused beyond the limit."""

    def __init__(self, request: Request, bytes_max: int) -> None:
        self._request = request
        self._bytes_max = bytes_max
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in self._request.stream():
            self.size_bytes += len(piece)
            if self.size_bytes > self._bytes_max:
                raise HTTPException(413, f"at most {self._bytes_max} bytes")
            self._hash.update(piece)
            if piece:
                yield piece

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


async def _receive(request: Request, principal: Principal, asked: Asked, scope: bytes | None) -> Response:
    """Keep the body, then the load; of what became no load nothing stays."""
    runtime = request.app.state.runtime
    objects, load_id = runtime.service.objects, new_id()
    body, key = _Counted(request, runtime.settings.load_bytes_max), f"payloads/{load_id}"
    try:
        await objects.put_stream(key, body.pieces())
    except ClientDisconnect as error:
        raise HTTPException(400, "the body ended before its end") from error
    kept = False
    try:
        payload = domain.Payload(
            object_key=key,
            media_type=asked.media_type,
            content_encoding=asked.content_encoding,
            size_bytes=body.size_bytes,
            sha256=body.sha256,
        )
        response, kept = await _begin(runtime, principal, asked, load_id, payload, scope)
    finally:
        if not kept:
            await objects.delete(key)
    return response


async def _begin(
    runtime: Any, principal: Principal, asked: Asked, load_id: UUID, payload: domain.Payload, scope: bytes | None
) -> tuple[Response, bool]:
    """The answer, and whether the payload is a new load's; load, event and kept answer are one transaction."""
    keys, now = runtime.idempotency_keys, datetime.now(UTC)
    fingerprint = keys.fingerprint("\0".join((payload.sha256, asked.mode, asked.cnpj)).encode())
    try:
        async with runtime.database.transaction() as tx:
            replayed = None if scope is None else await keys.find(tx, scope, fingerprint)
            if replayed is not None:
                return _replayed(replayed), False
            load, new = await usecases.receive_load(
                tx,
                load_id,
                organization_id=asked.organization_id,
                cnpj=asked.cnpj,
                mode=asked.mode,
                payload=payload,
                sequence=asked.sequence,
                received_by=principal.id,
                now=now,
            )
            response = _accepted(load, now)
            if scope is not None:
                keys.keep(tx, scope, fingerprint, Answer(202, dict(response.headers), bytes(response.body)))
    except IdempotencyKeyTaken:  # by another process, just now
        replayed = await keys.find(runtime.database.reading(), scope, fingerprint)
        if replayed is None:
            raise
        return _replayed(replayed), False
    return response, new


def _accepted(load: domain.CatalogueLoad, now: datetime) -> Response:
    shown = load_of(usecases.state_of(load), None, now=now)
    headers = {"Location": f"/v1/catalogue-loads/{load.id}", "ETag": f'"{load.version}"'}
    return JSONResponse(shown.model_dump(mode="json"), 202, headers=headers)


def _replayed(answer: Answer) -> Response:
    return Response(answer.body, answer.status, {**answer.headers, "Idempotency-Replayed": "true"})
