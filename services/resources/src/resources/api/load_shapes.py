"""What goes in and out of the routes of catalogue loads and products."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, Literal
from uuid import UUID

from chassis.database import Row
from chassis.wire import Body, Reason, UtcMoment, View
from contracts.values import Category, LoadMode, Storage, Unit

from resources import domain

LoadStatus = Literal[
    "received", "validating", "ready", "awaiting_confirmation", "applying", "applied", "applied_with_errors", "rejected",
    "failed", "cancelled",
]  # fmt: skip
ProductStatus = Literal["active", "inactive"]


class CancelIn(Body):
    """Why."""

    reason: Reason


class RowsOut(View):
    """`total = accepted + duplicates + rejected`, as far as the payload was read; `processed` of them were applied."""

    total: int
    processed: int
    accepted: int
    duplicates: int
    rejected: int


class ChunksOut(View):
    """The parts of the load."""

    total: int
    done: int
    failed: int


class SurveyOut(View):
    """What a FULL would take away: `missing` of the company's `active` products are not in it."""

    active: int
    missing: int


class ResultOut(View):
    """What the load did."""

    inserted: int
    updated: int
    unchanged: int
    deactivated: int
    failed_chunks: int
    duration_s: float


class FaultOut(View):
    """Why it ended; where in the payload, when it could not be read."""

    reason: str
    row: int | None
    offset: int | None


class LoadOut(View):
    """A catalogue load; `progress` is between 0 and 1, `eta_s` by the rate measured so far."""

    id: UUID
    version: int
    organization_id: UUID
    cnpj: str
    mode: LoadMode
    status: LoadStatus
    allowed: list[str]
    sequence: int | None
    size_bytes: int
    sha256: str
    rows: RowsOut
    chunks: ChunksOut
    progress: float
    eta_s: float | None
    survey: SurveyOut | None
    result: ResultOut | None
    fault: FaultOut | None
    received_at: UtcMoment
    confirm_by: UtcMoment | None
    started_at: UtcMoment | None
    ended_at: UtcMoment | None


class ProductOut(View):
    """A product of a partner's catalogue; `last_load_id` changed it last."""

    cnpj: str
    gtin: str | None
    sku: str | None
    name: str
    brand: str | None
    category: Category | None
    price_cents: int
    stock: int
    unit: Unit
    storage: Storage
    expires_on: date | None
    status: ProductStatus
    last_load_id: UUID
    changed_at: UtcMoment


NOT_MOVED: dict[str, int] = dict.fromkeys(
    ("read", "chunks", "done", "failed", "processed", "rejected", "duplicates"), 0
)


def load_of(state: dict[str, Any], moved: dict[str, Any] | None, *, now: datetime) -> LoadOut:
    """A load from its state, and from its chunks as long as these are kept."""
    survey, outcome, payload = state["survey"], state["outcome"], state["payload"]
    rows, chunks = _rows(survey, moved or NOT_MOVED, over=outcome is not None), _chunks(survey, outcome, moved)
    allowed = domain.LOAD_ALLOWED[domain.LoadStatus(state["status"])]
    plain = ("id", "version", "organization_id", "cnpj", "mode", "status", "sequence", "received_at", "confirm_by",
             "started_at", "ended_at")  # fmt: skip
    progress = 1.0 if outcome is not None else rows.processed / rows.total if survey and rows.total else 0.0
    return LoadOut.model_validate(
        {
            **{name: state[name] for name in plain},
            "allowed": allowed,
            "size_bytes": payload["size_bytes"],
            "sha256": payload["sha256"],
            "rows": rows,
            "chunks": chunks,
            "progress": round(progress, 4),
            "eta_s": _eta(state, progress, now),
            "survey": None if survey is None else SurveyOut(active=survey["active"], missing=survey["missing"]),
            "result": None if outcome is None else ResultOut(**outcome, duration_s=_duration(state)),
            "fault": _fault(state),
        }
    )


def _rows(survey: dict[str, int] | None, moved: dict[str, Any], *, over: bool) -> RowsOut:
    if survey is None:
        read, duplicates, rejected = (int(moved[name]) for name in ("read", "duplicates", "rejected"))
        return RowsOut(
            total=read, processed=0, accepted=read - duplicates - rejected, duplicates=duplicates, rejected=rejected
        )
    processed = survey["rows"] if over else int(moved["processed"])
    return RowsOut(
        total=survey["rows"],
        processed=processed,
        accepted=survey["accepted"],
        duplicates=survey["duplicates"],
        rejected=survey["rejected"],
    )


def _chunks(survey: dict[str, int] | None, outcome: dict[str, int] | None, moved: dict[str, Any] | None) -> ChunksOut:
    if moved is not None:
        return ChunksOut(total=moved["chunks"], done=moved["done"], failed=moved["failed"])
    total = survey["chunks"] if survey else 0
    failed = outcome["failed_chunks"] if outcome else 0
    return ChunksOut(total=total, done=total - failed if outcome else 0, failed=failed)


def _eta(state: dict[str, Any], progress: float, now: datetime) -> float | None:
    if state["status"] != "applying" or not 0 < progress < 1:
        return None
    since = (now - _moment(state["started_at"])).total_seconds()
    return round(since * (1 - progress) / progress, 1)


def _duration(state: dict[str, Any]) -> float:
    return (_moment(state["ended_at"] or state["received_at"]) - _moment(state["received_at"])).total_seconds()


def _fault(state: dict[str, Any]) -> FaultOut | None:
    return None if state["reason"] is None else FaultOut(**{name: state[name] for name in ("reason", "row", "offset")})


def _moment(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value).astimezone(UTC)


def product_of(row: Row) -> ProductOut:
    """A product as a query found it."""
    status = "active" if row["active"] else "inactive"
    return ProductOut.model_validate({**dict(row), "status": status, "last_load_id": row["load_id"]})
