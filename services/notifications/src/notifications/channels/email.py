"""E-mail over SMTP: one message per connection, encrypted whenever the server offers it.

A refusal of this recipient or this message is permanent; anything that is wrong with the server, the way to it or our
own account is transient, so that a bad password never throws messages away.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import formatdate, parseaddr
from typing import Literal
from urllib.parse import unquote, urlsplit

import aiosmtplib

from notifications.channels import ChannelError, OutgoingMessage, Permanent, Sent, Transient
from notifications.rendering import one_line

TIMEOUT_S = 10.0  # per SMTP command
TOTAL_TIMEOUT_S = 30.0  # connection, greeting, login and message together
PORTS = {"smtp": 25, "smtps": 465}
TOO_LARGE = 552  # about the message although it is said at MAIL FROM (RFC 1870)

_ADDRESS = re.compile(r"[^\s@<>()\[\]\\,;:\"\x00-\x20\x7f]{1,64}@[^\s@<>()\[\]\\,;:\"\x00-\x20\x7f]{1,255}")
_HEADER_URL = re.compile(r"https?://[\x21-\x3b\x3d\x3f-\x7e]{1,2000}", re.ASCII)
_ENHANCED_CODE = re.compile(r"\b[245]\.[0-9]{1,3}\.[0-9]{1,3}\b", re.ASCII)


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where to hand messages over; the password never shows."""

    host: str
    port: int
    uses_tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> SmtpServer:
        """`smtp://[user:password@]host[:port]` (STARTTLS when offered) or `smtps://…`; raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname or parts.path not in {"", "/"} or parts.query:
            raise ValueError("an SMTP URL is smtp://[user:password@]host[:port] or smtps://…")
        return cls(
            host=parts.hostname,
            port=parts.port or PORTS[parts.scheme],
            uses_tls=parts.scheme == "smtps",
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )


class EmailChannel:
    """Hands messages to one SMTP server; `sender` is an address such as `VouAjudar <avisos@example.org>`."""

    name: Literal["email"] = "email"

    def __init__(
        self,
        smtp_url: str,
        *,
        sender: str,
        timeout_s: float = TIMEOUT_S,
        total_timeout_s: float = TOTAL_TIMEOUT_S,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        self._server = SmtpServer.parse(smtp_url)
        self._sender = _sender_address(sender)
        self._timeout_s = timeout_s
        self._total_timeout_s = total_timeout_s
        self._tls_context = tls_context

    async def send(self, message: OutgoingMessage) -> Sent:
        """Hand the message over; the reference is its Message-ID, the same whenever it is sent again."""
        mail = self._compose(message)
        is_accepted = False
        try:
            async with asyncio.timeout(self._total_timeout_s), self._connection() as connection:
                await connection.send_message(mail, sender=self._sender.addr_spec, recipients=[message.recipient])
                is_accepted = True
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            if not is_accepted:  # trouble while saying goodbye must not send the message again
                raise _classified(error, message.recipient) from error
        return Sent(str(mail["Message-ID"]))

    def _connection(self) -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(
            hostname=self._server.host,
            port=self._server.port,
            username=self._server.username,
            password=self._server.password,
            use_tls=self._server.uses_tls,
            start_tls=None,
            tls_context=self._tls_context,
            timeout=self._timeout_s,
            local_hostname=self._sender.domain,
        )

    def _compose(self, message: OutgoingMessage) -> EmailMessage:
        rendered = message.rendered
        mail = EmailMessage(policy=SMTP_POLICY)
        mail["From"] = self._sender
        mail["To"] = _recipient(message.recipient)
        mail["Subject"] = one_line(rendered.subject)
        mail["Date"] = formatdate(localtime=False)
        mail["Message-ID"] = f"<{message.message_id}@{self._sender.domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        if message.unsubscribe_url is not None:
            mail["List-Unsubscribe"] = f"<{_header_url(message.unsubscribe_url)}>"
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"  # RFC 8058
        mail.set_content(rendered.text)
        mail.add_alternative(rendered.html, subtype="html")
        return mail


def _sender_address(sender: str) -> Address:
    name, address = parseaddr(sender)
    if _ADDRESS.fullmatch(address) is None or not address.isascii() or not sender.isprintable():
        raise ValueError("the sender is no e-mail address")
    return Address(one_line(name), addr_spec=address)


def _recipient(address: str) -> str:
    """The address when it is exactly one; a list, a display name or a line break would change who gets the message."""
    if _ADDRESS.fullmatch(address) is None:
        raise Permanent("bad-address")
    return address


def _header_url(url: str) -> str:
    if _HEADER_URL.fullmatch(url) is None:
        raise ValueError("the unsubscribe link is no http or https URL")
    return url


def _classified(error: Exception, recipient: str) -> ChannelError:
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused) and error.recipients:
        error = error.recipients[0]
    if isinstance(error, aiosmtplib.SMTPNotSupported) and not recipient.isascii():
        return Permanent("not-supported", "the server takes no address with such characters")
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return _refused(error)
    if isinstance(error, TimeoutError):
        return Transient("timeout")
    return Transient("unreachable", type(error).__name__)


def _refused(error: aiosmtplib.SMTPResponseException) -> ChannelError:
    """The server's own words may repeat the address; its codes do not."""
    enhanced = _ENHANCED_CODE.search(error.message)
    detail = f"{error.code} {enhanced[0]}" if enhanced else str(error.code)
    if _concerns_message(error) and 500 <= error.code <= 599:
        return Permanent("refused", detail)
    return Transient("refused", detail)


def _concerns_message(error: aiosmtplib.SMTPResponseException) -> bool:
    return isinstance(error, aiosmtplib.SMTPRecipientRefused | aiosmtplib.SMTPDataError) or error.code == TOO_LARGE
