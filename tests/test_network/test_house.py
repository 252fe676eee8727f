"""Who finds a place, who makes room for whom, and that everybody is counted once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import VOTERS
from tests.test_network.harness import Network, address
from tests.test_network.test_peer_manager import _wallet
from timeproto import limits
from timeproto.network.budget import Budgets
from timeproto.network.house import House
from timeproto.wire import messages

HOSTS = ("192.0.2.1", "192.0.2.2", "127.0.0.1")


class Guest:
    def __init__(self, host: str = "192.0.2.1") -> None:
        self.peer_host = host
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


class Strangers(SynchronousTestCase):
    """Whoever has not said a word."""

    def setUp(self) -> None:
        self.house = House(Budgets(Clock()), reserved=2, room=4)

    def enter(self, host: str = "192.0.2.1", *, heard: bool = False) -> Guest:
        guest = Guest(host)
        self.house.door(guest.peer_host)
        self.house.enter(guest)
        if heard:
            self.house.heard(guest)
        return guest

    def test_in_a_full_house_the_oldest_makes_room(self) -> None:
        """One for each that comes, and whoever has said a word stays."""
        talker, *silent = self.enter(heard=True), *(self.enter() for _ in range(5))
        self.assertIs(self.house.door("192.0.2.9"), True)
        self.assertEqual([each.is_aborted for each in (talker, *silent)], [False, True, *[False] * 4])
        self.house.leave(silent[0])  # what the transport says one turn later
        self.enter(heard=True)
        self.enter(heard=True)
        self.assertEqual([each.is_aborted for each in (talker, *silent)], [False, True, True, *[False] * 3])
        self.enter(heard=True)
        self.assertTrue(silent[2].is_aborted)

    def test_without_strangers_it_is_full(self) -> None:
        """Then only a masternode is let in, into the places kept for it, and in the end nobody."""
        for _ in range(4):
            self.enter(heard=True)
        self.assertIs(self.house.door("192.0.2.9"), False)
        for _ in range(2):
            self.house.proven(self.enter())
        self.assertIsNone(self.house.door("192.0.2.9"))
        self.assertEqual(self.house.wallets, 4)

    def test_there_are_never_many(self) -> None:
        """However much room there is."""
        self.patch(limits, "STRANGERS", 2)
        self.house = House(Budgets(Clock()), reserved=2, room=1_000)
        first, second, third = self.enter(), self.enter(), self.enter()
        self.assertEqual([each.is_aborted for each in (first, second, third)], [True, False, False])

    def test_who_opens_many_makes_room_for_others(self) -> None:
        """The block with most strangers gives way, and who has as many as anybody to itself: one reaches no other."""
        self.patch(limits, "STRANGERS", 3)
        self.house = House(Budgets(Clock()), reserved=2, room=1_000)
        peer = self.enter("192.0.2.7")
        crowd = [self.enter("192.0.2.1") for _ in range(20)]
        self.assertEqual([each.is_aborted for each in crowd], [True] * 18 + [False] * 2)
        other = self.enter("192.0.2.8")
        self.assertEqual((peer.is_aborted, other.is_aborted, crowd[18].is_aborted), (False, False, True))

    def test_who_is_not_welcome_reaches_no_other(self) -> None:
        """From a block that owes much, or has as many as it may, somebody takes the place of its own alone."""
        self.patch(limits, "STRANGERS", 3)
        self.patch(limits, "CONNECTIONS_PER_BLOCK", 1)
        budgets = Budgets(Clock())
        self.house = House(budgets, reserved=2, room=1_000)
        self.enter("192.0.2.3", heard=True)
        many, _, one = self.enter("192.0.2.7"), self.enter("192.0.2.7"), self.enter("192.0.2.1")
        budgets.open("192.0.2.4").spend(limits.COST_BLOCK_BURST + limits.COST_BLOCK_PER_SECOND * 3 * limits.DEBT)
        self.assertEqual([self.house.door(host) for host in ("192.0.2.3", "192.0.2.4")], [None, None])
        self.assertEqual((many.is_aborted, one.is_aborted), (False, False))
        self.assertIs(self.house.door("192.0.2.1"), False)
        self.assertEqual((many.is_aborted, one.is_aborted), (False, True))

    def test_in_a_full_house_the_places_of_masternodes_are_used(self) -> None:
        """Who proves itself is not thrown out while one is free, nor for who talks, or is silent, there."""
        for _ in range(4):
            self.enter(heard=True)
        peer, *crowd = self.enter("192.0.2.7"), self.enter()
        self.assertIs(self.house.heard(peer), False)
        self.assertEqual((peer.is_aborted, crowd[0].is_aborted), (False, False))
        crowd += [self.enter(heard=True) for _ in range(10)]
        self.assertEqual([each.is_aborted for each in (peer, *crowd)], [False] + [True] * 10 + [False])
        self.house.proven(peer)
        self.assertEqual(self.house.wallets, 4)

    @given(st.lists(st.tuples(st.sampled_from(["enter", "heard", "proven", "leave"]), st.integers(0, 7)), max_size=60))
    def test_everybody_is_counted_once(self, steps: list[tuple[str, int]]) -> None:
        """Whatever comes in which order, and twice: the counts are those of a recount."""
        house = House(Budgets(Clock()), reserved=2, room=3)
        inside: dict[Guest, str] = {}
        everybody: list[Guest] = []
        for what, which in steps:
            guest = everybody[which % len(everybody)] if everybody else None
            if what == "enter":
                host = HOSTS[which % 3]
                if house.door(host) is not None:
                    everybody.append(Guest(host))
                    house.enter(everybody[-1])
                    inside[everybody[-1]] = "stranger"
            elif guest is None:
                continue
            elif what == "heard":
                if house.heard(guest) and inside.get(guest) == "stranger":
                    inside[guest] = "wallet"
            elif what == "proven" and inside.get(guest) != "masternode":
                house.proven(guest)
                if guest in inside:
                    inside[guest] = "masternode"
            elif what == "leave":
                house.leave(guest)
                inside.pop(guest, None)
            for each in [each for each in inside if each.is_aborted]:
                self.assertEqual(inside.pop(each), "stranger")
            self.assertEqual(house.wallets, list(inside.values()).count("wallet"))
            self.assertEqual(len(house._guests), len(inside))
            self.assertLessEqual((len(inside), house.wallets), (3 + 2, 3))
            strangers = sum(map(len, house._strangers.values()))
            self.assertEqual(strangers, list(inside.values()).count("stranger"))
            blocks = {host: sum(each.peer_host == host for each in inside) for host in HOSTS[:2]}
            self.assertEqual(house._blocks, {host: count for host, count in blocks.items() if count})


class Doors(SynchronousTestCase):
    """The same, of real connections."""

    def test_one_address_keeps_no_masternode_out(self) -> None:
        """However fast it opens mouths: a newcomer waits unread for as long as ever, and is linked (T-04, H-28)."""
        self.patch(limits, "STRANGERS", 8)
        network = Network()
        manager = network.add(0, [])
        network.start()
        manager._budgets.newcomer(limits.COST_NEWCOMERS_BURST * 2)
        network.add(1, [0]).startService()
        for _ in range(40):
            for _ in range(8):
                _wallet(network, manager)
            network.run(0.1)
        self.assertEqual((len(manager.links), network.dials), (1, [address(0)]))

    def test_open_mouths_keep_nobody_out(self) -> None:
        """A house full of silence: a wallet that speaks is served, and a masternode is linked (T-04, H-28)."""
        self.patch(limits, "CONNECTIONS", 3)
        network = Network()
        manager = network.add(0, [])
        network.start()
        silent = [_wallet(network, manager) for _ in range(3 + 2 * len(VOTERS))]
        wallet = _wallet(network, manager)
        wallet.ask(messages.GetInfo(id=1))
        network.add(1, [0]).startService()
        network.run(1)
        self.assertEqual((len(manager.links), wallet.codes(), manager.wallet_count), (1, [], 1))
        self.assertEqual([message for _, message in network.recorders[address(0)].messages], [messages.GetInfo(id=1)])
        for each in silent:
            each.leave()
        network.run(limits.CLOSE * 2, 0.5)
        self.assertEqual(len(manager.house._guests), 2)

    def test_one_that_is_shut_out_holds_no_place_of_masternodes(self) -> None:
        """However often it comes and does not hang up: another masternode is linked (T-04)."""
        self.patch(limits, "CONNECTIONS", 2)
        network = Network()
        manager = network.add(0, [])
        network.start()
        for _ in range(2):
            _wallet(network, manager).ask(messages.GetInfo(id=1))
        network.run(0.1)
        manager.record.add(VOTERS[1].public_hex, limits.MISBEHAVIOUR)
        pumps = list(network.pumps)
        for number in range(manager.house._reserved + 2):
            host = f"10.0.1.{number}"
            network.add(1, [0], at=f"{host}:1").startService()
            for _ in range(50):
                if any(each.node_key and each.peer_host == host for each in manager._connections):
                    break
                network.clock.advance(0.001)
                for each in list(network.pumps):
                    each.pump()
            network.pumps = list(pumps)  # it reads nothing more, and does not hang up
        network.add(2, [0]).startService()
        network.run(1)
        self.assertEqual(list(manager.links), [VOTERS[2].public_hex])
