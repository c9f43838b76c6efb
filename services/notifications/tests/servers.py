"""Servers that the service under test talks to: a post office that can be closed, slow or rude, and an identity."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import threading
from dataclasses import dataclass
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from uuid import UUID

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope, Session
from chassis.testing import free_port

TOKEN = "internal-token-for-tests-only-0000"


@dataclass(frozen=True)
class Taken:
    """A mail that the post office took."""

    recipient: str
    mail: EmailMessage

    @property
    def id(self) -> str:
        """Its Message-ID."""
        return str(self.mail["Message-ID"])

    @property
    def subject(self) -> str:
        """Its subject."""
        return str(self.mail["Subject"])


class PostOffice:
    """An SMTP server on one port, which may be closed and opened again."""

    def __init__(self) -> None:
        self._port = free_port()
        self._controller: Controller | None = None
        self.taken: list[Taken] = []
        self.refused: list[str] = []
        self.answers: dict[str, str] = {}
        self.silent = threading.Event()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"smtp://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Listen."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self._port)
        self._controller.start()

    def close(self) -> None:
        """Refuse connections."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def calm(self) -> None:
        """Open, polite and talkative again."""
        self.silent.clear()
        self.answers.clear()
        if self._controller is None:
            self.open()

    def to(self, address: str) -> list[Taken]:
        """What was taken for one person."""
        return [taken for taken in self.taken if taken.recipient == address]

    async def handle_RCPT(  # noqa: N802 - aiosmtpd names it
        self, _s: Any, _p: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take the recipient, or say what the test wants said."""
        answer = self.answers.get(address)
        if answer is None:
            envelope.rcpt_tos.append(address)
            return "250 OK"
        self.refused.append(address)
        return answer

    async def handle_DATA(self, _s: Any, _p: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd names it
        """Take the mail; while silent, the sender never hears of it."""
        mail = email.message_from_bytes(envelope.original_content or b"", policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.taken += [Taken(recipient, mail) for recipient in envelope.rcpt_tos]
        while self.silent.is_set():
            await asyncio.sleep(0.02)
        return "250 OK"


class Identity:
    """Identity's internal route for contacts."""

    def __init__(self) -> None:
        self.people: dict[UUID, dict[str, Any]] = {}
        self.asked: list[UUID] = []
        self.troubles: dict[UUID, list[int | bytes]] = {}
        self.silent = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def calm(self) -> None:
        """Answer as one should again."""
        self.troubles.clear()
        self.silent.clear()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.silent.clear()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str, authorization: str | None) -> tuple[int, bytes]:
        if authorization != f"Bearer {TOKEN}":
            return 401, b"{}"
        user_id = UUID(path.removeprefix("/internal/v1/contacts/"))
        self.asked.append(user_id)
        troubles = self.troubles.get(user_id)
        if troubles:
            trouble = troubles.pop(0)
            return (trouble, b"{}") if isinstance(trouble, int) else (200, trouble)
        if user_id not in self.people:
            return 404, b"{}"
        return 200, json.dumps({"user_id": str(user_id), **self.people[user_id]}).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        identity = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = identity._answer(self.path, self.headers["Authorization"])
                waiting = threading.Event()
                while identity.silent.is_set():
                    waiting.wait(0.02)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
