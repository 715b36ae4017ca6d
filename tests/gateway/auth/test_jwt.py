"""JSON Web Tokens: algorithms pinned, times by the injected clock, and the attacks of RFC 8725."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import sys
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from skyloom_gateway.auth import Denied, Identity, JwtAuthenticator

PEER = "192.0.2.1:5000"
NOW = 1_800_000_000.0
SECRET = b"s" * 32
NOT_VALID = "the token is not valid; log in again"
CLAIMS = {"sub": "ada", "aud": "skyloom", "exp": int(NOW) + 60, "roles": ["admin"]}

RSA = rsa.generate_private_key(65537, 2048)
SMALL_RSA = rsa.generate_private_key(65537, 1024)
CURVE = ec.generate_private_key(ec.SECP256R1())
OTHER_CURVE = ec.generate_private_key(ec.SECP384R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()


def public(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def private(key: Any) -> bytes:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


class Door:
    def __init__(self, *keys: bytes, algorithms: tuple[str, ...] = ("HS256",), **options: Any) -> None:
        self.time = NOW
        self.authenticator = JwtAuthenticator(keys or (SECRET,), algorithms, "skyloom", lambda: self.time, **options)

    async def come(self, token: object) -> Identity:
        return await self.authenticator.authenticate({"scheme": "jwt", "token": token}, PEER)

    async def denial(self, token: object) -> Denied:
        with pytest.raises(Denied) as caught:
            await self.come(token)
        return caught.value


def made(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    content = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not ...}
    return jwt.encode(content, key, algorithm, headers)


@pytest.mark.parametrize(
    ("algorithm", "signer", "verifier"),
    [
        ("HS256", SECRET, SECRET),
        ("RS256", RSA, public(RSA)),
        ("PS256", RSA, public(RSA)),
        ("ES256", CURVE, public(CURVE)),
        ("ES384", OTHER_CURVE, public(OTHER_CURVE)),
        ("EdDSA", EDWARDS, public(EDWARDS)),
    ],
)
async def test_a_token_lets_in_whom_it_names(algorithm: str, signer: Any, verifier: bytes) -> None:
    door = Door(verifier, algorithms=(algorithm,))
    assert await door.come(made(signer, algorithm)) == Identity("ada", CLAIMS)
    assert await door.come(made(signer, algorithm)) == Identity("ada", CLAIMS)  # as often as it likes


async def test_any_of_the_keys_may_have_signed() -> None:
    door = Door(public(CURVE), public(ec.generate_private_key(ec.SECP256R1())), algorithms=("ES256",))
    assert (await door.come(made(CURVE, "ES256"))).user == "ada"
    door = Door(public(ec.generate_private_key(ec.SECP256R1())), public(CURVE), algorithms=("ES256",))
    assert (await door.come(made(CURVE, "ES256"))).user == "ada"


async def test_the_public_key_is_no_secret() -> None:
    """An attacker signs with HS256 and the public key, which everybody has, for secret."""
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(CLAIMS).encode()).rstrip(b"=")
    mac = hmac.new(public(RSA), head + b"." + body, hashlib.sha256).digest()
    token = (head + b"." + body + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()
    denied = await Door(public(RSA), algorithms=("RS256",)).denial(token)
    assert (denied.message, denied.detail) == (NOT_VALID, "InvalidAlgorithmError")


@pytest.mark.parametrize("name", ["none", "None", "NONE", "HS512", "RS256", "", None, 5])
async def test_a_token_does_not_choose_its_algorithm(name: object) -> None:
    head, body, signature = made().split(".")
    head = base64.urlsafe_b64encode(json.dumps({"alg": name, "typ": "JWT"}).encode()).rstrip(b"=").decode()
    for last in (signature, ""):
        assert (await Door().denial(f"{head}.{body}.{last}")).message == NOT_VALID
    assert (await Door().denial(made(None, "none"))).message == NOT_VALID


@pytest.mark.parametrize(
    ("claims", "message", "detail"),
    [
        ({"aud": "other"}, NOT_VALID, "InvalidAudienceError"),
        ({"aud": ...}, NOT_VALID, "MissingRequiredClaimError"),
        ({"exp": ...}, NOT_VALID, "MissingRequiredClaimError"),
        ({"exp": "soon"}, NOT_VALID, "exp is no time"),
        ({"exp": True}, NOT_VALID, "exp is no time"),
        ({"exp": 10**400}, NOT_VALID, "exp is no time"),
        ({"exp": NOW - 30}, "the token has expired; log in again", ""),
        ({"nbf": NOW + 30.5}, "the token is not valid yet; try again later", ""),
        ({"nbf": [1]}, NOT_VALID, "nbf is no time"),
        ({"sub": ...}, NOT_VALID, "sub must be text"),
        ({"sub": "a\u202eb"}, NOT_VALID, "sub must have printable"),
        ({"sub": "x" * 129}, NOT_VALID, "sub must have 1 to 128"),
    ],
)
async def test_claims_that_do_not_do(claims: dict[str, Any], message: str, detail: str) -> None:
    denied = await Door().denial(made(**claims))
    assert denied.message == message
    assert detail in denied.detail


@pytest.mark.parametrize("claims", [{"exp": NOW - 29.9}, {"nbf": NOW + 29}, {"aud": ["x", "skyloom"]}, {"iss": "any"}])
async def test_claims_that_do(claims: dict[str, Any]) -> None:
    assert (await Door().come(made(**claims))).user == "ada"


async def test_time_is_the_injected_clocks() -> None:
    door = Door()
    token = made(exp=1000)
    assert "expired" in (await door.denial(token)).message
    door.time = 990
    assert (await door.come(token)).user == "ada"


@pytest.mark.parametrize(("issuer", "taken"), [("https://a.example", True), ("https://b.example", False), (..., False)])
async def test_the_issuer_is_checked_when_it_is_set(issuer: Any, taken: bool) -> None:
    door = Door(issuer="https://a.example")
    if taken:
        await door.come(made(iss=issuer))
    else:
        assert (await door.denial(made(iss=issuer))).message == NOT_VALID


async def test_the_user_may_be_another_claim() -> None:
    assert (await Door(user_claim="name").come(made(name="Ada L."))).user == "Ada L."


@pytest.mark.parametrize(
    "token", [None, 7, ["x"], {}, "", "a.b.c", "....", "ä", "\ud800", made()[:-1], made() + "A", "[" * 4000]
)
async def test_what_is_no_token(token: object) -> None:
    assert (await Door().denial(token)).message == NOT_VALID


async def test_headers_that_would_change_the_rules() -> None:
    assert (await Door().denial(made(headers={"crit": ["exp"], "exp": 1}))).message == NOT_VALID
    # Keys that a token brings along are its own affair.
    jwk = {"kty": "oct", "k": base64.urlsafe_b64encode(b"e" * 32).decode()}
    for headers in ({"jwk": jwk}, {"jku": "https://evil.example/keys"}, {"kid": "../../dev/null"}):
        assert (await Door().denial(made(b"e" * 32, headers=headers))).message == NOT_VALID


@given(st.text(max_size=300))
async def test_any_text_is_denied(text: str) -> None:
    for token in (text, f"{text}.{text}.{text}", made().rpartition(".")[0] + "." + text):
        denied = await Door().denial(token)
        assert denied.message == NOT_VALID
        assert len(denied.detail) < 60


@pytest.mark.parametrize(
    ("keys", "algorithms", "said"),
    [
        ((b"s" * 31,), ("HS256",), "the secret has 31 bytes and needs 32"),
        ((public(RSA),), ("HS256",), "take a secret, and this is a PEM key"),
        ((SECRET,), ("RS256",), "no public key in PEM"),
        ((private(RSA),), ("RS256",), "this is a private key"),
        ((public(SMALL_RSA),), ("RS256",), "has 1024 bits and needs 2048"),
        ((public(CURVE),), ("RS256",), "not of the kind"),
        ((public(RSA),), ("ES256",), "not of the kind"),
        ((public(OTHER_CURVE),), ("ES256",), "or not on the curve, that ES256 takes"),
        ((public(ec.generate_private_key(ec.SECP256K1())),), ("ES256",), "or not on the curve"),
        ((public(EDWARDS),), ("ES256",), "not of the kind"),
        ((public(RSA), public(CURVE)), ("RS256",), "not of the kind"),
        ((SECRET,), ("none",), "algorithms must be of one kind"),
        ((SECRET,), (), "algorithms must be of one kind"),
        ((SECRET,), ("HS256", "RS256"), "algorithms must be of one kind"),
        ((public(CURVE),), ("ES256", "ES384"), "algorithms must be of one kind"),
        ((), ("HS256",), "at least one key"),
    ],
)
def test_keys_and_algorithms_that_do_not_fit(keys: tuple[bytes, ...], algorithms: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        JwtAuthenticator(keys, algorithms, "skyloom", lambda: NOW)
    assert "sss" not in str(caught.value)


def test_pyjwt_is_imported_when_it_is_used() -> None:
    code = "import sys, skyloom_gateway.cli, skyloom_gateway.server; print({'jwt', 'cryptography'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
