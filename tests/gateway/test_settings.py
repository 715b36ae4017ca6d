"""Settings: their sources, their order, and what is said about wrong ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom_gateway.settings import GatewaySettings, Settings, SettingsError
from skyloom_gateway.settings_text import describe, environment_name, reference_page, settings_fields

REFERENCE_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


@pytest.fixture(autouse=True)
def empty_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("SKYLOOM_") and name != "SKYLOOM_CI":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def problems(command_line: dict[str, object] | None = None, config: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(command_line, config)
    assert caught.value.__cause__ is None
    return caught.value.problems


def test_defaults_are_those_of_the_design() -> None:
    settings = Settings.load()
    assert settings == Settings()
    gateway = settings.gateway
    assert (gateway.host, gateway.port, gateway.tcp_port) == ("127.0.0.1", 8000, 8001)
    assert (gateway.frame_bytes, gateway.hello_bytes, gateway.hello_timeout_seconds) == (65_536, 4_096, 5)
    assert (gateway.messages_per_second, gateway.messages_burst) == (50, 100)
    assert (gateway.unsent_messages, gateway.unsent_bytes) == (256, 262_144)
    assert (gateway.connections, gateway.requests_in_flight) == (10_000, 128)
    assert settings.origin("gateway.port") == "default"


def test_the_command_line_is_above_the_environment_above_the_file_above_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("skyloom.toml").write_text("[gateway]\nport = 1\nhost = '::1'\ntcp_port = 1\n")
    monkeypatch.setenv("SKYLOOM_GATEWAY__PORT", "2")
    monkeypatch.setenv("SKYLOOM_GATEWAY__HOST", "localhost")
    settings = Settings.load({"gateway": {"port": 3, "host": None}})
    assert (settings.gateway.port, settings.gateway.host, settings.gateway.tcp_port) == (3, "localhost", 1)
    assert settings.gateway.frame_bytes == 65_536
    assert settings.origin("gateway.port") == "command line (--port)"
    assert settings.origin("gateway.host") == "environment variable SKYLOOM_GATEWAY__HOST"
    assert settings.origin("gateway.tcp_port") == "file skyloom.toml"


def test_settings_made_in_code_read_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYLOOM_GATEWAY__PORT", "2")
    Path("skyloom.toml").write_text("node = 'other'\n")
    settings = Settings(gateway=GatewaySettings(host="::1"))
    assert (settings.gateway.port, settings.node) == (8000, "node-1")


def test_config_names_another_file_that_has_to_exist(tmp_path: Path) -> None:
    Path("skyloom.toml").write_text("node = 'here'\n")
    other = tmp_path / "other.toml"
    other.write_text("node = 'there'\n")
    assert Settings.load(config=other).node == "there"
    (problem,) = problems(config=tmp_path / "none.toml")
    assert "none.toml: cannot be read: No such file" in problem


def test_every_setting_can_be_given_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "gateway.origins": "https://a.example, http://b.example:8080",
        "gateway.tcp_port": "off",
        "gateway.admin_port": "5002",
        "gateway.tls_certificate": "cert.pem",
        "gateway.tls_key": "key.pem",
        "gateway.loopback_exempt": "false",
        "gateway.playground": "false",
        "gateway.host": "0.0.0.0",
        "gateway.authenticators": "ticket, jwt, my.auth:own",
        "gateway.allow_guests": "true",
        "gateway.reuse_port": "true",
        "gateway.trusted_proxies": "10.0.0.0/8, ::1",
        "gateway.forwarded_header": "forwarded",
        "gateway.proxy_protocol": "tcp",
        "ticket.keys": "a:" + "s" * 32,
        "ticket.keys_file": "tickets.key",
        "ticket.skew_seconds": "10",
        "jwt.key_files": "new.pem, old.pem",
        "jwt.algorithms": "RS256, PS256",
        "jwt.skew_seconds": "10",
        "log.level": "debug",
        "log.format": "json",
        "node": "game-1",
        "database": "postgresql://h/d",
        "cluster.nats": "nats://a:4222, nats://b:4222",
        "cluster.services": "false",
    }
    for name in settings_fields():
        monkeypatch.setenv(environment_name(name), values.get(name, "5000"))
    settings = Settings.load()
    assert settings.gateway.origins == ("https://a.example", "http://b.example:8080")
    assert settings.gateway.tcp_port is None
    assert settings.gateway.tls_key == Path("key.pem")
    assert settings.gateway.loopback_exempt is False
    assert settings.gateway.authenticators == ("ticket", "jwt", "my.auth:own")
    assert settings.gateway.trusted_proxies == ("10.0.0.0/8", "::1")
    assert settings.ticket.keys is not None
    assert settings.jwt.key_files == (Path("new.pem"), Path("old.pem"))
    assert settings.jwt.algorithms == ("RS256", "PS256")
    assert settings.cluster.nats == "nats://a:4222, nats://b:4222"
    assert settings.cluster.name == "5000"
    assert settings.seed == 5000
    assert all(settings.origin(name) != "default" for name in settings_fields())


def test_the_file_writes_off_for_nothing_and_lists_as_lists() -> None:
    Path("skyloom.toml").write_text('[gateway]\ntcp_port = "off"\norigins = ["https://a.example"]\n')
    gateway = Settings.load().gateway
    assert (gateway.tcp_port, gateway.origins) == (None, ("https://a.example",))


def test_unknown_environment_variables_are_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SKYLOOM_GATEWAY__PROT", "1")
    monkeypatch.setenv("SKYLOOM_CI", "1")
    monkeypatch.setenv("SKYLOOMISH", "1")
    assert problems() == [
        "environment variable SKYLOOM_GATEWAY__PROT: no such setting; did you mean SKYLOOM_GATEWAY__PORT?"
    ]


def test_a_section_is_not_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYLOOM_GATEWAY", "{broken")
    (problem,) = problems()
    assert "SKYLOOM_GATEWAY: is a section" in problem
    assert "SKYLOOM_GATEWAY__HOST" in problem


def test_unknown_names_in_the_file_and_the_command_line_are_refused() -> None:
    Path("skyloom.toml").write_text("port = 1\n[gateway]\nframe_byte = 1\n[logs]\nlevel = 'info'\n")
    found = problems({"gateway": {"hots": "x"}})
    assert "gateway.hots: no such setting (from command line); did you mean gateway.host?" in found
    assert "gateway.frame_byte: no such setting (from file skyloom.toml); did you mean gateway.frame_bytes?" in found
    assert "port: no such setting (from file skyloom.toml); did you mean gateway.port?" in found
    assert any(problem.startswith("logs: no such setting") for problem in found)


def test_everything_wrong_is_listed_with_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYLOOM_GATEWAY__PORT", "70000")
    Path("skyloom.toml").write_text("[gateway]\nheartbeat_seconds = 0\n[log]\nlevel = 'loud'\n")
    assert problems({"node": "two words"}) == [
        "node: got the text 'two words' (from command line (--node)); "
        "must be text of 1 to 63 letters, digits, _, . and -, beginning with a letter or digit",
        "gateway.port: got the text '70000' (from environment variable SKYLOOM_GATEWAY__PORT); "
        "must be a whole number from 0 to 65,535",
        "gateway.heartbeat_seconds: got the number 0 (from file skyloom.toml); must be a number above 0 to 86,400",
        "log.level: got the text 'loud' (from file skyloom.toml); must be debug, info, warning or error",
    ]


@pytest.mark.parametrize(
    ("gateway", "said"),
    [
        ({"tls_key": "key.pem"}, "tls_certificate and tls_key go together"),
        ({"frame_bytes": 1024}, "hello_bytes is above frame_bytes"),
        ({"unsent_bytes": 4096}, "unsent_bytes is below frame_bytes"),
        ({"unsent_bytes_total": 262_143}, "unsent_bytes_total is below unsent_bytes"),
        ({"origins": "example.com"}, "scheme://host"),
        ({"origins": ["https://a.example/path"]}, "scheme://host"),
        ({"authenticators": "tickets"}, "each is guest, ticket, jwt or module:object"),
        ({"authenticators": []}, "name at least one"),
        ({"trusted_proxies": "10.0.0.1/8"}, "each network is an IP address"),
        ({"trusted_proxies": [7]}, "each network is an IP address"),
        ({"proxy_protocol": "tcp"}, "proxy_protocol is on, and trusted_proxies names nobody"),
        ({"heartbeat_seconds": float("nan")}, "must be a number above 0"),
        ({"heartbeat_seconds": float("inf")}, "must be a number above 0"),
        ("text", "must be a table"),
    ],
)
def test_what_does_not_fit_is_refused(gateway: object, said: str) -> None:
    (problem,) = problems({"gateway": gateway})
    assert problem.startswith("gateway")
    assert said in problem


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("port = true", "gateway.port: got true (from file skyloom.toml); must be a whole number from 0 to 65,535"),
        ("port = false", "gateway.port: got false"),
        ("tcp_port = true", "gateway.tcp_port: got true"),
        ("heartbeat_seconds = false", "gateway.heartbeat_seconds: got false"),
        ("playground = 1", "gateway.playground: got the number 1 (from file skyloom.toml); must be true or false"),
    ],
)
def test_truth_values_are_no_numbers(line: str, said: str) -> None:
    Path("skyloom.toml").write_text(f"[gateway]\n{line}\n")
    (problem,) = problems()
    assert problem.startswith(said)


def test_false_means_off() -> None:
    Path("skyloom.toml").write_text("seed = false\n[gateway]\ntcp_port = false\ntls_key = false\norigins = false\n")
    settings = Settings.load()
    gateway = settings.gateway
    assert (settings.seed, gateway.tcp_port, gateway.tls_key, gateway.origins) == (None, None, None, None)


def test_what_set_gives_is_told_as_such() -> None:
    settings = Settings.load({"gateway": {"host": "::1"}}, named={"gateway": {"port": "7"}})
    assert settings.origin("gateway.port") == "command line (--set gateway.port)"
    assert settings.origin("gateway.host") == "command line (--host)"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"[gateway\n", "is not TOML"), (b"\xff\xfe", "UTF-8"), (b"a = 1\na = 2\n", "is not TOML")],
)
def test_a_broken_file_is_one_line(content: bytes, said: str) -> None:
    Path("skyloom.toml").write_bytes(content)
    (problem,) = problems()
    assert problem.startswith("file skyloom.toml")
    assert said in problem


def test_values_that_may_be_secret_are_not_shown() -> None:
    settings = Settings(database="postgresql://ada:pa:s@s@db/game?password=word")
    text = describe(settings)
    assert "postgresql://ada:***@db/game?password=***" in text
    assert "s@s" not in text
    (problem,) = problems({"database": "postgresql://ada:secret@" + "x" * 5000})
    assert "secret" not in problem
    for section in ("secret", {"origins": "https://ada:secret@here"}, {"host": "secret" * 60}):
        (problem,) = problems({"gateway": section})
        assert "secret" not in problem
        assert "text of " in problem


@pytest.mark.parametrize("given", ["a:sesame-sesame-sesame-sesame", "8731", 8731, ["sesame", 8731], {"a": "sesame"}])
def test_keys_are_never_shown(given: object) -> None:
    try:
        text = describe(Settings.load({"ticket": {"keys": given}}))
        assert "***" in text
    except SettingsError as error:
        text = str(error)
        assert "ticket.keys: is not text (from command line (--keys)); must be text, or off" in text
    assert "sesame" not in text
    assert "8731" not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://a:4222", "nats://a:4222"),
        ("nats://sesame@a:4222", "nats://***@a:4222"),
        ("tls://sesame@a", "tls://***@a"),
        ("nats://skyloom:sesame@a:4222,nats://skyloom:sesame@b", "nats://skyloom:***@b"),
    ],
)
def test_secrets_of_the_cluster_are_not_shown(url: str, shown: str) -> None:
    text = describe(Settings.load({"cluster": {"nats": url}}))
    assert shown in text
    assert "sesame" not in text


def test_the_table_shows_every_setting() -> None:
    lines = describe().splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(settings_fields())


def test_every_setting_has_a_meaning() -> None:
    assert all(field.description for field in settings_fields().values())


def test_the_reference_page_is_current() -> None:
    assert REFERENCE_PAGE.read_text(encoding="utf-8") == reference_page(), (
        "docs/reference/settings.md is old: write skyloom_gateway.settings_text.reference_page() to it"
    )


@given(st.dictionaries(st.text(max_size=20), st.one_of(st.none(), st.integers(), st.text(max_size=20)), max_size=4))
def test_any_section_ends_in_settings_or_in_a_list(section: dict[str, object]) -> None:
    error: SettingsError | None = None
    try:
        assert isinstance(Settings.load({"gateway": section}), Settings)
    except SettingsError as raised:
        error = raised
    assert bool(error) == any(value is not None for value in section.values())
    if error is not None:
        assert str(error).count("\n") == len(error.problems) > 0


def test_a_wrong_setting_shows_no_traceback() -> None:
    code = (
        "from skyloom_gateway.settings import *\n"
        "try: Settings.load()\n"
        "except SettingsError as error: raise SystemExit(str(error))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"SKYLOOM_GATEWAY__PORT": "eight"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("the settings are not usable:\n  - gateway.port: got the text 'eight'")
    assert "Traceback" not in ran.stderr
