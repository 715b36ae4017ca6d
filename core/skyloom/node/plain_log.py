"""The log of a program that has not set structlog up."""

from __future__ import annotations

import structlog


def hide_variables() -> None:
    """Leave the variables out of the tracebacks that structlog prints as it comes: passwords are among them.

    Only the renderer of its own default configuration is changed, and only while nobody has configured structlog;
    whoever does so, before or later, has what they configured.
    """
    if not structlog.is_configured():
        for processor in structlog.get_config()["processors"]:
            if isinstance(processor, structlog.dev.ConsoleRenderer):
                processor.exception_formatter = structlog.dev.plain_traceback
