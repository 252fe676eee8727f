"""Faults of masternodes: counted, forgotten, listed and lifted."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import GENESIS, VOTERS
from tests.test_network.harness import Network, address
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.record import Entry, Record

KEYS = [voter.public_hex for voter in VOTERS]


class Records(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.record = Record(self.clock, GENESIS.masternode_set)

    def ban(self, key: str) -> None:
        while not self.record.add(key, 10):
            pass

    def test_a_ban_expires(self) -> None:
        """Listed with what is left of it, and then not at all."""
        self.ban(KEYS[0])
        self.clock.advance(100)
        self.assertEqual(self.record.entries(), [Entry(KEYS[0], 0, limits.BAN - 100)])
        self.clock.advance(limits.BAN - 100)
        self.assertEqual((self.record.entries(), self.record.shut_out(KEYS[0])), ([], 0))

    def test_points_are_listed_and_forgotten(self) -> None:
        """Whoever has some but not enough is shown; without a new fault for a while they are gone."""
        self.record.add(KEYS[1], 30)
        self.assertEqual(self.record.entries(), [Entry(KEYS[1], 30, 0)])
        self.clock.advance(limits.BAN)
        self.assertEqual(self.record.entries(), [])

    def test_a_ban_is_lifted(self) -> None:
        """At once, with all that led to it; a second time there is nothing to lift."""
        self.ban(KEYS[0])
        self.record.add(KEYS[1], 90)
        self.assertEqual([self.record.lift(key) for key in KEYS[:3]], [True, True, False])
        self.assertEqual((self.record.entries(), self.record.lift(KEYS[0])), ([], False))
        self.assertFalse(self.record.add(KEYS[1], 10))

    def test_who_is_forgiven_is_linked_again(self) -> None:
        """A masternode that was shut out is let in when the operator says so, long before its ban would end."""
        network = Network()
        judge = network.add(0, [])
        network.add(1, [0])
        network.start()
        network.run(2)
        for _ in range(limits.MISBEHAVIOUR):
            judge.penalize(KEYS[1], Refusal(ErrorCode.BAD_PROOF, "false"))
        network.run(5, 0.5)
        self.assertEqual(judge.links, {})
        self.assertTrue(judge.forgive(KEYS[1]))
        network.run(limits.RECONNECT_MAX, 0.5)
        self.assertEqual((list(judge.links), network.managers[address(1)].record.entries()), ([KEYS[1]], []))
