"""The gateway's index page: which apps have a page here, and where clients connect."""

from __future__ import annotations

import html
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyloom_gateway.app import App

_PLAYGROUND = '<dt>By hand</dt><dd>the <a href="/play/">playground</a> sends any request and shows the frames</dd>'


def index_page(apps: Sequence[App], *, tcp_port: int | None, playground: bool) -> bytes:
    """The page as HTML.

    Args:
        apps: those that are served; one without a page of its own is left out.
        tcp_port: the port of clients that speak TCP, None when there is none.
        playground: whether there is one.
    """
    page = files("skyloom_gateway").joinpath("static", "index.html").read_text(encoding="utf-8")
    tcp = "" if tcp_port is None else f"<dt>TCP</dt><dd>port {tcp_port}</dd>"
    for place, filling in (
        ("<!--apps-->", "".join(_item(app) for app in apps if app.pages is not None)),
        ("<!--tcp-->", tcp),
        ("<!--playground-->", _PLAYGROUND if playground else ""),
    ):
        page = page.replace(place, filling)
    return page.encode()


def _item(app: App) -> str:
    return (
        f'<li><a class="app" href="/{app.name}/"><span class="app-title">{html.escape(app.title)}</span>'
        f'<span class="app-path">/{app.name}/</span>'
        f'<span class="app-description">{html.escape(app.description)}</span></a></li>'
    )
