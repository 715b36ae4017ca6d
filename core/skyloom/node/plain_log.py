"""The log of a program that has not set up how it is drawn."""

from __future__ import annotations

from typing import Final

import structlog

_AS_IT_COMES: Final = tuple(
    (processor, processor.exception_formatter)
    for processor in ([] if structlog.is_configured() else structlog.get_config()["processors"])
    if isinstance(processor, structlog.dev.ConsoleRenderer)
)


def hide_variables() -> None:
    """Leave the variables out of the tracebacks that structlog draws as it comes: passwords are among them.

    Only the renderer that structlog begins with is changed, and not when it was given another formatter: a program
    that configures a renderer has what it configured.
    """
    for renderer, formatter in _AS_IT_COMES:
        if renderer.exception_formatter is formatter:
            renderer.exception_formatter = structlog.dev.plain_traceback
