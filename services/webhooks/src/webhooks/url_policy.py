"""Which addresses a webhook may be sent to: public ones over https, chosen networks also over http.

Pure: names are resolved elsewhere and the answers judged here, all of them, at save and again at every connect.
`ipaddress.is_global` alone misses multicast, translated and tunnelled addresses, so what is refused is listed.
Sources: the IANA special-purpose address registries (RFC 6890 and later entries) and the cloud vendors' manuals.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import idna
from chassis.kernel import Invalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_CHARS_MAX = 2048
HOST_CHARS_MAX = 253  # RFC 1035
ADDRESSES_MAX = 64  # more answers than any honest name has; bounds the work per lookup

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?")
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{0,5}))?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)  # what resolvers read as a number (WHATWG URL, 3.5)
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_PATH_AND_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]|{}^-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_DEFAULT_PORTS = {"https": 443, "http": 80}

_REFUSED_V4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "cloud platform service"),
        ("169.254.0.0/16", "link-local and cloud metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_REFUSED_V6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discard only"),
        ("2001::/32", "Teredo tunnel"),
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4 tunnel"),
        ("3ffe::/16", "returned 6bone"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP_MARKS = (0x00005EFE, 0x02005EFE)
_LOOPBACKS = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


class UrlNotAllowed(Invalid):
    """A webhook may not be sent there; the message says why."""

    slug = "url-not-allowed"

    def __init__(self, reason: str) -> None:
        super().__init__(reason, pointer="/url")


@dataclass(frozen=True, slots=True)
class CheckedUrl:
    """A URL that passed: `url` is its normal form, rebuilt from the parts that were judged."""

    url: str
    scheme: str
    host: str  # a-labels or a canonical address without brackets
    port: int
    address: Address | None  # set when the host is an address and no lookup is due


def parse_networks(text: str) -> tuple[Network, ...]:
    """The networks of a comma-separated list; an empty text is none, anything else unreadable a ValueError."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def check_url(url: str, allowed_networks: Sequence[Network] = ()) -> CheckedUrl:
    """The URL in normal form, or UrlNotAllowed; a host that is an address is judged at once, a name is not yet.

    The answers of a name go to `check_addresses` with the scheme found here.
    """
    scheme, authority, tail = _split(url)
    if scheme == "http" and not allowed_networks:
        raise UrlNotAllowed("only https is allowed")
    host_text, port = _host_and_port(authority, scheme)
    host, address = _host(host_text)
    if address is not None:
        check_addresses([address], allowed_networks, scheme=scheme)
    elif _is_local_name(host) and not _reaches_loopback(allowed_networks):
        raise UrlNotAllowed("localhost is not a public address")
    shown = f"[{host}]" if isinstance(address, IPv6Address) else host
    suffix = "" if port == _DEFAULT_PORTS[scheme] else f":{port}"
    return CheckedUrl(f"{scheme}://{shown}{suffix}{tail}", scheme, host, port, address)


def check_addresses(
    addresses: Iterable[Address | str], allowed_networks: Sequence[Network] = (), *, scheme: str = "https"
) -> tuple[Address, ...]:
    """All addresses a name resolved to, each one judged; a single bad answer refuses the whole name.

    Over http every answer has to be inside the allowed networks.
    """
    checked = tuple(_parsed(address) for address in addresses)
    if not checked:
        raise UrlNotAllowed("the host has no address")
    if len(checked) > ADDRESSES_MAX:
        raise UrlNotAllowed(f"the host has more than {ADDRESSES_MAX} addresses")
    for address in checked:
        if _is_inside(address, allowed_networks):
            continue
        if scheme != "https":
            raise UrlNotAllowed("only https is allowed outside the configured networks")
        if (reason := _refusal(address)) is not None:
            raise UrlNotAllowed(f"the address {address} is not public: {reason}")
    return checked


