"""Names of exchanges, queues and retry steps; valid on RabbitMQ 3.10 to 4.x."""

from __future__ import annotations

SERVICES = ("identity", "batches", "deliveries", "resources", "notifications", "analytics", "webhooks")
RETRY_DELAYS_S = (1, 5, 30, 120, 600, 3600)  # one queue each
ATTEMPT_DELAYS_S = (1, 5, 30, 120, 600, 3600, 3600, 3600)  # the wait before attempt 2, 3, … 9; then a dead letter
DELIVERY_LIMIT = (
    100  # the last resort: what kills its process is found out long before, and others only happened to be there
)


def exchange(service: str) -> str:
    """The topic exchange on which a service publishes its facts."""
    return f"evt.{service}"


def queue(service: str, consumer: str) -> str:
    """The quorum queue of one consumer of a service."""
    return f"q.{service}.{consumer}"


def generation(consumer: str, number: int) -> str:
    """The name of a consumer whose projection was rebuilt `number - 1` times: each generation has a queue of its own."""
    return consumer if number == 1 else f"{consumer}.g{number}"


def control_queue(service: str) -> str:
    """Where others ask a service for facts once more (`contracts.commands`)."""
    return f"ctl.{service}"


def retry_queue(service: str, delay_s: int) -> str:
    """Fanout exchange and queue in which a message waits before it returns to its own queue."""
    return f"retry.{service}.{delay_s}s"


def dead_letter_queue(service: str) -> str:
    """What the broker itself gave up."""
    return f"dlq.{service}"
