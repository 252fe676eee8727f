"""Where to dial: addresses, the book of peers, the bootstrap list."""

from __future__ import annotations

import json
from typing import Any

from treq.testing import StringStubbingResource, StubTreq
from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import MASTERNODES, STRANGER, VOTERS
from tests.test_network.harness import Network
from timeproto.network.discovery import BOOTSTRAP_SIZE, AddressBook, Bootstrap, is_loopback, is_wildcard, parse_address
from timeproto.network.greeting import back_off
from timeproto.network.throttle import TokenBucket

URL = "https://seeds.example/peers.json"


class Addresses(SynchronousTestCase):
    def test_one_grammar(self) -> None:
        """HOST:PORT and [IPV6]:PORT, and nothing that only looks like them."""
        for text, parsed in (
            ("127.0.0.1:1", ("127.0.0.1", 1)),
            ("node-1.example:65535", ("node-1.example", 65535)),
            ("[::1]:24100", ("::1", 24100)),
        ):
            self.assertEqual(parse_address(text), parsed)
        for text in (
            "",
            "x",
            "x:",
            ":1",
            "x:0",
            "x:65536",
            "x:1 ",
            " x:1",
            "x:１",
            "::1:24100",
            "x:1\n",
            "a b:1",
            "x:-1",
        ):
            with self.assertRaises(ValueError):
                parse_address(text)

    def test_places_that_mean_this_machine_or_every_interface(self) -> None:
        """Loopback by its names; wildcards cannot be dialled, so they are not announced."""
        self.assertTrue(all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost"))))
        self.assertFalse(any(map(is_loopback, ("10.0.0.1", "::", "1127.0.0.1"))))
        self.assertTrue(is_wildcard("0.0.0.0:1") and is_wildcard("[::]:1"))
        self.assertFalse(is_wildcard("10.0.0.1:1"))
        self.assertIsNone(Network().add(0, [], at="0.0.0.0:24100")._announce)

    def test_the_book_holds_members_only(self) -> None:
        """A stranger's address, or one that is none, is not learned; news is told from old."""
        book = AddressBook(MASTERNODES.keys)
        member = VOTERS[0].public_hex
        self.assertFalse(book.learn(STRANGER.public_hex, "10.0.0.1:1"))
        self.assertFalse(book.learn(member, "nowhere"))
        self.assertTrue(book.learn(member, "10.0.0.1:1"))
        self.assertFalse(book.learn(member, "10.0.0.1:1"))
        self.assertTrue(book.learn(member, "10.0.0.2:1"))
        self.assertEqual((book.address_of(member), book.peers()), ("10.0.0.2:1", ()), "a rumour is not passed on")
        book.learn(member, "10.0.0.2:1", proven=True)
        self.assertFalse(book.learn(member, "10.0.0.3:1"), "nor does it replace what was proven")
        self.assertEqual([peer.address for peer in book.peers()], ["10.0.0.2:1"])


class Bootstrapping(SynchronousTestCase):
    def fetch(self, code: int, body: bytes, headers: dict[bytes, bytes] | None = None) -> Any:
        response = (code, {name: [value] for name, value in (headers or {}).items()}, body)

        def answer(*_: Any) -> Any:
            return response

        treq = StubTreq(StringStubbingResource(answer))
        return self.successResultOf(ensureDeferred(Bootstrap(URL, treq).fetch()))

    def test_a_list_of_addresses(self) -> None:
        """A JSON array of HOST:PORT."""
        self.assertEqual(
            self.fetch(200, json.dumps(["10.0.0.1:1", "b.example:2"]).encode()), ["10.0.0.1:1", "b.example:2"]
        )

    def test_whatever_a_server_does_the_node_lives(self) -> None:
        """Not there, moved, not JSON, not addresses, far too long: an empty list, and a line in the log."""
        for code, body in (
            (404, b"[]"),
            (302, b"[]"),
            (200, b"<html>"),
            (200, b'{"a":1}'),
            (200, b'["nowhere"]'),
            (200, b"[" + b'"10.0.0.1:1",' * (BOOTSTRAP_SIZE // 10) + b'"10.0.0.1:1"]'),
        ):
            self.assertEqual(self.fetch(code, body), [], body[:20])


class Pacing(SynchronousTestCase):
    def test_pauses_grow_to_a_bound_and_are_spread(self) -> None:
        """From a fifth of a second to a minute, half of it to either side (N-08, N-19)."""
        pauses = [back_off(attempt, lambda: 0.5) for attempt in range(1, 40)]
        self.assertEqual(pauses, sorted(pauses))
        self.assertAlmostEqual(pauses[0], 0.2)
        self.assertAlmostEqual(pauses[-1], 60.0)
        self.assertAlmostEqual(back_off(10_000, lambda: 0.0), 30.0)

    def test_a_bucket_lends_and_is_paid_back(self) -> None:
        """A burst is free, then each token costs its time; a pause fills it again, not above the burst."""
        from twisted.internet.task import Clock

        clock = Clock()
        bucket = TokenBucket(10, 5, clock)
        self.assertEqual([bucket.take() for _ in range(5)], [0.0] * 5)
        self.assertAlmostEqual(bucket.take(), 0.1)
        self.assertAlmostEqual(bucket.take(), 0.2)
        clock.advance(1_000)
        self.assertEqual([bucket.take() for _ in range(5)], [0.0] * 5)
        self.assertGreater(bucket.take(), 0)
