"""How an authenticator says no.

Exception
└── Denied          close code 4401, gateway.unauthenticated: come back with other credentials
    └── Forbidden   close code 4403, gateway.forbidden: whoever you show yourself to be, do not come back
"""

from __future__ import annotations


class Denied(Exception):
    """The client has not shown who it is, and may not come in.

    Args:
        message: sent to the client as it is: say what to do, and nothing that it may not know.
        detail: for the server's log alone. Not what the client sent: that may be somebody's secret.
    """

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail

    @property
    def log_fields(self) -> dict[str, str]:
        """What the log says of it besides the message."""
        return {"detail": self.detail} if self.detail else {}


class Forbidden(Denied):
    """The client has shown who it is, and may not come in all the same: it is banned, or has not paid."""
