"""The keys of one session: each welcome brings a new one, and each takes the session over once.

A key that is used a second time means that two have it, and nobody can tell which of them is the thief: the session
ends for both. But one who uses a key twice may be honest: the connection broke after the server sent the welcome with
the next key, and before the client got it. So the key last used stays good, until the client has shown that the next
one arrived. It has when

- it used the next one,
- it sent anything on the connection that brought the next one, or
- that connection is still there: a client has one connection, and would close it before it opens another.

The last is strict. A client whose connection hangs half open, right after a resume whose welcome was lost, is taken
for a thief and starts over. It learns so (`recovered: false`), and in the other reading a thief with a fresh key would
have as much time as the true client stays silent.

Keys are made from a secret and their number, so that any key that ever was good is known for ever, without keeping one.
"""

from enum import Enum
from hashlib import blake2b
from hmac import compare_digest

KEY_BYTES = 24
_DIGITS_MAX = 10


class Verdict(Enum):
    """What a key is worth."""

    GOOD = "good"
    WRONG = "wrong"
    """It was never given out."""
    USED_TWICE = "used twice"


class Keys:
    """Gives out the keys of a session and judges those that come back.

    Args:
        secret: what they are made from, at most 64 bytes.
    """

    __slots__ = ("_newest", "_secret", "_used")

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._newest = 0
        self._used = 0

    def issue(self) -> str:
        """A new key; older ones that were not used are void."""
        self._newest += 1
        return self._make(self._newest)

    def use(self, key: str, *, arrived: bool) -> Verdict:
        """Judge a key, in a time that does not tell how much of it is right.

        Args:
            key: what the client sent, of any content.
            arrived: whether the client has shown that the newest key reached it.
        """
        digits = key.partition("-")[0]
        if not (key.isascii() and digits.isdecimal() and len(digits) <= _DIGITS_MAX):
            return Verdict.WRONG
        number = int(digits)
        if not compare_digest(key, self._make(number)) or not 0 < number <= self._newest:
            return Verdict.WRONG
        if number == self._newest:
            self._used = number
        elif number != self._used or arrived:
            return Verdict.USED_TWICE
        return Verdict.GOOD

    def _make(self, number: int) -> str:
        digest = blake2b(str(number).encode(), key=self._secret.encode(), digest_size=KEY_BYTES).hexdigest()
        return f"{number}-{digest}"
