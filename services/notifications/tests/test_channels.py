"""E-mail is handed over once, recognisably, to exactly one person; refusals are told apart from trouble."""

from __future__ import annotations

import asyncio
import email
import email.policy
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from notifications.channels import OutgoingMessage, Permanent, Sent, Transient
from notifications.channels.email import EmailChannel, SmtpServer
from notifications.domain import Kind
from notifications.rendering import Rendered, render

MESSAGE_ID = UUID("018f4d3e-0000-7000-8000-000000000001")
SENDER = "VouAjudar <avisos@vouajudar.example>"
RENDERED = render(
    Kind.DELIVERY_OPENED,
    "pt-BR",
    {"delivery_id": "d", "items": [{"quantity": 3, "unit": "portion", "product_name": "Feijão"}]},
)


def message(recipient: str = "maria@example.org", **changes: Any) -> OutgoingMessage:
    """One message for Maria, with changes."""
    return OutgoingMessage(**{"message_id": MESSAGE_ID, "recipient": recipient, "rendered": RENDERED, **changes})


@dataclass
class Mailbox:
    """What an SMTP server took, and what it says at each step."""

    mails: list[tuple[Envelope, EmailMessage]] = field(default_factory=list)
    on_mail: str = ""
    on_rcpt: str = ""
    on_data: str = ""

    async def handle_MAIL(self, _s: Any, _p: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802 - aiosmtpd names it
        """Take or refuse the sender."""
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self.on_mail or "250 OK"

    async def handle_RCPT(self, _s: Any, _p: Session, envelope: Envelope, address: str, _options: list[str]) -> str:  # noqa: N802 - aiosmtpd names it
        """Take or refuse the recipient."""
        if not self.on_rcpt:
            envelope.rcpt_tos.append(address)
        return self.on_rcpt or "250 OK"

    async def handle_DATA(self, _s: Any, _p: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd names it
        """Take or refuse the message."""
        if not self.on_data:
            parsed = email.message_from_bytes(envelope.original_content or b"", policy=email.policy.default)
            assert isinstance(parsed, EmailMessage)
            self.mails.append((envelope, parsed))
        return self.on_data or "250 OK"


@pytest.fixture
def mailbox() -> Mailbox:
    """An empty mailbox."""
    return Mailbox()


@pytest.fixture
def serve(mailbox: Mailbox) -> Iterator[Callable[..., str]]:
    """Start SMTP servers in front of the mailbox; each call gives a URL."""
    running: list[Controller] = []

    def start(*, url: str = "smtp://{at}", **options: Any) -> str:
        controller = Controller(mailbox, hostname="127.0.0.1", port=free_port(), **options)
        controller.start()
        running.append(controller)
        return url.format(at=f"127.0.0.1:{controller.port}")

    yield start
    for controller in running:
        controller.stop()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.asyncio
async def test_a_mail_arrives_whole(serve: Callable[..., str], mailbox: Mailbox) -> None:
    """Text and HTML arrive in their language, with stable id and the headers of automatic mail."""
    sent = await EmailChannel(serve(), sender=SENDER).send(
        message(unsubscribe_url="https://api.vouajudar.example/v1/unsubscribe/abc")
    )

    [(envelope, mail)] = mailbox.mails
    assert (envelope.mail_from, envelope.rcpt_tos) == ("avisos@vouajudar.example", ["maria@example.org"])
    assert mail["From"] == SENDER
    assert mail["To"] == "maria@example.org"
    assert mail["Subject"] == "Entrega aberta: 3 porções de Feijão"
    assert mail["Message-ID"] == sent.reference == f"<{MESSAGE_ID}@vouajudar.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["List-Unsubscribe"] == "<https://api.vouajudar.example/v1/unsubscribe/abc>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail["Date"]
    text, html = mail.get_body(["plain"]), mail.get_body(["html"])
    assert text is not None
    assert html is not None
    assert text.get_content().replace("\r\n", "\n").rstrip() == RENDERED.text.rstrip()
    assert "<li>3 porções de Feijão</li>" in html.get_content()


@pytest.mark.asyncio
async def test_a_mail_sent_twice_is_recognisable(serve: Callable[..., str], mailbox: Mailbox) -> None:
    """The same message has the same Message-ID, whenever it is sent."""
    channel = EmailChannel(serve(), sender=SENDER)

    await channel.send(message())
    await channel.send(message())

    assert len({mail["Message-ID"] for _, mail in mailbox.mails}) == 1


@pytest.mark.asyncio
async def test_without_a_link_there_is_no_unsubscribe_header(serve: Callable[..., str], mailbox: Mailbox) -> None:
    """The header is there only when it leads somewhere."""
    await EmailChannel(serve(), sender=SENDER).send(message())

    assert mailbox.mails[0][1]["List-Unsubscribe"] is None
    assert mailbox.mails[0][1]["List-Unsubscribe-Post"] is None


@pytest.mark.asyncio
async def test_a_subject_cannot_add_a_header(serve: Callable[..., str], mailbox: Mailbox) -> None:
    """A line break in a subject ends as a space."""
    hostile = Rendered("Oi\r\nBcc: all@example.org\r\n\r\nbody", "t", "<p>h</p>", "t", "s")

    await EmailChannel(serve(), sender=SENDER).send(message(rendered=hostile))

    [(envelope, mail)] = mailbox.mails
    assert mail["Subject"] == "Oi Bcc: all@example.org body"
    assert mail["Bcc"] is None
    assert envelope.rcpt_tos == ["maria@example.org"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "address",
    [
        "",
        "maria",
        "@example.org",
        "maria@",
        "a@b.example, c@d.example",
        "Maria <a@b.example>",
        "a@b.example\r\nBcc: c@d.example",
        "a@b.example\n",
        "a@b.example> SIZE=1",
        "a b@c.example",
        "a@b@c.example",
        "x" * 65 + "@b.example",
    ],
)
async def test_what_is_not_one_address_is_refused_before_connecting(address: str) -> None:
    """A list, a display name or a line break is no recipient."""
    with pytest.raises(Permanent) as refusal:
        await EmailChannel("smtp://127.0.0.1:1", sender=SENDER).send(message(address))

    assert refusal.value.code == "bad-address"
    assert not address or address not in str(refusal.value)


@pytest.mark.asyncio
@pytest.mark.parametrize("url", ["https://x.example/\r\nBcc: y@z.example", "mailto:x@y.example", "https://x.example/>"])
async def test_an_unsubscribe_link_cannot_add_a_header(url: str) -> None:
    """Only a plain web link goes into a header."""
    with pytest.raises(ValueError, match="unsubscribe"):
        await EmailChannel("smtp://127.0.0.1:1", sender=SENDER).send(message(unsubscribe_url=url))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("step", "says", "kind", "detail"),
    [
        ("on_rcpt", "550 5.1.1 no maria@example.org here", Permanent, "550 5.1.1"),
        ("on_rcpt", "450 4.2.1 try later", Transient, "450 4.2.1"),
        ("on_rcpt", "452 too many", Transient, "452"),
        ("on_data", "554 5.7.1 spam", Permanent, "554 5.7.1"),
        ("on_data", "451 4.3.0 greylisted", Transient, "451 4.3.0"),
        ("on_mail", "552 5.3.4 too large", Permanent, "552 5.3.4"),
        ("on_mail", "530 5.7.0 authentication required", Transient, "530 5.7.0"),
        ("on_mail", "421 4.3.2 shutting down", Transient, "421 4.3.2"),
    ],
)
async def test_refusals_are_permanent_when_they_concern_the_message(
    serve: Callable[..., str], mailbox: Mailbox, step: str, says: str, kind: type[Exception], detail: str
) -> None:
    """5xx about recipient or message is final; 4xx and trouble with our account are tried again."""
    setattr(mailbox, step, says)

    with pytest.raises(kind) as refusal:
        await EmailChannel(serve(), sender=SENDER).send(message())

    assert refusal.value.code == "refused"  # type: ignore[attr-defined]
    assert refusal.value.detail == detail  # type: ignore[attr-defined]
    assert "maria" not in str(refusal.value)


@pytest.mark.asyncio
async def test_nobody_listening_is_transient() -> None:
    """A server that is down comes back."""
    with pytest.raises(Transient) as trouble:
        await EmailChannel(f"smtp://127.0.0.1:{free_port()}", sender=SENDER).send(message())

    assert trouble.value.code == "unreachable"


async def with_server(handler: Callable[..., Awaitable[None]], use: Callable[[str], Awaitable[Sent]]) -> Sent:
    """Use a hand-made server and close it."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    try:
        return await use(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    finally:
        server.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("bounds", [{"timeout_s": 0.1}, {"total_timeout_s": 0.1}])
async def test_a_silent_server_is_given_up(bounds: dict[str, Any]) -> None:
    """A server that never greets costs the bound and no more."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    with pytest.raises(Transient) as trouble:
        await with_server(silent, lambda url: EmailChannel(url, sender=SENDER, **bounds).send(message()))

    assert trouble.value.code == "timeout"


@pytest.mark.asyncio
@pytest.mark.parametrize("goodbye", ["silence", "cut", "421 4.0.0 bye\r\n"])
async def test_trouble_after_acceptance_does_not_send_again(goodbye: str) -> None:
    """Once the server has taken the message it counts as sent, however the connection ends."""

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        while line := await reader.readline():
            word = line[:4].upper()
            if word == b"QUIT":
                break
            if word == b"DATA":
                writer.write(b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
            writer.write(b"250 ok\r\n")
        if goodbye == "silence":
            await reader.read()
        elif goodbye != "cut":
            writer.write(goodbye.encode())
        writer.close()

    sent = await with_server(rude, lambda url: EmailChannel(url, sender=SENDER, total_timeout_s=0.5).send(message()))

    assert sent.reference.startswith(f"<{MESSAGE_ID}@")


@pytest.mark.asyncio
async def test_a_server_that_turns_everybody_away_is_transient() -> None:
    """A 554 in the greeting is about the server, not about this message."""

    async def closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"554 5.3.2 no service\r\n")
        await writer.drain()
        writer.close()

    with pytest.raises(Transient):
        await with_server(closed, lambda url: EmailChannel(url, sender=SENDER).send(message()))


def certified(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's TLS context around a fresh certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "smtp.pem").write_bytes(secret + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "smtp.pem")
    return server, ssl.create_default_context(cadata=pem.decode())


@pytest.mark.asyncio
async def test_starttls_and_login_are_used_when_offered(
    serve: Callable[..., str], mailbox: Mailbox, tmp_path: Path
) -> None:
    """The connection is encrypted before the password is sent."""
    server, client = certified(tmp_path)
    logins: list[tuple[bytes, bytes]] = []

    def authenticate(_server: Any, session: Session, _envelope: Envelope, _kind: str, data: Any) -> AuthResult:
        assert session.ssl is not None
        logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"p@ss/word", handled=False)

    options = {"tls_context": server, "require_starttls": True, "authenticator": authenticate, "auth_required": True}
    url = serve(url="smtp://robot:p%40ss%2Fword@{at}", **options)
    wrong = serve(url="smtp://robot:wrong@{at}", **options)

    await EmailChannel(url, sender=SENDER, tls_context=client).send(message())
    with pytest.raises(Transient):
        await EmailChannel(wrong, sender=SENDER, tls_context=client).send(message())

    assert logins[0] == (b"robot", b"p@ss/word")
    assert len(mailbox.mails) == 1


@pytest.mark.asyncio
async def test_a_certificate_that_does_not_fit_stops_the_mail(
    serve: Callable[..., str], mailbox: Mailbox, tmp_path: Path
) -> None:
    """Encryption with a stranger is no encryption: nothing is sent, and it is tried again."""
    server, _ = certified(tmp_path)

    with pytest.raises(Transient):
        await EmailChannel(serve(tls_context=server), sender=SENDER).send(message())

    assert mailbox.mails == []


@pytest.mark.parametrize(
    "url", ["", "http://x", "smtp://", "smtp:///x", "smtp://x/path", "smtp://x?y=1", "smtp://x:99999"]
)
def test_an_unreadable_smtp_url_stops_the_start(url: str) -> None:
    """A wrong setting fails when the channel is made, not with the first message."""
    with pytest.raises(ValueError, match=r"SMTP|[Pp]ort"):
        SmtpServer.parse(url)


@pytest.mark.parametrize("sender", ["", "VouAjudar", "a@b\r\nBcc: c@d", "A <a b@c>", "é@example.org"])
def test_a_sender_that_is_no_address_stops_the_start(sender: str) -> None:
    """The sender of the settings is one address, with a name perhaps."""
    with pytest.raises(ValueError, match="sender"):
        EmailChannel("smtp://127.0.0.1", sender=sender)


def test_the_password_does_not_show() -> None:
    """Printing the server's settings keeps the secret."""
    assert "hunter2" not in repr(SmtpServer.parse("smtp://robot:hunter2@mail.example:587"))
    assert SmtpServer.parse("smtps://mail.example") == SmtpServer("mail.example", 465, uses_tls=True)
