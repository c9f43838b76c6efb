"""One POST over TLS: to the checked address, under the name, and to nobody who cannot prove it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from webhooks.domain import Outcome
from webhooks.sender import Sender

from services.webhooks.tests.receiver import Receiver, raw
from services.webhooks.tests.test_sender import LOOPBACK, answers, post


def certified(directory: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's TLS context around a fresh certificate for this name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = directory / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    client = ssl.create_default_context(cadata=certificate.public_bytes(serialization.Encoding.PEM).decode())
    return server, client


@pytest.mark.asyncio
async def test_the_name_is_kept_for_tls_and_host(tmp_path: Path) -> None:
    """The connection goes to the checked address while the certificate and Host are those of the name."""
    server, client = certified(tmp_path, "partner.example")
    shown: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: shown.append(name)
    async with (
        Receiver(ssl_context=server) as receiver,
        Sender(LOOPBACK, lookup=answers("127.0.0.1"), ssl_context=client) as sender,
    ):
        attempt = await post(sender, f"https://Partner.Example.:{receiver.port}/hook")

        assert (attempt.outcome, attempt.error, attempt.detail) == (Outcome.DELIVERED, None, "")
        assert shown == ["partner.example"]
        assert receiver.requests[0].headers["host"] == f"partner.example:{receiver.port}"


@pytest.mark.asyncio
@pytest.mark.parametrize("case", ["unknown authority", "other name", "no tls"])
async def test_a_certificate_that_does_not_fit_is_a_tls_error(tmp_path: Path, case: str) -> None:
    """Nothing is sent to a server that cannot prove its name."""
    server, client = certified(tmp_path, "partner.example")
    name = "other.example" if case == "other name" else "partner.example"
    trusted = None if case == "unknown authority" else client
    async with (
        Receiver(ssl_context=None if case == "no tls" else server, default=raw(b"nonsense\r\n\r\n")) as receiver,
        Sender(LOOPBACK, lookup=answers("127.0.0.1"), ssl_context=trusted) as sender,
    ):
        attempt = await post(sender, f"https://{name}:{receiver.port}/hook", timeout_s=2)

        assert attempt.outcome is Outcome.FAILED
        assert attempt.error in ({"tls", "timeout", "connect"} if case == "no tls" else {"tls"})
        assert receiver.requests == []
