"""Webhooks reach public addresses over https, and nothing else unless a network was opened on purpose."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webhooks.url_policy import Network, UrlNotAllowed, check_addresses, check_url, parse_networks

LOOPBACK = parse_networks("127.0.0.0/8, ::1/128")
PRIVATE = parse_networks("10.0.0.0/8")


@pytest.mark.parametrize(
    ("given_url", "normal"),
    [
        ("https://partner.example/hook", "https://partner.example/hook"),
        ("HTTPS://Partner.Example", "https://partner.example/"),
        ("https://partner.example.:443/a?b=c&d[]=e", "https://partner.example/a?b=c&d[]=e"),
        ("https://partner.example:8443/a%20b", "https://partner.example:8443/a%20b"),
        ("https://partner.example:/x", "https://partner.example/x"),
        ("https://r3---sn.partner.example/", "https://r3---sn.partner.example/"),
        ("https://doação.exemplo.org.br/ok", "https://xn--doao-ioax.exemplo.org.br/ok"),
        ("https://partner。example/", "https://partner.example/"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://\uff18.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700::1111]:444/", "https://[2606:4700::1111]:444/"),
        ("https://[2606:4700:0:0:0:0:0:1111]/", "https://[2606:4700::1111]/"),
        ("https://[::ffff:8.8.8.8]/", "https://8.8.8.8/"),
        ("https://[64:ff9b::808:808]/", "https://[64:ff9b::808:808]/"),
        ("https://168.63.129.17/", "https://168.63.129.17/"),
        ("https://100.63.255.255/", "https://100.63.255.255/"),
        ("https://100.128.0.0/", "https://100.128.0.0/"),
        ("https://172.32.0.1/", "https://172.32.0.1/"),
    ],
)
def test_a_public_https_url_passes_in_normal_form(given_url: str, normal: str) -> None:
    """What is public over https passes, and is rebuilt from the parts that were judged."""
    assert check_url(given_url).url == normal


REFUSED_FORMS = [
    ("", "absolute"),
    ("partner.example/hook", "absolute"),
    ("//partner.example/", "absolute"),
    ("https:/partner.example", "absolute"),
    ("ftp://partner.example/", "https"),
    ("file:///etc/passwd", "https"),
    ("javascript://partner.example/%0a", "https"),
    ("http://partner.example/", "https"),
    ("http://8.8.8.8/", "https"),
    ("https://", "no host"),
    ("https:///x", "no host"),
    ("https://:443/", "no host"),
    ("https://user@partner.example/", "user name"),
    ("https://user:pass@partner.example/", "user name"),
    ("https://partner.example@10.0.0.1/", "user name"),
    ("https://@partner.example/", "user name"),
    ("https://partner.example%40evil.example/", "valid name"),
    ("https://partner.example/#part", "fragment"),
    ("https://partner.example#@10.0.0.1/", "fragment"),
    ("https://partner.example\\@10.0.0.1/", "backslash"),
    ("https://partner.example/a b", "white space"),
    (" https://partner.example/", "white space"),
    ("https://partner.example/\r\nHost: x", "white space"),
    ("https://partner.example/\x00", "control"),
    ("https://partner.example/\t", "white space"),
    ("https://partner.example/ação", "percent-encoded"),
    ("https://partner.example/%zz", "percent-encoded"),
    ('https://partner.example/"', "percent-encoded"),
    ("https://partner.example:0/", "port"),
    ("https://partner.example:65536/", "port"),
    ("https://partner.example:123456/", "port"),
    ("https://partner.example:-1/", "port"),
    ("https://partner.example:+80/", "port"),
    ("https://partner.example:٤٤٣/", "port"),
    ("https://partner.example:80:90/", "port"),
    ("https://" + "a" * 2041, "longer"),
    ("https://" + "a." * 130 + "example/", "valid name"),
    ("https://" + "a" * 64 + ".example/", "valid name"),
    ("https://-a.example/", "valid name"),
    ("https://a_b.example/", "valid name"),
    ("https://a..example/", "valid name"),
    ("https://./", "valid name"),
    ("https://par%74ner.example/", "valid name"),
    ("https://127.0.0.1%2f.example/", "valid name"),
    ("https://\u2488.example/", "valid name"),
    ("https://2130706433/", "unusual notation"),
    ("https://0x7f000001/", "unusual notation"),
    ("https://0x7f.1/", "unusual notation"),
    ("https://0x/", "unusual notation"),
    ("https://017700000001/", "unusual notation"),
    ("https://0177.0.0.1/", "unusual notation"),
    ("https://127.1/", "unusual notation"),
    ("https://127.0.1/", "unusual notation"),
    ("https://8.8.8.8.8/", "unusual notation"),
    ("https://1.2.3.256/", "unusual notation"),
    ("https://partner.example.1/", "unusual notation"),
    ("https://127.0.0.1./", "loopback"),
    ("https://\uff11\uff12\uff17.0.0.1/", "loopback"),
    ("https://127。0。0。1/", "loopback"),
    ("https://localhost/", "localhost"),
    ("https://LOCALHOST./", "localhost"),
    ("https://api.localhost/", "localhost"),
    ("https://localhost.localdomain/", "localhost"),
    ("https://[fe80::1%25eth0]/", "zone"),
    ("https://[::1%lo]/", "zone"),
    ("https://[v1.fe80]/", "IPv6"),
    ("https://[127.0.0.1]/", "IPv6"),
    ("https://[]/", "IPv6"),
    ("https://[::1/", "cannot be read"),
    ("https://::1/", "cannot be read"),
    ("https://[::1]x/", "cannot be read"),
]


@pytest.mark.parametrize(("url", "reason"), REFUSED_FORMS)
def test_a_tricky_form_is_refused_with_its_reason(url: str, reason: str) -> None:
    """Every form that could mean another host than it shows is refused, and told why."""
    with pytest.raises(UrlNotAllowed, match=reason) as refusal:
        check_url(url)

    assert refusal.value.slug == "url-not-allowed"
    assert refusal.value.details == {"pointer": "/url"}


NOT_PUBLIC = [
    ("0.0.0.0", "this host"),
    ("0.1.2.3", "this host"),
    ("10.1.2.3", "private"),
    ("100.64.0.1", "carrier"),
    ("100.100.100.200", "carrier"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("168.63.129.16", "cloud"),
    ("169.254.169.254", "metadata"),
    ("169.254.170.2", "metadata"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.192", "protocol"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "6to4"),
    ("192.168.1.1", "private"),
    ("198.19.255.255", "benchmarking"),
    ("198.51.100.7", "documentation"),
    ("203.0.113.7", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("::", "this host|unspecified"),
    ("::1", "loopback|this host"),
    ("::8.8.8.8", "IPv4-compatible"),
    ("::127.0.0.1", "IPv4-compatible"),
    ("::ffff:127.0.0.1", "127.0.0.1, loopback"),
    ("::ffff:a9fe:a9fe", "169.254.169.254"),
    ("::ffff:0:8.8.8.8", "translated"),
    ("64:ff9b::10.0.0.1", "10.0.0.1, private"),
    ("64:ff9b::a9fe:a9fe", "169.254.169.254"),
    ("64:ff9b:1::808:808", "NAT64"),
    ("100::1", "discard"),
    ("2001::1", "Teredo"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"),
    ("2001:20::1", "protocol"),
    ("2001:db8::1", "documentation"),
    ("2002:a9fe:a9fe::1", "6to4"),
    ("2002:808:808::1", "6to4"),
    ("2606:4700::5efe:10.0.0.1", "10.0.0.1, private"),
    ("3ffe::1", "6bone"),
    ("3fff::1", "documentation"),
    ("5f00::1", "segment"),
    ("fc00::1", "private"),
    ("fd00:ec2::254", "private"),
    ("fe80::1", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
    ("4000::1", "not global"),
]


@pytest.mark.parametrize(("address", "reason"), NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused_as_answer_and_in_the_url(address: str, reason: str) -> None:
    """Private, special and tunnelled addresses are refused, whether resolved or written out."""
    with pytest.raises(UrlNotAllowed, match=reason):
        check_addresses([address])
    with pytest.raises(UrlNotAllowed):
        check_url(f"https://[{address}]/" if ":" in address else f"https://{address}/")


@pytest.mark.parametrize("bad", ["10.0.0.1", "::1", "64:ff9b::7f00:1", "fe80::1"])
def test_a_mixed_answer_is_refused_whole(bad: str) -> None:
    """One bad answer among public ones refuses the name, wherever it stands."""
    for answers in (["8.8.8.8", bad], [bad, "8.8.8.8"], ["8.8.8.8", bad, "2606:4700::1111"]):
        with pytest.raises(UrlNotAllowed, match="not public"):
            check_addresses(answers)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([], "no address"),
        (["8.8.8.8"] * 65, "more than"),
        (["fe80::1%eth0"], "zone"),
        ([IPv6Address("fe80::1%eth0")], "zone"),
        (["nonsense"], "unreadable"),
    ],
)
def test_an_unusable_answer_is_refused(answers: list[str], reason: str) -> None:
    """No answer, a flood of answers and unreadable answers are refused."""
    with pytest.raises(UrlNotAllowed, match=reason):
        check_addresses(answers)


@pytest.mark.parametrize(
    ("url", "networks"),
    [
        ("http://127.0.0.1:8080/", LOOPBACK),
        ("https://127.0.0.1:8080/", LOOPBACK),
        ("http://[::1]/", LOOPBACK),
        ("http://[::ffff:127.0.0.1]/", LOOPBACK),
        ("http://localhost:9000/", LOOPBACK),
        ("http://10.1.2.3/", PRIVATE),
        ("https://8.8.8.8/", PRIVATE),
        ("http://receiver.internal/", PRIVATE),
    ],
)
def test_an_opened_network_may_be_reached_over_http_too(url: str, networks: tuple[Network, ...]) -> None:
    """Networks opened by a setting are allowed, http included; the rest stays https and public."""
    check_url(url, networks)


@pytest.mark.parametrize(
    ("url", "networks"),
    [
        ("http://8.8.8.8/", LOOPBACK),
        ("https://10.0.0.1/", LOOPBACK),
        ("http://10.0.0.1/", LOOPBACK),
        ("http://localhost/", PRIVATE),
        ("https://169.254.169.254/", PRIVATE),
    ],
)
def test_an_opened_network_opens_nothing_else(url: str, networks: tuple[Network, ...]) -> None:
    """Opening one network leaves every other rule in force."""
    with pytest.raises(UrlNotAllowed):
        check_url(url, networks)


def test_a_name_over_http_needs_all_answers_inside_the_opened_networks() -> None:
    """Plain http never leaves the opened networks, not even for one answer of several."""
    check_addresses(["10.0.0.1", "10.0.0.2"], PRIVATE, scheme="http")

    with pytest.raises(UrlNotAllowed, match="https"):
        check_addresses(["10.0.0.1", "8.8.8.8"], PRIVATE, scheme="http")
    check_addresses(["10.0.0.1", "8.8.8.8"], PRIVATE, scheme="https")


@given(st.ip_addresses(v=4))
def test_no_special_ipv4_address_ever_passes(address: IPv4Address) -> None:
    """Whatever passes is global unicast by the standard library's reckoning as well."""
    try:
        check_addresses([address])
    except UrlNotAllowed:
        return
    assert address.is_global
    assert not address.is_multicast


@given(st.ip_addresses(v=6))
def test_no_special_ipv6_address_ever_passes(address: IPv6Address) -> None:
    """Whatever passes is global unicast, and so is the IPv4 address inside it."""
    try:
        check_addresses([address])
    except UrlNotAllowed:
        return
    assert address.is_global or address.ipv4_mapped or address in ipaddress.ip_network("64:ff9b::/96")
    assert not address.is_multicast
    if address.ipv4_mapped:
        assert address.ipv4_mapped.is_global


@given(st.text(max_size=60))
def test_any_text_is_judged_without_another_error(text: str) -> None:
    """Arbitrary text is refused or passes, and what passes means the same a second time."""
    for url in (text, f"https://{text}", f"https://{text}/"):
        try:
            checked = check_url(url)
        except UrlNotAllowed:
            continue
        assert check_url(checked.url) == checked


@pytest.mark.parametrize("text", ["127.0.0.1/8", "loopback", "10.0.0.0/33"])
def test_an_unreadable_network_setting_stops_the_start(text: str) -> None:
    """A wrong setting fails loudly and never opens or closes something by accident."""
    with pytest.raises(ValueError, match=r"network|host bits|netmask"):
        parse_networks(text)
