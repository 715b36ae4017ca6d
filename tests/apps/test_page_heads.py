"""The pages of gateway and apps have one face: what their heads share is the same line by line."""

from importlib.resources import files

PAGES = [
    files("skyloom_gateway") / "static/index.html",
    files("skyloom_gateway") / "static/play/index.html",
    files("skyloom_chat") / "page/index.html",
    files("skyloom_shop") / "page/index.html",
]
SHARED = [
    '<meta charset="utf-8">',
    '<meta name="color-scheme" content="light dark">',
    '<link rel="icon" href="/skyloom/mark.svg">',
    '<link rel="stylesheet" href="/skyloom/page.css">',
]


def test_all_pages_share_their_look_and_have_no_picture_of_their_own_of_it() -> None:
    for page in PAGES:
        text = page.read_text()
        head = [line.strip() for line in text.partition("</head>")[0].splitlines()]
        assert [line for line in head if line in SHARED] == SHARED, page
        assert '<html lang="en">' in head
        assert any(line.startswith('<meta name="viewport" content="width=device-width, ') for line in head)
        assert "data:" not in text, page
        assert "M5 11c6" not in text, page  # the mark is drawn in mark.svg
