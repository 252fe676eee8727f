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

    def enter(self, *, heard: bool = False) -> Guest:
        guest = Guest()
        self.house.door(guest.peer_host)
        self.house.enter(guest)
        if heard:
            self.house.heard(guest)
        return guest

    def test_in_a_full_house_the_oldest_makes_room(self) -> None:
        """One for each that comes, and whoever has said a word stays."""
        talker, *silent = self.enter(heard=True), self.enter(), self.enter(), self.enter()
        self.assertIs(self.house.door("192.0.2.9"), True)
        self.assertEqual([each.is_aborted for each in (talker, *silent)], [False, True, False, False])
        self.house.leave(silent[0])  # what the transport says one turn later
        self.enter(heard=True)
        self.enter(heard=True)
        self.assertEqual([each.is_aborted for each in (talker, *silent)], [False, True, True, False])
        self.enter(heard=True)
        self.assertTrue(silent[2].is_aborted)

    def test_without_strangers_it_is_full(self) -> None:
        """Then only a masternode is let in, into the places kept for it, and in the end nobody."""
        for _ in range(4):
            self.enter(heard=True)
        self.assertIs(self.house.door("192.0.2.9"), False)
        self.enter(heard=True)
        self.enter(heard=True)
        self.assertIsNone(self.house.door("192.0.2.9"))
        self.assertEqual(self.house.wallets, 6)

    def test_there_are_never_many(self) -> None:
        """However much room there is."""
        self.patch(limits, "STRANGERS", 2)
        self.house = House(Budgets(Clock()), reserved=2, room=1_000)
        first, second, third = self.enter(), self.enter(), self.enter()
        self.assertEqual([each.is_aborted for each in (first, second, third)], [True, False, False])

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
                house.heard(guest)
                if inside.get(guest) == "stranger":
                    inside[guest] = "wallet"
            elif what == "proven" and inside.get(guest) != "masternode":
                house.proven(guest)
                if guest in inside:
                    inside[guest] = "masternode"
            elif what == "leave":
                house.leave(guest, masternode=inside.get(guest) == "masternode")
                inside.pop(guest, None)
            for each in [each for each in inside if each.is_aborted]:
                self.assertEqual(inside.pop(each), "stranger")
            self.assertEqual(house.wallets, list(inside.values()).count("wallet"))
            self.assertEqual(len(house._guests), len(inside))
            self.assertLessEqual(len(inside), 3 + 2)
            blocks = {host: sum(each.peer_host == host for each in inside) for host in HOSTS[:2]}
            self.assertEqual(house._blocks, {host: count for host, count in blocks.items() if count})


class Doors(SynchronousTestCase):
    """The same, of real connections."""

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
