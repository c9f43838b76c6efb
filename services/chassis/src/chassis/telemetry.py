"""Logs as JSON events, metrics, and one trace that crosses HTTP, outbox and consumer."""

from __future__ import annotations

import logging
import os
import random
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec
import structlog
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Gauge, Histogram

from chassis.settings import TelemetrySettings

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

REQUEST_SECONDS = Histogram(
    "http_request_seconds", "HTTP requests", ["method", "route", "status"], buckets=LATENCY_BUCKETS_S
)
EVENTS_PUBLISHED = Counter("outbox_published_total", "Events confirmed by the broker")
OUTBOX_BLOCKED = Gauge("outbox_blocked_aggregates", "Aggregates whose next event the broker refused")
OUTBOX_QUARANTINED = Gauge("outbox_quarantined_aggregates", "Aggregates whose next event it refused five times or more")
EVENTS_HANDLED = Counter("consumer_handled_total", "Messages by outcome", ["consumer", "outcome"])
HANDLE_SECONDS = Histogram("consumer_batch_seconds", "Time per handled batch", ["consumer"], buckets=LATENCY_BUCKETS_S)
EVENT_LAG_SECONDS = Histogram(
    "consumer_lag_seconds", "Event committed to handled", ["consumer"], buckets=LATENCY_BUCKETS_S
)
CONSUMER_PARKED = Gauge("consumer_parked_aggregates", "Aggregates with messages that wait for their turn", ["consumer"])
CONSUMER_GAPS = Gauge("consumer_gaps", "Aggregates whose next event has been missing for ten minutes", ["consumer"])
DEAD_LETTERS = Counter("dead_letters_total", "Messages that became dead letters", ["consumer"])
REPLAYED = Counter("replay_published_total", "Facts published once more for projections")
RESENT = Counter("resend_published_total", "Facts published once more for those who missed them")
DEAD_LETTERS_OPEN = Gauge("dead_letters_open", "Dead letters that wait for an operator", ["consumer"])


@dataclass(frozen=True, slots=True)
class Context:
    """Who and what the present work belongs to; travels with every event it causes."""

    trace_id: str
    span_id: str
    sampled: bool
    correlation_id: str
    request_id: str | None = None
    causation_id: str | None = None
    actor_id: str | None = None
    address: str | None = None
    client_time: datetime | None = None  # when the caller's own clock says it was asked: evidence, never trusted

    @property
    def traceparent(self) -> str:
        """W3C Trace Context level 1; the active span's id when one is recorded."""
        span = trace.get_current_span().get_span_context()
        span_id = format(span.span_id, "016x") if span.is_valid else self.span_id
        return f"00-{self.trace_id}-{span_id}-{'01' if self.sampled else '00'}"


_context: ContextVar[Context | None] = ContextVar("context", default=None)


def start_context(*, sample_ratio: float = 0.0, request_id: str | None = None) -> Context:
    """A new trace; the sampling decision is made here, once."""
    trace_id = secrets.token_hex(16)
    return Context(
        trace_id=trace_id,
        span_id=secrets.token_hex(8),
        sampled=random.random() < sample_ratio,  # noqa: S311 - sampling, not a secret
        correlation_id=request_id or trace_id,
        request_id=request_id,
    )


def continue_context(traceparent: str | None, *, correlation_id: str, causation_id: str | None) -> Context:
    """The context of work that an event caused; a missing or broken traceparent starts a new trace."""
    parts = (traceparent or "").split("-")
    if len(parts) != 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return replace(start_context(), correlation_id=correlation_id, causation_id=causation_id)
    return Context(
        trace_id=parts[1],
        span_id=parts[2],
        sampled=parts[3] == "01",
        correlation_id=correlation_id,
        causation_id=causation_id,
    )


def current_context() -> Context:
    """The context of the present task; a new one when there is none."""
    return _context.get() or start_context()


def set_actor(actor_id: str) -> None:
    """Name who acts, once the credentials are known."""
    _context.set(replace(current_context(), actor_id=actor_id))


@contextmanager
def in_context(context: Context) -> Iterator[Context]:
    """Work inside belongs to `context`."""
    token = _context.set(context)
    try:
        yield context
    finally:
        _context.reset(token)


@contextmanager
def span(name: str, context: Context, kind: SpanKind = SpanKind.INTERNAL, **attributes: Any) -> Iterator[None]:
    """A recorded span when the trace is sampled; nothing otherwise."""
    if not context.sampled:
        yield
        return
    parent = propagate.extract({"traceparent": context.traceparent})
    with trace.get_tracer("vouajudar").start_as_current_span(name, context=parent, kind=kind, attributes=attributes):
        yield


def _add_context(_: Any, __: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
    context = _context.get()
    if context is not None:
        entry["trace_id"] = context.trace_id
        for name in ("request_id", "correlation_id", "actor_id"):
            value = getattr(context, name)
            if value is not None:
                entry.setdefault(name, value)
    return entry


def configure_telemetry(service: str, settings: TelemetrySettings) -> None:
    """JSON logs on standard output and, with an OTLP address, spans to a collector. Call once, after any fork."""
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
    level = logging.getLevelNamesMapping()[settings.log_level]
    encode = msgspec.json.Encoder(enc_hook=str).encode
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format='{"level":"%(levelname)s","event":"%(name)s"}')
    structlog.configure(
        processors=[
            _add_context,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=lambda entry, **_: encode(entry)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    if settings.otlp_endpoint:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp_endpoint)))
    trace.set_tracer_provider(provider)


log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
