"""Pages over HTTP, on the port of the WebSocket listener: GET and HEAD, one answer per connection.

Every page is in memory from the moment it is added, and a request names it exactly or not at all; so no path
leads out of a directory.
"""

from __future__ import annotations

import hashlib
import http
import mimetypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from urllib.parse import unquote

import structlog

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
PAGE_BYTES_MAX = 4 * 1024 * 1024
INDEX = "index.html"
TEXT = "text/plain; charset=utf-8"

# The system's table of types differs between machines, and under nosniff a script of a wrong type is dead.
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
    ".txt": TEXT,
    ".ts": TEXT,
}

_log = structlog.get_logger("skyloom.listener")

DynamicPage = Callable[[], tuple[int, str, bytes]]


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer: status, headers and the body as it travels (empty for HEAD)."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        """The status line's phrase."""
        return http.HTTPStatus(self.status).phrase


@dataclass(frozen=True, slots=True)
class _Page:
    body: bytes
    etag: str
    headers: dict[str, str]


class Pages:
    """The pages of a server, by path."""

    def __init__(self) -> None:
        self._pages: dict[str, _Page] = {}
        self._dynamic: dict[str, DynamicPage] = {}
        self._redirects: dict[str, str] = {}

    def add(
        self,
        path: str,
        body: bytes,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Serve `body` at `path`.

        Args:
            path: the URL's path, decoded, beginning with "/".
            body: what is served.
            content_type: guessed from the path's suffix when None.
            headers: added to the usual ones, or in their place.

        Raises:
            ValueError: the path is taken or is no path, or the body is over 4 MiB.
        """
        self._claim(path)
        if len(body) > PAGE_BYTES_MAX:
            raise ValueError(f"page {path!r} has {len(body)} bytes, over {PAGE_BYTES_MAX}; serve it from elsewhere")
        etag = '"' + hashlib.sha256(body).hexdigest()[:32] + '"'
        own = {
            "Content-Type": content_type or guess_type(path),
            "Cache-Control": "no-cache",
            **(headers or {}),
        }
        self._pages[path] = _Page(body, etag, own)

    def add_directory(self, prefix: str, directory: Traversable) -> None:
        """Serve all files under `directory`, read now, at `prefix`; an index.html at its folder's path.

        Args:
            prefix: the URL's path, with or without a slash at its end.
            directory: a folder, such as `importlib.resources.files("package") / "page"`.

        Raises:
            ValueError: there is no such folder, or a path is taken.
        """
        if not directory.is_dir():
            raise ValueError(f"pages for {prefix!r}: {str(directory)!r} is no directory")
        folder = prefix if prefix.endswith("/") else prefix + "/"
        for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
            if entry.name.startswith((".", "__")):
                continue
            if entry.is_dir():
                self.add_directory(folder + entry.name, entry)
            elif entry.name == INDEX:
                self.add(folder, entry.read_bytes(), CONTENT_TYPES[".html"])
                if folder != "/":
                    self._claim(folder[:-1])
                    self._redirects[folder[:-1]] = folder
            else:
                self.add(folder + entry.name, entry.read_bytes())

    def add_dynamic(self, path: str, page: DynamicPage) -> None:
        """Ask `page()` for (status, content type, body) at each request of `path`; it must answer at once.

        Raises:
            ValueError: the path is taken or is no path.
        """
        self._claim(path)
        self._dynamic[path] = page

    def _claim(self, path: str) -> None:
        if not path.startswith("/") or path.startswith("//"):
            raise ValueError(f"page path {path!r} must begin with one '/'")
        if path in self._pages or path in self._dynamic or path in self._redirects:
            raise ValueError(f"page path {path!r} is already taken; each path has one page")

    def respond(self, method: str, target: str, if_none_match: str | None = None) -> Reply:
        """Answer a request.

        Args:
            method: the request's method, as it came.
            target: the request's target: path and query, as they came.
            if_none_match: that header's value, or None.
        """
        reply = self._find(method, target, if_none_match)
        headers = {**SECURITY_HEADERS, "Connection": "close", **reply.headers}
        if reply.status != http.HTTPStatus.NOT_MODIFIED:
            headers["Content-Length"] = str(len(reply.body))
        return Reply(reply.status, headers, b"" if method == "HEAD" else reply.body)

    def _find(self, method: str, target: str, if_none_match: str | None) -> Reply:
        try:
            path = unquote(path_of(target), errors="strict")
        except UnicodeDecodeError:
            path = ""
        if method not in ("GET", "HEAD"):
            reply = plain(http.HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered here.\n")
            return Reply(reply.status, {**reply.headers, "Allow": "GET, HEAD"}, reply.body)
        if (page := self._pages.get(path)) is not None:
            headers = {**page.headers, "ETag": page.etag}
            if if_none_match is not None and _matches(page.etag, if_none_match):
                return Reply(http.HTTPStatus.NOT_MODIFIED, headers, b"")
            return Reply(http.HTTPStatus.OK, headers, page.body)
        if (dynamic := self._dynamic.get(path)) is not None:
            try:
                status, content_type, body = dynamic()
            except Exception:  # noqa: BLE001 - logged; a page at fault must not reach the other connections
                _log.exception("page failed", path=path)
                return plain(http.HTTPStatus.INTERNAL_SERVER_ERROR, "This page has failed; see the server's log.\n")
            return Reply(status, {"Content-Type": content_type, "Cache-Control": "no-store"}, body)
        if (location := self._redirects.get(path)) is not None:
            reply = plain(http.HTTPStatus.PERMANENT_REDIRECT, f"See {location}\n")
            return Reply(reply.status, {**reply.headers, "Location": location}, reply.body)
        return plain(http.HTTPStatus.NOT_FOUND, "There is no such page.\n")


def path_of(target: str) -> str:
    """The path of a request's target, still encoded, or an empty one when the target is no path."""
    # Not urlsplit, which takes what follows two slashes for a host.
    return target.partition("?")[0] if target.startswith("/") else ""


def plain(status: int, text: str) -> Reply:
    """An answer of one line of text that is not kept by caches."""
    return Reply(status, {"Content-Type": TEXT, "Cache-Control": "no-store"}, text.encode())


def guess_type(path: str) -> str:
    """The content type that a path's suffix stands for."""
    name = path.rpartition("/")[2]
    suffix = "." + name.rpartition(".")[2].lower() if "." in name else ""
    return CONTENT_TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def _matches(etag: str, if_none_match: str) -> bool:
    """Weak comparison of RFC 9110 section 13.1.2."""
    return any(each.strip().removeprefix("W/") in (etag, "*") for each in if_none_match.split(","))
