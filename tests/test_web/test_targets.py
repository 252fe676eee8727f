"""Where a webhook may lead: spellings, and numbers that are no place on the Internet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from timeproto.web.targets import Place, TargetRefused, Targets, place_of

INSIDE = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "0.0.0.0", "0.1.2.3", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9",
    "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.88.99.1", "::1", "::", "fe80::1", "fe80::1%eth0",
    "fc00::1", "fd12:3456::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1",
    "64:ff9b::808:808", "2001::1", "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "fec0::1",
    "100::1", "5f00::1", "127.1", "2130706433", "0x7f000001", "localhost", "example.org",
]  # fmt: skip
OUTSIDE = [
    "8.8.8.8", "172.15.0.1", "172.32.0.1", "192.167.1.1", "100.128.0.1", "223.255.255.255", "2606:4700::1", "2a00::1",
]  # fmt: skip


class Numbers(SynchronousTestCase):
    def test_inside_is_refused(self) -> None:
        """This machine, this link, private, shared, reserved, multicast, tunnels, and whatever is not an address."""
        self.assertEqual([each for each in INSIDE if Targets().may_dial(each)], [])

    def test_the_internet_is_not(self) -> None:
        """The neighbours of each refused network are free."""
        self.assertEqual([each for each in OUTSIDE if not Targets().may_dial(each)], [])

    def test_what_the_operator_opens(self) -> None:
        """That network and no other."""
        targets = Targets(["10.1.2.0/24", "fd00:1::/32"])
        self.assertTrue(targets.may_dial("10.1.2.3") and targets.may_dial("fd00:1::9"))
        self.assertFalse(targets.may_dial("10.1.3.1") or targets.may_dial("::ffff:10.1.2.3"))
        for wrong in ("10.1.2.3/24", "somewhere", "10.0.0.0/33"):
            self.assertRaises(ValueError, Targets, [wrong])

    @given(st.ip_addresses(v=4))
    def test_stricter_than_the_library(self, address: object) -> None:
        """No address that Python calls private, reserved or otherwise not global is dialled."""
        if Targets().may_dial(str(address)):
            self.assertTrue(address.is_global and not address.is_multicast)  # type: ignore[attr-defined]

    def test_hosts_that_are_numbers(self) -> None:
        """They are refused before anybody is asked; a name waits for its look-up."""
        for host in ("127.0.0.1", "::1", "10.0.0.1"):
            self.assertRaises(TargetRefused, Targets().require_host, host)
        for host in ("example.org", "8.8.8.8", "localhost"):
            Targets().require_host(host)


class Spellings(SynchronousTestCase):
    def test_urls(self) -> None:
        """Host and port of what is ours."""
        for url, host, port in (
            ("https://shop.example", "shop.example", 443), ("https://a.example:8443/b/c?d=e&f=%20", "a.example", 8443),
            ("https://8.8.8.8/x", "8.8.8.8", 443),
        ):  # fmt: skip
            self.assertEqual(place_of(url), Place(host, port))

    def test_what_is_no_url_of_ours(self) -> None:
        """Other schemes, users, fragments, spaces, line ends, other alphabets, ports that are none, and length."""
        for url in (
            "", "http://a.example/", "https://", "https:///a", "https://user@a.example/", "https://a.example/#b",
            "https://a.example/ b", "https://a.example/\r\nHost: b", "https://a.example\n", "https://ä.example/",
            "https://a.example:0/", "https://a.example:65536/", "https://a.example:", "https://-a.example/",
            "https://a..example/", "https://a.example\\@b.example/", "HTTPS://a.example/", "https://a_b.example/",
            "https://a.example/" + "x" * 600, "https://[::1", "https://[2606:4700::1]:9/", "https://a.example?x",
        ):  # fmt: skip
            self.assertRaises(ValueError, place_of, url)