def _split(url: str) -> tuple[str, str, str]:
    if len(url) > URL_CHARS_MAX:
        raise UrlNotAllowed(f"the URL is longer than {URL_CHARS_MAX} characters")
    if _UNSAFE.search(url):
        raise UrlNotAllowed("the URL holds white space, control characters or a backslash")
    if "#" in url:
        raise UrlNotAllowed("the URL has a fragment")
    match = _URL.fullmatch(url)
    if match is None:
        raise UrlNotAllowed("the URL is not absolute")
    scheme = match["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        raise UrlNotAllowed("only https is allowed")
    tail = (match["path"] or "/") + (match["query"] or "")
    if _PATH_AND_QUERY.fullmatch(tail) is None:
        raise UrlNotAllowed("the path and query have to be percent-encoded")
    return scheme, match["authority"], tail


def _host_and_port(authority: str, scheme: str) -> tuple[str, int]:
    if "@" in authority:
        raise UrlNotAllowed("the URL carries a user name or password")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise UrlNotAllowed("the host or port cannot be read")
    if not match["host"]:
        raise UrlNotAllowed("the URL has no host")
    port = int(match["port"]) if match["port"] else _DEFAULT_PORTS[scheme]
    if not 1 <= port <= 65535:
        raise UrlNotAllowed("the port is outside 1 to 65535")
    return match["host"], port


def _host(text: str) -> tuple[str, Address | None]:
    """The host in normal form, and the address when it is one; numbers but for the dotted quad are refused."""
    if text.startswith("["):
        return _ipv6_host(text[1:-1])
    name = _a_labels(text).removesuffix(".")
    labels = name.split(".")
    if len(name) > HOST_CHARS_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlNotAllowed("the host is not a valid name")
    if _NUMERIC_LABEL.fullmatch(labels[-1]) is None:
        return name, None
    try:
        return name, IPv4Address(name)
    except ValueError as error:
        raise UrlNotAllowed("the host is a number in an unusual notation") from error


def _ipv6_host(text: str) -> tuple[str, Address]:
    if "%" in text:
        raise UrlNotAllowed("the address carries a zone")
    try:
        address = _v4_if_mapped(IPv6Address(text))
    except ValueError as error:
        raise UrlNotAllowed("the host is not an IPv6 address") from error
    return str(address), address


def _v4_if_mapped(address: IPv6Address) -> Address:
    return address.ipv4_mapped or address


def _a_labels(host: str) -> str:
    if host.isascii():
        return host.lower()
    if len(host) > HOST_CHARS_MAX:
        raise UrlNotAllowed("the host is not a valid name")
    try:
        return idna.encode(host, uts46=True).decode("ascii").lower()
    except idna.IDNAError as error:
        raise UrlNotAllowed("the host is not a valid name") from error


def _is_local_name(name: str) -> bool:
    return name in {"localhost", "localhost.localdomain"} or name.endswith(".localhost")


def _reaches_loopback(networks: Sequence[Network]) -> bool:
    return any(network.overlaps(loopback) for network in networks for loopback in _LOOPBACKS)


def _parsed(address: Address | str) -> Address:
    if isinstance(address, str):
        if "%" in address:
            raise UrlNotAllowed("the address carries a zone")
        try:
            address = ipaddress.ip_address(address)
        except ValueError as error:
            raise UrlNotAllowed("the host has an unreadable address") from error
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise UrlNotAllowed("the address carries a zone")
    return address


def _is_inside(address: Address, networks: Sequence[Network]) -> bool:
    target = _v4_if_mapped(address) if isinstance(address, IPv6Address) else address
    return any(address in network or target in network for network in networks)


def _refusal(address: Address) -> str | None:
    """Why the address is not public, None when it is; an address inside an address is judged too."""
    if isinstance(address, IPv4Address):
        return _first_match(address, _REFUSED_V4)
    embedded = _embedded_v4(address)
    if embedded is not None and (reason := _first_match(embedded, _REFUSED_V4)) is not None:
        return f"it leads to {embedded}, {reason}"
    if address in _MAPPED or address in _NAT64:
        return None
    if (reason := _first_match(address, _REFUSED_V6)) is not None:
        return reason
    return None if address in _GLOBAL_V6 else "not global unicast"


def _embedded_v4(address: IPv6Address) -> IPv4Address | None:
    last = IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _MAPPED or address in _NAT64:
        return last
    return last if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP_MARKS else None


def _first_match(address: Address, refused: Iterable[tuple[Network, str]]) -> str | None:
    return next((reason for network, reason in refused if address in network), None)
