"""The protocol's page has every error of the gateway, with the truth about it."""

from __future__ import annotations

import re
from pathlib import Path

from skyloom_gateway.contract.gateway_errors import GATEWAY_ERRORS
from skyloom_gateway.wire import CLOSE_CAUSES, ErrorKind

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "protocol.md").read_text(encoding="utf-8")


def table(head: str) -> list[list[str]]:
    """The cells of the table whose head is this."""
    rows = PAGE.split(f"\n{head}\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


ANSWERS = table("| code | kind | worth trying again | may it have run? | when |")
CLOSES = table("| code | meaning | error code on TCP | connect again? |")


def test_every_error_is_there_and_no_other() -> None:
    answers = [code for code, *_ in ANSWERS]
    last_words = set(re.findall(r"gateway\.\w+", " ".join(cells[2] for cells in CLOSES)))
    assert answers == sorted(set(answers))
    assert set(answers) | last_words == GATEWAY_ERRORS.keys()


def test_an_error_that_answers_a_request_is_as_the_contract_says() -> None:
    for code, kind, again, ran, when in ANSWERS:
        error = GATEWAY_ERRORS[code]
        assert (kind, again) == (error.kind, "yes" if error.retryable else "no"), code
        assert ran.split(",")[0] in ("no", "yes", "perhaps"), code
        assert when, code


def test_only_what_did_not_run_is_worth_trying_again() -> None:
    assert [code for code, _, again, ran, _ in ANSWERS if again == "yes" and ran != "no"] == []


def test_every_kind_and_close_code_is_there() -> None:
    assert [kind for kind, _ in table("| kind | meaning |")] == [kind.value for kind in ErrorKind]
    told = {code: errors for code, _, errors, _ in CLOSES}
    for close, cause in CLOSE_CAUSES.items():
        assert cause.code in told[str(int(close))], close
