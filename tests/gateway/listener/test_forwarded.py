"""Who a proxy says a client is, and when it is believed."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom_gateway.listener.forwarded import Proxies

NETWORKS = ["10.0.0.0/8", "192.0.2.1", "fd00::/8"]
CLIENT = "203.0.113.7"
PROXY = "10.0.0.1"
LISTS = Proxies(NETWORKS, "x-forwarded-for")
FORWARDED = Proxies(NETWORKS, "forwarded")


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.0.0.1", True),
        ("10.255.255.255", True),
        ("11.0.0.1", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("::ffff:10.0.0.1", True),
        ("fd12::1", True),
        ("fe80::1%eth0", False),
        ("::1", False),
        ("unix", False),
        ("", False),
        (None, False),
    ],
)
def test_proxies_are_named(address: str | None, trusted: bool) -> None:
    assert LISTS.trusts(address) is trusted
    assert not Proxies([], "x-forwarded-for").trusts(address)


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([], PROXY),
        ([CLIENT], CLIENT),
        (["1.1.1.1, " + CLIENT], CLIENT),  # the first is what the client says of itself
        (["1.1.1.1", CLIENT], CLIENT),
        ([CLIENT, "10.0.0.2"], CLIENT),  # two proxies in a row
        ([f"1.1.1.1,{CLIENT},10.0.0.2, 192.0.2.1"], CLIENT),
        (["10.0.0.3,10.0.0.2"], "10.0.0.3"),
        (["127.0.0.1, " + CLIENT], CLIENT),
        ([f"{CLIENT}:5000"], CLIENT),
        (["2001:DB8::7"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["[2001:db8::7]:5000"], "2001:db8::7"),
        (["unknown"], PROXY),
        ([f"{CLIENT}, unknown"], PROXY),
        ([f"unknown, {CLIENT}"], CLIENT),
        ([CLIENT + ", unknown, 10.0.0.2"], "10.0.0.2"),
        ([""], PROXY),
        ([","], PROXY),
        (["[2001:db8::7"], PROXY),
        (["[2001:db8::7]x"], PROXY),
        (["fe80::1%eth0"], PROXY),
        (["203.0.113.7.evil"], PROXY),
        (["0x7f.1"], PROXY),
        (["10.0.0.2," * 500], PROXY),
        ([CLIENT + ", 10.0.0.2" * 15], CLIENT),
        ([CLIENT + ", 10.0.0.2" * 16], "10.0.0.2"),
    ],
)
def test_x_forwarded_for(values: list[str], client: str) -> None:
    assert LISTS.client(PROXY, values) == client


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([f"for={CLIENT}"], CLIENT),
        ([f"For={CLIENT};proto=https;by=10.0.0.1"], CLIENT),
        ([f"proto=https; for={CLIENT} ; host=x"], CLIENT),
        ([f"for=1.1.1.1, for={CLIENT}"], CLIENT),
        (["for=1.1.1.1", f"for={CLIENT}"], CLIENT),
        ([f"for={CLIENT}, for=10.0.0.2"], CLIENT),
        (['for="[2001:db8::7]:4711"'], "2001:db8::7"),
        (['for="203.0.113.7:80"'], CLIENT),
        (['for="203.0.113\\.7"'], CLIENT),
        (["for=_hidden"], PROXY),
        (["for=unknown"], PROXY),
        (["proto=https"], PROXY),
        ([f"for={CLIENT}, proto=https"], PROXY),
        ([f'for="a,b;c", for={CLIENT}'], CLIENT),
        ([f'host="x\\"y", for={CLIENT}'], CLIENT),
        # a quote that the client leaves open swallows what the proxy adds: nothing of the line is believed
        ([f'for="1.1.1.1, for={CLIENT}'], PROXY),
        (['for="1.1.1.1, for="[2001:db8::7]"'], PROXY),
        ([f'for="1.1.1.1", for={CLIENT} x'], PROXY),
        (['for="1.1.1.1', f"for={CLIENT}"], CLIENT),
        (["for=[2001:db8::7]"], PROXY),
        (["for"], PROXY),
        (["="], PROXY),
        ([""], PROXY),
    ],
)
def test_forwarded(values: list[str], client: str) -> None:
    assert FORWARDED.client(PROXY, values) == client


def test_one_who_is_no_proxy_says_what_it_likes() -> None:
    assert LISTS.client("11.0.0.1", [CLIENT]) == "11.0.0.1"
    assert FORWARDED.client("11.0.0.1", [f"for={CLIENT}"]) == "11.0.0.1"
    assert Proxies([], "x-forwarded-for").client(PROXY, [CLIENT]) == PROXY


@pytest.mark.parametrize("proxies", [LISTS, FORWARDED])
@given(st.lists(st.text(max_size=60), max_size=4), st.ip_addresses())
def test_a_client_can_add_nothing_behind_a_proxys_word(
    proxies: Proxies, forged: list[str], address: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    client = str(address)
    said = client if proxies is LISTS else f'for="[{client}]"' if address.version == 6 else f"for={client}"
    # As a line of its own the last word is the proxy's, whatever came before.
    found = proxies.client(PROXY, [*forged, said])
    assert found == client or proxies.trusts(client)
    # At the end of a forged line the proxy's word counts, or none.
    for line in forged:
        assert proxies.client(PROXY, [f"{line}, {said}"]) in (client, PROXY) or proxies.trusts(client)


def test_a_long_header_is_read_in_time_to_its_length() -> None:
    for value in ('for="' + "\\" * 16_000, "for=a;" * 4_000, " " * 16_000, "a" * 16_000, '"' * 16_000):
        assert FORWARDED.client(PROXY, [value]) == PROXY


@pytest.mark.parametrize("network", ["10.0.0.1/8", "x", ""])
def test_a_network_that_is_none(network: str) -> None:
    with pytest.raises(ValueError, match=r"host bits set|does not appear"):
        Proxies([network], "x-forwarded-for")
