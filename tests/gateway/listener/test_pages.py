"""Pages, without a connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyloom_gateway.listener import Pages


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    page = tmp_path / "page"
    (page / "img").mkdir(parents=True)
    (page / "__pycache__").mkdir()
    (page / "__init__.py").write_text("")
    (page / ".secret").write_text("x")
    (page / "index.html").write_text("<h1>chat</h1>")
    (page / "chat.js").write_text("1")
    (page / "img" / "a b.png").write_bytes(b"png")
    pages = Pages()
    pages.add_directory("/chat", page)
    pages.add("/", b"root", "text/html; charset=utf-8")
    pages.add("/skyloom.js", b"export {}", headers={"Access-Control-Allow-Origin": "*"})
    pages.add_dynamic("/readyz", lambda: (503, "text/plain", b"no\n"))
    return pages


@pytest.mark.parametrize(
    ("target", "status", "body", "content_type"),
    [
        ("/", 200, b"root", "text/html; charset=utf-8"),
        ("/?a=b", 200, b"root", "text/html; charset=utf-8"),
        ("/chat/", 200, b"<h1>chat</h1>", "text/html; charset=utf-8"),
        ("/chat/chat.js", 200, b"1", "text/javascript; charset=utf-8"),
        ("/chat/img/a%20b.png", 200, b"png", "image/png"),
        ("/skyloom.js", 200, b"export {}", "text/javascript; charset=utf-8"),
        ("/readyz", 503, b"no\n", "text/plain"),
        ("/chat/index.html", 404, None, "text/plain; charset=utf-8"),
        ("/chat/__init__.py", 404, None, "text/plain; charset=utf-8"),
        ("/chat/.secret", 404, None, "text/plain; charset=utf-8"),
        ("/chat/../readyz", 404, None, "text/plain; charset=utf-8"),
        ("/chat/%2e%2e/readyz", 404, None, "text/plain; charset=utf-8"),
        ("//chat/", 404, None, "text/plain; charset=utf-8"),
        ("//[", 404, None, "text/plain; charset=utf-8"),
        ("/%ff", 404, None, "text/plain; charset=utf-8"),
        ("http://evil/", 404, None, "text/plain; charset=utf-8"),
        ("*", 404, None, "text/plain; charset=utf-8"),
        ("", 404, None, "text/plain; charset=utf-8"),
    ],
)
def test_get(pages: Pages, target: str, status: int, body: bytes | None, content_type: str) -> None:
    reply = pages.respond("GET", target)
    assert (reply.status, reply.headers["Content-Type"]) == (status, content_type)
    if body is not None:
        assert reply.body == body
    assert reply.headers["Content-Length"] == str(len(reply.body))
    head = pages.respond("HEAD", target)
    assert (head.status, head.headers, head.body) == (reply.status, reply.headers, b"")


@pytest.mark.parametrize("target", ["/", "/none", "/readyz", "/chat"])
def test_every_answer_has_the_security_headers(pages: Pages, target: str) -> None:
    headers = pages.respond("GET", target).headers
    assert headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Connection"] == "close"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_other_methods(pages: Pages, method: str) -> None:
    reply = pages.respond(method, "/")
    assert reply.status == 405
    assert reply.headers["Allow"] == "GET, HEAD"


def test_a_directory_without_its_slash_is_redirected(pages: Pages) -> None:
    reply = pages.respond("GET", "/chat")
    assert (reply.status, reply.headers["Location"]) == (308, "/chat/")


def test_an_unchanged_page_is_not_sent_again(pages: Pages) -> None:
    etag = pages.respond("GET", "/").headers["ETag"]
    for value in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        reply = pages.respond("GET", "/", value)
        assert (reply.status, reply.body) == (304, b"")
        assert reply.headers["ETag"] == etag
        assert "Content-Length" not in reply.headers
    assert pages.respond("GET", "/", '"other"').status == 200


def test_a_pages_own_headers_are_sent(pages: Pages) -> None:
    assert pages.respond("GET", "/skyloom.js").headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("path", ["", "x", "//x", "/", "/readyz", "/chat", "/chat/"])
def test_paths_that_cannot_be_added(pages: Pages, path: str) -> None:
    with pytest.raises(ValueError, match="page path"):
        pages.add(path, b"")
    with pytest.raises(ValueError, match="page path"):
        pages.add_dynamic(path, lambda: (200, "", b""))


def test_what_is_no_directory_or_too_long_is_refused(pages: Pages, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no directory"):
        pages.add_directory("/x", tmp_path / "none")
    with pytest.raises(ValueError, match="4194304"):
        pages.add("/big", b"x" * (4 * 1024 * 1024 + 1))


def test_a_directory_at_the_root(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("x")
    pages = Pages()
    pages.add_directory("/", tmp_path)
    assert pages.respond("GET", "/").body == b"x"
