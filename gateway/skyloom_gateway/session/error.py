"""Mistakes of the code that drives a session; a client cannot cause them."""


class WrongState(RuntimeError):
    """A session's method was called in a state that has no use for it. The message names both."""


class NotInFlight(LookupError):
    """No request of this id waits for an answer: it was answered, or never came, or the session closed."""
