"""Browser tests are skipped on a machine without a browser, but never in CI."""

import pytest

from tests import required


def test_a_program_that_is_there_is_found() -> None:
    assert required.required("sh").endswith("/sh")


def test_a_missing_program_skips_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(required, "IN_CI", False)
    with pytest.raises(pytest.skip.Exception):
        required.required("no-such-program")


def test_a_missing_program_fails_the_test_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(required, "IN_CI", True)
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        required.required("no-such-program")
