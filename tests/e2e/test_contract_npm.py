"""Programs of npm judge the contract: AsyncAPI's own parser the document, TypeScript's compiler the client."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from skyloom_chat import app as chat
from skyloom_gateway.contract import Contract, contract_of, document_bytes
from skyloom_gateway.contract.typescript import typescript
from skyloom_shop import app as shop
from tests.gateway.cast import echo
from tests.gateway.contract.game import app as game
from tests.gateway.contract.test_python import FIELDS, NASTY, contract
from tests.required import required

pytestmark = [pytest.mark.ci, pytest.mark.timeout(180), pytest.mark.xdist_group("npm")]

STATIC = Path(__file__).resolve().parents[2] / "gateway/skyloom_gateway/static"
NPM_SECONDS = 120.0
PARSER_MAJOR, TYPESCRIPT_MAJOR = 3, 7
INFORMATION = 2
"""Spectral's severity from which on a finding is no fault."""

PARSE = """
const { Parser } = require("@asyncapi/parser");
const { readFileSync } = require("fs");
(async () => {
  const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
  const names = (messages) => messages.all().map((message) => message.name());
  console.log(JSON.stringify({
    faults: diagnostics.map((each) => [each.severity, each.message]),
    operations: document && Object.fromEntries(document.operations().all().map((each) => [
      each.id(), [each.action(), names(each.messages()), each.reply() ? names(each.reply().messages()) : null],
    ])),
  }));
})();
"""

USE = """
import { connect, RequestError } from "./skyloom.js";
import { typed, CONTRACT, type Requests, type ErrorCode, type Tree } from "./game.js";

export async function main(): Promise<void> {
  const client = typed(await connect({ auth: { scheme: "guest", name: "ada" } }));
  const done = await client.request("game.turn", { orders: [{ kind: "walk", to: [1, 2] }] }, { timeout: 1 });
  const turn: number = done.turn;
  const side: "red" | "blue" = done.side;
  const tree: Tree = await client.request("game.map");
  const deep: string | undefined = tree.behind[0]?.behind[0]?.name;
  await client.request("game.rules");
  await client.request("game.rules", {}, { timeout: 2 });
  client.notify("game.ping", { open: true });
  const stop: () => void = client.on("game.turned", (body, push) => console.log(body.winner, push.seq + 1));
  for await (const push of client.pushes("game.turned")) console.log(push.body.turn.toFixed());
  const code: Requests["game.turn"]["errors"] = "game.cheating";
  const any: ErrorCode = code;
  client.addEventListener("status", () => client.close());
  console.log(turn, side, deep, stop, any, CONTRACT, RequestError);
}

export async function wrong(): Promise<void> {
  const client = typed(await connect({ auth: { scheme: "guest", name: "ada" } }));
  // @ts-expect-error there is no such route
  await client.request("game.nothing");
  // @ts-expect-error a body is needed
  await client.request("game.turn");
  // @ts-expect-error a field is missing
  await client.request("game.turn", {});
  // @ts-expect-error three numbers are no place
  await client.request("game.turn", { orders: [{ kind: "walk", to: [1, 2, 3] }] });
  // @ts-expect-error there is no such field
  await client.request("game.turn", { orders: [], colour: "red" });
  // @ts-expect-error a notify is not a request
  await client.request("game.ping", { open: true });
  // @ts-expect-error the answer has no such field
  (await client.request("game.turn", { orders: [] })).winner;
  // @ts-expect-error a push has no such field
  client.on("game.turned", (body) => body.nothing);
}
"""
COMPILE = ["--strict", "--allowJs", "--noEmit", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess"]
COMPILE += ["--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom,dom.iterable"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both programs in it."""
    npm = required("npm")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"type": "module"}')
    packages = [f"@asyncapi/parser@{PARSER_MAJOR}", f"typescript@{TYPESCRIPT_MAJOR}"]
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "parse.cjs").write_text(PARSE)
    (folder / "skyloom.js").write_bytes((STATIC / "skyloom.js").read_bytes())
    if (types := STATIC / "skyloom.d.ts").is_file():
        (folder / "skyloom.d.ts").write_bytes(types.read_bytes())
    return folder


def tsc(folder: Path, *files: str) -> str:
    command = [required("node"), "node_modules/typescript/bin/tsc", *COMPILE, *files]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("apps", [[game], [shop, echo, chat, game]], ids=["game", "all"])
def test_the_parser_takes_the_document(folder: Path, apps: list[object]) -> None:
    made: Contract = contract_of(apps)  # type: ignore[arg-type]  # a list of apps
    (folder / "asyncapi.json").write_bytes(document_bytes(made))
    command = [required("node"), "parse.cjs", "asyncapi.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert [fault for fault in found["faults"] if fault[0] < INFORMATION] == []
    operations = found["operations"]
    assert len(operations) == len(made.routes) + len(made.pushes) + 1
    for route, operation in made.routes.items():
        action, body, answers = operations[f"{operation.kind}-{route}"]
        assert (action, body) == ("receive", [f"{route}-{operation.kind}"])
        assert answers == (None if operation.answer is None else [f"{route}-answer", *operation.errors])
    assert set(operations["error-gateway"][1]) == set(made.gateway_errors)


def test_the_parser_sees_a_fault(folder: Path) -> None:
    document = json.loads(document_bytes(contract_of([game])))
    document["operations"]["request-game.map"]["action"] = "answer"
    (folder / "faulty.json").write_text(json.dumps(document))
    command = [required("node"), "parse.cjs", "faulty.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert any(severity < INFORMATION for severity, _ in json.loads(done.stdout)["faults"])


def test_the_client_compiles_against_skyloom_js_and_mistakes_in_its_use_do_not(folder: Path) -> None:
    (folder / "game.ts").write_text(typescript(contract_of([game])))
    (folder / "use.ts").write_text(USE)
    assert tsc(folder, "use.ts") == ""
    (folder / "bare.ts").write_text("\n".join(line for line in USE.splitlines() if "@ts-expect-error" not in line))
    errors = [line for line in tsc(folder, "bare.ts").splitlines() if ": error TS" in line]
    assert len(errors) == USE.count("@ts-expect-error") == 8


def test_what_is_written_compiles_whatever_is_in_the_contract(folder: Path) -> None:
    (folder / "all.ts").write_text(typescript(contract_of([echo, chat, game, shop])))
    files = ["all.ts"]
    for place, words in enumerate(NASTY):
        fields = {name: {"type": "integer", "description": words} for name in FIELDS}
        thing = {"type": "object", "description": words, "properties": fields}
        keys = ["game.Client", "game.Promise", "game.string", "game.A-Output", "game.AOutput", "game.9", "x.Client"]
        made = contract(dict.fromkeys(keys, thing), {"enum": [words, None, 1.5, True]}, words=words)
        (folder / f"nasty{place}.ts").write_text(typescript(made))
        files.append(f"nasty{place}.ts")
    assert tsc(folder, *files) == ""
