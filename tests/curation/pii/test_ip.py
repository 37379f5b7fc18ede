"""raypt.curation.pii.ip: public addresses, judged by Python's ipaddress; versions and times are none."""

import ipaddress

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.curation.pii.found import found, values

octet = st.one_of(st.integers(0, 255), st.sampled_from([0, 10, 100, 127, 169, 172, 192, 198, 203, 224, 255]))


def looks_like_a_section(a: int, b: int, c: int, d: int) -> bool:
    return a < 64 and b < 32 and c < 32 and d < 32


@settings(deadline=None, max_examples=200)
@given(octet, octet, octet, octet)
def test_ipv4_is_found_exactly_if_it_is_global(a: int, b: int, c: int, d: int) -> None:
    assume(not looks_like_a_section(a, b, c, d))
    assume((a, b, c) != (192, 0, 0))  # a few protocol assignments within are global
    assume(not (a == 192 and b == 88 and c == 99))  # deprecated relays: registries differ
    address = f"{a}.{b}.{c}.{d}"
    public = ipaddress.ip_address(address).is_global and a < 224
    assert values(f"from {address}, port 80", "ipv4") == ([address] if public else [])


@settings(deadline=None, max_examples=200)
@given(
    st.integers(0, 2**128 - 1),
    st.sampled_from([None, "fe80::/10", "fc00::/7", "ff00::/8", "2001:db8::/32", "2000::/3"]),
)
def test_ipv6_is_found_unless_it_is_for_special_use(bits: int, network: str | None) -> None:
    if network is not None:
        net = ipaddress.ip_network(network)
        bits = int(net.network_address) | bits & int(net.hostmask)
    assume(bits >= 2**48)  # unspecified, loopback, and IPv4 in old notations
    address = ipaddress.IPv6Address(bits)
    special = address.is_private or address.is_multicast or address.is_link_local or address.is_loopback
    for text in (address.exploded, address.exploded.upper()):
        assert values(f"host [{text}]:443", "ipv6") == ([] if special else [text])


@pytest.mark.parametrize(
    "address",
    ["2a02:26f0:6d00::b81b:1c5e", "2600::1", "2001:470:0:503::2", "2001:4860:4860::8844", "2620:0:862:ed1a::1"],
)
@pytest.mark.parametrize("frame", ["{}", "at {}.", "[{}]:80", "IPv6:{} ok", "{}/64", "地址为{}，", "{}%eth0"])
def test_a_shortened_ipv6_address_is_found_in_any_frame(address: str, frame: str) -> None:
    assert values(frame.format(address), "ipv6") == [address]


@pytest.mark.parametrize(
    "text",
    [
        "00:1B:44:11:3A:B7",
        "00:1B:44:11:3A:B7:00:01",
        "12:30:45",
        "std::vector<a::b>",
        "dead::beef",
        "Face::Add",
        "::1",
        "::",
        "a:b:c:d:e:f:a:b:c:d",
        "::ffff:192.168.0.1",
        "1:2:3:4:5:6:7",
        "2001:db8::1",
    ],
)
def test_what_only_looks_like_ipv6_is_left(text: str) -> None:
    assert values(text, "ipv6") == []


def test_an_ipv4_address_in_ipv6_notation_is_one_address() -> None:
    assert found("from ::ffff:81.2.69.142.", "ipv4", "ipv6") == [("ipv6", "::ffff:81.2.69.142")]
    assert found("from ::ffff:81.2.69.142.", "ipv4") == [("ipv4", "81.2.69.142")]
    assert found("at 12:81.2.69.142", "ipv4", "ipv6") == [("ipv4", "81.2.69.142")]


@pytest.mark.parametrize(
    "text",
    [
        "version 92.6.132.71",
        "版本号为92.6.132.71，发布于",
        "Версия 92.6.132.71 вышла",
        "Chrome/53.0.2785.116 Safari",
        "Mozilla/92.6.132.71",
        "linux-92.6.132.71.tar.gz",
        "see section 92.6.132.71",
        "14.5.4.1. Writing a module",
        "v92.6.132.71",
        "92.6.132.71.5",
        "92.6.132.710",
        "92.6.132.71-rc1",
        "2.20.100.156.gf9916ae094",
        "092.6.132.71",
        "92.6.132",
        "1992.6.132.71",
        "x_92.6.132.71",
        "300.6.132.71",
    ],
)
def test_versions_sections_and_longer_numbers_are_no_addresses(text: str) -> None:
    assert values(text, "ipv4") == []


@pytest.mark.parametrize(
    "frame",
    [
        "{}",
        "{}.",
        "({})",
        "http://{}:8080/x",
        "サーバー{}は",
        "ip={};",
        "host/{}",
        "81.2.69.1-{}",
        "a version. The host {} is",
        "\t{}\n",
        "{}/24",
    ],
)
def test_an_ipv4_address_is_found_in_any_frame(frame: str) -> None:
    assert "81.2.69.142" in values(frame.format("81.2.69.142"), "ipv4")
