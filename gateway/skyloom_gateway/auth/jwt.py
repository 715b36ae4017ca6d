"""JSON Web Tokens (RFC 7519) of an identity provider, checked as RFC 8725 advises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from skyloom_gateway.auth.denied import Denied
from skyloom_gateway.auth.identity import Identity, user_fault
from skyloom_gateway.auth.instant import is_instant

SECRET_BYTES_MIN: Final = 32
RSA_BITS_MIN: Final = 2048
SKEW_SECONDS: Final = 30.0
SECRET_ALGORITHMS: Final = frozenset({"HS256", "HS384", "HS512"})
RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
CURVES: Final = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
ALGORITHMS: Final = SECRET_ALGORITHMS | RSA_ALGORITHMS | CURVES.keys() | {"EdDSA"}

_NOT_VALID: Final = "the token is not valid; log in again"


class JwtAuthenticator:
    """Lets in who brings a token of yours or your identity provider's: ``{"scheme": "jwt", "token": "eyJ..."}``.

    A token must be signed by one of `algorithms`, whatever its own header says, and have `aud` and `exp`. It may be
    used as often as one likes until it expires: that is what tickets are better at. Needs the extra `auth`.

    Args:
        keys: the secret (HS*), or public keys in PEM; any of them may have signed. All are for all `algorithms`.
        algorithms: the ones taken, of one kind: HS*, RS* and PS*, ES*, or EdDSA.
        audience: what `aud` must be or hold.
        now: the clock, in seconds since 1970.
        issuer: what `iss` must be; not looked at when None.
        user_claim: the claim that holds the user's name.
        skew_seconds: how much later than `exp`, and earlier than `nbf`, a token is taken.

    Raises:
        ImportError: PyJWT, or cryptography, is not installed.
        ValueError: keys and algorithms do not fit; nothing of a key is in the text.
    """

    scheme = "jwt"
    development = False

    def __init__(
        self,
        keys: Sequence[bytes],
        algorithms: Sequence[str],
        audience: str,
        now: Callable[[], float],
        *,
        issuer: str | None = None,
        user_claim: str = "sub",
        skew_seconds: float = SKEW_SECONDS,
    ) -> None:
        import jwt  # of the extra `auth`

        unknown = set(algorithms) - ALGORITHMS
        kinds = {_kind(algorithm) for algorithm in algorithms}
        if unknown or len(kinds) != 1:
            raise ValueError(f"algorithms must be of one kind among {', '.join(sorted(ALGORITHMS))}")
        if not keys:
            raise ValueError("there must be at least one key")
        self._jwt = jwt
        self._algorithms = list(algorithms)
        self._keys = [_key(key, self._algorithms) for key in keys]
        self._audience, self._issuer, self._user_claim = audience, issuer, user_claim
        self._now = now
        self._skew_seconds = skew_seconds

    async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
        """Check a token; see `Authenticator.authenticate`."""
        token = auth.get("token")
        if not isinstance(token, str):
            raise Denied(_NOT_VALID, detail="auth.token is no text")
        claims = self._claims(token)
        now = self._now()
        expires_at, not_before = _time(claims, "exp"), _time(claims, "nbf")
        if expires_at is None:
            raise Denied(_NOT_VALID, detail="the token has no exp")
        if expires_at + self._skew_seconds <= now:
            raise Denied("the token has expired; log in again")
        if not_before is not None and not_before - self._skew_seconds > now:
            raise Denied("the token is not valid yet; try again later")
        user = claims.get(self._user_claim)
        if (fault := user_fault(user)) is not None:
            raise Denied(_NOT_VALID, detail=f"the token's {self._user_claim} {fault}")
        return Identity(str(user), claims)

    def _claims(self, token: str) -> dict[str, Any]:
        """The claims of a token whose signature, audience and issuer are right. Raises Denied."""
        jwt = self._jwt
        fault = ""
        for key in self._keys:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key,
                    algorithms=self._algorithms,
                    audience=self._audience,
                    issuer=self._issuer,
                    # Times are ours to judge, by the injected clock.
                    options={
                        "require": ["aud", "exp"] if self._issuer is None else ["aud", "exp", "iss"],
                        "verify_exp": False,
                        "verify_nbf": False,
                        "verify_iat": False,
                    },
                )
                return claims
            except jwt.InvalidSignatureError:
                fault = "signed with no key of this server's"
            except (jwt.PyJWTError, ValueError, RecursionError) as error:
                # Its class and no more: the text may repeat what the client sent.
                fault = type(error).__name__
                break
        raise Denied(_NOT_VALID, detail=fault)


def _kind(algorithm: str) -> str:
    """The kind of key that an algorithm needs; each ES* has a curve of its own."""
    if algorithm in SECRET_ALGORITHMS:
        return "secret"
    return "RSA" if algorithm in RSA_ALGORITHMS else algorithm


def _key(key: bytes, algorithms: Sequence[str]) -> Any:
    """A key that has been looked at, once and for all. Raises ValueError."""
    if algorithms[0] in SECRET_ALGORITHMS:
        if b"-----BEGIN" in key:
            raise ValueError("HS256 and its like take a secret, and this is a PEM key: set RS256, ES256 or EdDSA")
        if len(key) < SECRET_BYTES_MIN:
            raise ValueError(
                f"the secret has {len(key)} bytes and needs {SECRET_BYTES_MIN}: make one with `openssl rand -hex 32`"
            )
        return key
    if b"PRIVATE KEY" in key:
        raise ValueError("this is a private key: give the public one, and keep this where tokens are made")
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        loaded = load_pem_public_key(key)
    except (ValueError, TypeError):
        raise ValueError("this is no public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    algorithm = algorithms[0]
    match loaded:
        case RSAPublicKey():
            fits = algorithm in RSA_ALGORITHMS
        case EllipticCurvePublicKey():
            fits = CURVES.get(algorithm) == loaded.curve.name
        case Ed25519PublicKey() | Ed448PublicKey():
            fits = algorithm == "EdDSA"
        case _:
            fits = False
    if not fits:
        raise ValueError(f"this key is not of the kind, or not on the curve, that {algorithm} takes")
    if isinstance(loaded, RSAPublicKey) and loaded.key_size < RSA_BITS_MIN:
        raise ValueError(f"this RSA key has {loaded.key_size} bits and needs {RSA_BITS_MIN}")
    return loaded


def _time(claims: Mapping[str, object], name: str) -> float | None:
    """A claim that is a time; None when it is missing. Raises Denied."""
    value = claims.get(name)
    if value is None:
        return None
    if not is_instant(value):
        raise Denied(_NOT_VALID, detail=f"the token's {name} is no time")
    return value
