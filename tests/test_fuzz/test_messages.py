"""Every message, nearly right, to a whole masternode, from everybody who can send it one: it answers once, or closes.

A few of each with the suite; ``make fuzz`` has many. A failure names the seed that makes its payload again.
"""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import FUZZ
from tests.examples import plain
from tests.mutations import NASTY, chances, mutate, paths, render
from tests.strategies import messages as any_message
from tests.test_fuzz.world import ROLES, World
from timeproto import limits
from timeproto.errors import POLICY, ErrorCode, Refusal
from timeproto.network.utxo_handler import UTXOProtocolHandler
from timeproto.wire import codec, messages

ROUNDS = 2 * FUZZ
"""Payloads of each type from each role; Hypothesis tries fifty times as many of any type."""
PING = codec.encode(messages.Ping(id=77))


class Answers(SynchronousTestCase):
    def put(self, role: str, payload: bytes, what: str) -> None:
        """One payload, to a new node: what must hold whatever it is."""
        world = World()
        talk = world.connect(role)
        talk.say(payload)
        said = talk.heard()  # and everything of it decodes
        told = f"{what}: {payload[:300]!r} was answered {said!r}"[:2_000]
        answers = [each for each in said if isinstance(each, messages.Reply)]
        self.assertLessEqual(len(answers), 1, told)
        self.assertLess(sum(len(codec.encode(each)) for each in said), limits.FRAME_PEER, told)
        errors = [each for each in said if isinstance(each, messages.Error)]
        for error in errors:
            self.assertIn(error.code, list(ErrorCode), told)
            self.assertNotEqual(error.code, ErrorCode.INTERNAL, told)
            self.assertLess(len(error.message), 600, told)
            self.assertTrue(error.message.isprintable(), told)
        ends = any(POLICY[ErrorCode(error.code)].closes for error in errors)
        self.assertTrue(talk.is_closed or not ends, told)
        talk.say(PING)
        pongs = [each for each in talk.heard() if isinstance(each, messages.Pong) and each.id == 77]
        self.assertEqual(len(pongs), 0 if talk.is_closed else 1, told)
        node = world.node
        self.assertEqual((node.fatal, world.conflicts, node.replica.not_voting), ([], [], None), told)
        for seconds in (1, limits.ORPHAN_WAIT_WALLET, limits.FRAME_TIME, limits.IDLE, limits.PONG):
            node.clock.advance(seconds)  # and nothing of it goes off later
            node.integration.tick()
        self.assertEqual((node.fatal, node.replica.not_voting), ([], None), told)
        self.assertEqual(self.flushLoggedErrors(), [], told)

    def test_every_type_from_every_role(self) -> None:
        """A good one, and it in several wrong ways: no exception but a refusal, one answer at most, and it decodes."""
        for name, words in World().words().items():
            for role in ROLES:
                for number in range(ROUNDS):
                    seed = f"{name} {role} {number}"
                    chance = random.Random(seed)
                    word = words[number % len(words)]
                    payload = mutate(chance, word) if number >= len(words) or role != "masternode" else _whole(word)
                    self.put(role, payload, seed)

    @settings(max_examples=50 * ROUNDS)
    @given(any_message(), st.sampled_from(ROLES), chances())
    def test_any_message_of_any_type(self, message: Any, role: str, chance: random.Random) -> None:
        """Whatever the schema allows, with changes that it does not."""
        self.put(role, mutate(chance, plain(message)), f"{type(message).__name__} {role}")

    def test_every_nasty_thing_in_every_place(self) -> None:
        """One type after the other, each field replaced by each thing that hurts; by turns from each role."""
        turn = 0
        for name, words in World().words().items():
            places = [each for each in paths(words[-1]) if each]
            chance = random.Random(name)
            every = [(place, nasty) for place in places for nasty in NASTY]
            for place, nasty in every if FUZZ > 1 else chance.sample(every, min(len(every), 4 * ROUNDS)):
                word = json.loads(json.dumps(words[-1]))
                parent = word
                for step in place[:-1]:
                    parent = parent[step]
                parent[place[-1]] = nasty
                role, turn = ROLES[turn % len(ROLES)], turn + 1
                text = render(word, ascii_=bool(turn % 2))
                self.put(role, text.encode("utf-8", "surrogatepass"), f"{name} {place} {nasty!r:.60} {role}")


class Tools(SynchronousTestCase):
    """They are what they say, and a node that fails is noticed."""

    def test_they_change_and_leave_the_message_alone(self) -> None:
        """Most payloads are another one than the message's, most of them refused, and the message is as it was."""
        word = World().words()["TransactionBroadcast"][-1]
        before = json.dumps(word)
        made = [mutate(random.Random(seed), word) for seed in range(300)]
        self.assertEqual(json.dumps(word), before)
        good = sum(_is_good(payload) for payload in made)
        self.assertGreater(good, 20)  # else nothing gets past the codec
        self.assertLess(good, 150)
        self.assertGreater(len(set(made)), 200)


    def test_a_node_that_fails_is_noticed(self) -> None:
        """Each of the ways to be wrong: an exception, two answers, no end where one is due, words nobody may say."""
        case = Answers()
        word = _whole(World().words()["GetInfo"][0])

        def fail(handler: Any, client: Any, message: Any) -> None:
            raise ZeroDivisionError("planted")

        def twice(handler: Any, client: Any, message: Any) -> None:
            client.send(messages.Pong(id=message.id))
            client.send(messages.Pong(id=message.id))

        def unheard_of(handler: Any, client: Any, message: Any) -> None:
            client.send_payload(b'{"type":"Nonsense"}')

        for role in ROLES[:3] + ROLES[4:]:
            for planted in (fail, twice, unheard_of):
                self.patch(UTXOProtocolHandler, "handle_message", planted)
                self.assertRaises((self.failureException, Refusal), case.put, role, word, planted.__name__)
                self.flushLoggedErrors(ZeroDivisionError)


def _whole(word: Any) -> bytes:
    return json.dumps(word).encode()


def _is_good(payload: bytes) -> bool:
    try:
        codec.decode(payload)
    except Refusal:
        return False
    return True
