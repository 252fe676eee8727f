"""The simulated network: what TCP keeps, what a hostile network does not, and who is told."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.test_sim.harness import Recorder, make_scene
from timeproto.errors import Refusal
from timeproto.sim.events import MILLISECOND, SECOND, Events, stream
from timeproto.sim.network import Network, Weather
from timeproto.wire import messages


class Wires(SynchronousTestCase):
    def setUp(self) -> None:
        self.scene = make_scene()
        self.events = self.scene.events
        self.ends = Recorder()
        self.weather = Weather()
        self.network = Network(self.scene, random.Random(7), self.weather, self.ends)
        for number in range(4):
            self.network.node_up(number, at_once=True)
        self.events.run_until(0)

    def send(self, *numbers: int, sender: int = 0, receiver: int = 1) -> None:
        for number in numbers:
            parcel = self.network.office.parcel(messages.GetFinalized(since=number))
            self.network.post(sender, receiver, parcel)

    def got(self, receiver: int = 1) -> list[int]:
        return [parcel.message.since for _, to, parcel in self.ends.got if to == receiver]

    def test_everybody_is_linked_with_everybody(self) -> None:
        """Both ends of each pair are told, once."""
        self.assertEqual(len(self.ends.links), 12)
        self.assertEqual({kind for kind, _, _ in self.ends.links}, {"up"})

    def test_a_link_keeps_the_order(self) -> None:
        """Fifty messages at one instant arrive as they were sent, and in some milliseconds."""
        self.send(*range(50))
        self.events.run_until(5 * MILLISECOND)
        self.assertEqual(self.got(), list(range(50)))

    def test_a_hostile_network_does_not(self) -> None:
        """Reordered and doubled: each at least once, in another order."""
        self.weather.reorders, self.weather.duplicates = True, 1.0
        self.send(*range(30))
        self.events.run_until(10 * SECOND)
        self.assertEqual(set(self.got()), set(range(30)))
        self.assertGreater(len(self.got()), 59)
        self.assertNotEqual(list(dict.fromkeys(self.got())), list(range(30)))

    def test_a_lost_message_breaks_the_link(self) -> None:
        """What was on the way is gone, both ends are told, and the link comes up again."""
        self.send(1)
        self.weather.loss = 1.0
        self.send(2)
        self.weather.loss = 0.0
        self.send(3)
        self.events.run_until(5 * SECOND)
        self.assertEqual(self.got(), [])
        told = self.ends.links[12:]
        self.assertEqual(sorted(told[:2]), [("down", 0, 1), ("down", 1, 0)])
        self.assertEqual(told[2:], [("up", 0, 1), ("up", 1, 0)])
        self.send(4)
        self.events.run_until(6 * SECOND)
        self.assertEqual(self.got(), [4])

    def test_a_silent_loss_is_told_when_all_heals(self) -> None:
        """Nobody knows until then; then the link is made anew."""
        self.weather.loss, self.weather.silent = 1.0, True
        self.send(1)
        self.events.run_until(5 * SECOND)
        self.assertEqual(self.ends.links[12:], [])
        self.network.heal()
        self.assertEqual([kind for kind, _, _ in self.ends.links[12:]], ["down", "down", "up", "up"])
        self.send(2)
        self.events.run_until(6 * SECOND)
        self.assertEqual(self.got(), [2])

    def test_a_cut_holds_drops_or_breaks(self) -> None:
        """Held messages come when it ends; dropped ones never; a broken link stays down until then."""
        for how, arrive in (("hold", [1]), ("drop", []), ("break", [])):
            self.setUp()
            self.network.cut([(0, 1)], how)  # type: ignore[arg-type]
            self.send(1)
            self.events.run_until(3 * SECOND)
            self.assertEqual(self.got(), [])
            self.assertEqual(("down", 0, 1) in self.ends.links, how == "break")
            self.network.uncut([(0, 1)], how)  # type: ignore[arg-type]
            self.events.run_until(10 * SECOND)
            self.assertEqual(self.got(), arrive, how)
            self.send(2)
            self.events.run_until(11 * SECOND)
            self.assertEqual(self.got()[-1], 2, how)

    def test_one_direction_may_be_cut_alone(self) -> None:
        """N-04: what goes the other way arrives."""
        self.network.cut([(0, 1)], "drop")
        self.send(1)
        self.send(2, sender=1, receiver=0)
        self.events.run_until(SECOND)
        self.assertEqual((self.got(1), self.got(0)), ([], [2]))

    def test_the_dead_hear_nothing(self) -> None:
        """Messages to a masternode that is down are lost; when it is up again it is linked again."""
        self.send(1)
        self.ends.down.add(1)
        self.network.node_down(1)
        self.events.run_until(SECOND)
        self.assertEqual(self.got(), [])
        self.assertEqual({peer for kind, _, peer in self.ends.links[12:]}, {1})
        self.ends.down.discard(1)
        self.network.node_up(1)
        self.events.run_until(2 * SECOND)
        self.send(2)
        self.events.run_until(3 * SECOND)
        self.assertEqual(self.got(), [2])

    def test_a_narrow_link_is_slow(self) -> None:
        """At one byte a millisecond forty bytes take forty milliseconds, one after the other (N-17)."""
        self.network.wires[0, 1].rate = 1
        self.send(1, 2)
        size = len(self.network.office.parcel(messages.GetFinalized(since=1)).payload)
        self.events.run_until((size + 2) * MILLISECOND)
        self.assertEqual(self.got(), [1])
        self.events.run_until((2 * size + 4) * MILLISECOND)
        self.assertEqual(self.got(), [1, 2])

    def test_messages_cross_as_bytes(self) -> None:
        """The receiver gets what its codec makes of the bytes: an equal message, not the same; garbage is refused."""
        sent = messages.GetVotes(txids=("ab" * 32,))
        parcel = self.network.office.parcel(sent)
        self.assertEqual(parcel.message, sent)
        self.assertIsNot(parcel.message, sent)
        self.assertIs(self.network.office.parcel(sent), parcel)
        self.assertRaises(Refusal, lambda: self.network.office.parcel({"type": "Nonsense"}).message)


class Time(SynchronousTestCase):
    def test_events_come_in_order(self) -> None:
        """By time, and at one time as they were planned; one event may plan the next."""
        events, happened = Events(), []
        events.after(5, happened.append, "c")
        events.after(3, happened.append, "a")
        events.after(3, lambda: events.after(0, happened.append, "b"))
        events.run_until(4)
        self.assertEqual((happened, events.now), (["a", "b"], 4))
        events.run_until(10)
        self.assertEqual((happened, events.now), (["a", "b", "c"], 10))

    def test_streams_do_not_move_each_other(self) -> None:
        """What one part draws changes nothing for another, and each seed has its own."""
        first, second = stream(1, "network"), stream(1, "disks")
        expected = stream(1, "disks").random()
        first.random()
        self.assertEqual(second.random(), expected)
        self.assertNotEqual(stream(2, "disks").random(), expected)
