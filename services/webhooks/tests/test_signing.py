"""Signatures agree with the published vectors and with an official library."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from chassis.kernel import Invalid
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook
from webhooks.signing import (
    InvalidSecret,
    format_public_key,
    format_secret,
    jwk_of,
    key_pair_of,
    parse_secret,
    sign,
    signed_headers,
    verify,
)

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "webhook_signature_vectors.json").read_text(encoding="utf-8")
)["vectors"]
KEY = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


def body_of(vector: dict[str, Any]) -> bytes:
    """The exact bytes a vector signs."""
    if "payload" in vector:
        return str(vector["payload"]).encode()
    return str(vector["payload_repeat"]["char"]).encode() * int(vector["payload_repeat"]["count"])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_published_vector_verifies_as_it_says(vector: dict[str, Any]) -> None:
    """A published vector is valid or not exactly as its source says."""
    keys = [parse_secret(vector["secret"])]

    valid = verify(vector["id"], vector["timestamp"], body_of(vector), vector["signature_header"], keys)

    assert valid is vector["valid"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["valid"]], ids=lambda vector: vector["name"])
def test_own_signature_is_among_those_of_a_valid_vector(vector: dict[str, Any]) -> None:
    """What we sign is what the reference signed."""
    mine = sign(vector["id"], vector["timestamp"], body_of(vector), [parse_secret(vector["secret"])])

    assert mine in vector["signature_header"].split(" ")


@given(key=st.binary(min_size=24, max_size=64), body=st.text(max_size=300), message_id=st.uuids())
def test_an_official_library_accepts_what_we_sign(key: bytes, body: str, message_id: object) -> None:
    """Receivers with the standardwebhooks package verify our headers."""
    headers = signed_headers(str(message_id), int(time.time()), body.encode(), [key])

    Webhook(format_secret(key)).verify(body.encode(), headers, json_parse=False)


@given(key=st.binary(min_size=24, max_size=64))
def test_a_secret_survives_being_written_and_read(key: bytes) -> None:
    """Formatting and parsing a secret are inverse."""
    assert parse_secret(format_secret(key)) == key


def test_every_valid_secret_signs_during_a_rotation() -> None:
    """After two rotations each of the three secrets verifies the one header."""
    keys = [bytes([n]) * 32 for n in (1, 2, 3)]

    header = sign("msg_1", 1_700_000_000, b"{}", keys)

    assert len(header.split(" ")) == 3
    assert all(verify("msg_1", 1_700_000_000, b"{}", header, [key]) for key in keys)
    assert not verify("msg_1", 1_700_000_000, b"{}", header, [bytes(32)])


@pytest.mark.parametrize(
    ("message_id", "timestamp", "body"), [("msg_2", 1, b"{}"), ("msg_1", 2, b"{}"), ("msg_1", 1, b"{ }")]
)
def test_id_time_and_body_are_all_signed(message_id: str, timestamp: int, body: bytes) -> None:
    """Changing any signed part breaks the signature."""
    header = sign("msg_1", 1, b"{}", [KEY])

    assert not verify(message_id, timestamp, body, header, [KEY])


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_!!!!",
        "whsec_" + "é" * 40,
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        "whsec_MfKQ9r8GKYqr TwjUPD8ILPZIo2LaLaSw",
        "whpk_" + base64.b64encode(bytes(32)).decode(),
    ],
)
def test_what_is_no_secret_is_refused_without_being_repeated(secret: str) -> None:
    """A bad secret is refused and its text stays out of the message."""
    with pytest.raises(InvalidSecret) as refusal:
        parse_secret(secret)

    assert not secret.removeprefix("whsec_") or secret.removeprefix("whsec_") not in str(refusal.value)


def test_signing_without_a_key_is_refused() -> None:
    """An unsigned message is never made by accident."""
    with pytest.raises(InvalidSecret):
        sign("msg_1", 1, b"{}", [])


@pytest.mark.parametrize("message_id", ["", "a.b", "a b", "a\r\nx: y", "é", "a" * 129])
def test_an_ambiguous_message_id_is_refused(message_id: str) -> None:
    """An id with a dot, white space or controls cannot be signed."""
    with pytest.raises(Invalid, match="message id"):
        sign(message_id, 1, b"{}", [KEY])


# ---------------------------------------------------------------- Ed25519

PAIR = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def test_a_pair_signs_as_the_reference_does() -> None:
    """The published signature of the reference implementation (standard-webhooks, `libraries/go`, Apache-2.0)."""
    pair = Ed25519PrivateKey.from_private_bytes(base64.b64decode("VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="))

    header = sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}', [pair])

    assert header == "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag=="


@given(body=st.binary(max_size=300))
def test_each_key_verifies_its_own_entry_alone(body: bytes) -> None:
    """Secrets and pairs sign side by side; neither is taken for the other, and no signature verifies another body."""
    header = sign("msg_1", 1, body, [KEY, PAIR])
    symmetric, asymmetric = header.split(" ")

    assert (symmetric.partition(",")[0], asymmetric.partition(",")[0]) == ("v1", "v1a")
    for key, own, other in ((KEY, symmetric, asymmetric), (PAIR.public_key(), asymmetric, symmetric)):
        assert verify("msg_1", 1, body, own, [key])
        assert verify("msg_1", 1, body, header, [key])
        assert not verify("msg_1", 1, body, other, [key])
        assert not verify("msg_1", 1, body + b".", header, [key])


@pytest.mark.parametrize("header", ["", "v1a", "v1a,", "v1a,!!!!", "v1a,AAAA", "v1a,é"])
def test_what_is_no_signature_does_not_verify(header: str) -> None:
    """Whatever the header holds, the answer is no and not an error."""
    assert not verify("msg_1", 1, b"{}", header, [KEY, PAIR.public_key()])


def test_pairs_differ_by_secret_endpoint_and_service() -> None:
    """The pair is the same whenever it is made, and another for any other secret, endpoint or service."""
    one, other = UUID(int=1), UUID(int=2)
    made = [
        format_public_key(key_pair_of(key, endpoint, service))
        for key in (bytes(32), bytes(24))
        for endpoint in (one, other)
        for service in (b"s" * 32, b"t" * 32)
    ]

    assert len(set(made)) == 8
    assert format_public_key(key_pair_of(bytes(32), one, b"s" * 32)) == made[0]
    assert all(text.startswith("whpk_") and len(base64.b64decode(text[5:])) == 32 for text in made)


def test_a_public_key_is_a_json_web_key() -> None:
    """As in RFC 8037, appendix A: the same key has the same form and the same thumbprint there."""
    private = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")

    jwk = jwk_of(Ed25519PrivateKey.from_private_bytes(private))

    assert jwk["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert jwk["kid"] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert (jwk["kty"], jwk["crv"], jwk["use"], jwk["alg"]) == ("OKP", "Ed25519", "sig", "EdDSA")
    assert "d" not in jwk
