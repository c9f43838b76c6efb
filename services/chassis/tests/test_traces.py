"""One trace leads from the request through the outbox to the consumer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
import pytest_asyncio
from chassis.app import Runtime, Service, create_api
from chassis.broker import Publisher, Subscriber
from chassis.consumer import ConsumerRunner
from chassis.database import Database
from chassis.kernel import new_id
from chassis.message_store import SqlMessageStore
from chassis.outbox import Announcement, OutboxTables, Relay, enqueue
from chassis.roles import Role
from chassis.routing import Tx, api_router
from chassis.testing import eventually
from contracts.events.webhooks import EndpointTest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.chassis.tests.probe import running

router = api_router("traced")


@router.post("/v1/traced", status_code=202)
async def traced(tx: Tx) -> str:
    subject = new_id()
    now = datetime.now(UTC)
    enqueue(tx, stream_id=subject, messages=[(new_id(), 1, Announcement(EndpointTest(endpoint_id=subject)))], now=now)
    return str(subject)


@pytest.fixture(scope="module")
def spans() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest_asyncio.fixture(loop_scope="session")
async def runtime(service: Service, effects: Database) -> AsyncIterator[Runtime]:
    made = Runtime(replace(service, routers=[router]))
    await made.database.open()
    yield made
    await made.database.close()


async def _post(runtime: Runtime, ratio: float, **headers: str) -> str:
    runtime.settings = runtime.settings.model_copy(update={"trace_sample_ratio": ratio})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_api(runtime)), base_url="http://probe") as client:
        answer = await client.post("/v1/traced", headers=headers)
        assert answer.status_code == 202
        subject: str = answer.json()
        return subject


async def test_a_sampled_request_and_its_consumer_share_a_trace(
    spans: InMemorySpanExporter, runtime: Runtime, publisher: Publisher, declared: None, broker_url: str
) -> None:
    """The consumer's span is a descendant of the request's; an outsider's traceparent starts nothing here."""
    outside = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    runner = ConsumerRunner("webhooks", runtime.consumers[0], SqlMessageStore(runtime.database), publisher)
    subscriber = Subscriber(broker_url, name="traced", subscriptions=[runner.subscription])

    async with running(
        Role("relay", Relay(OutboxTables(runtime.database), publisher, owner=new_id()).run),
        Role("consumers", subscriber.run),
    ):
        await _post(runtime, 1.0, traceparent=outside)
        await eventually(lambda: any("process" in span.name for span in spans.get_finished_spans()))

    served = next(s for s in spans.get_finished_spans() if s.name == "POST /v1/traced")
    handled = next(s for s in spans.get_finished_spans() if "process" in s.name)
    assert served.context is not None
    assert handled.context is not None
    assert handled.parent is not None
    assert handled.context.trace_id == served.context.trace_id != int("a" * 32, 16)
    assert handled.parent.span_id == served.context.span_id


async def test_an_unsampled_request_records_nothing(spans: InMemorySpanExporter, runtime: Runtime) -> None:
    """The decision is made before the instrumented stack."""
    spans.clear()

    await _post(runtime, 0.0)

    assert spans.get_finished_spans() == ()
