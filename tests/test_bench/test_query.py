"""Questions at fixed times: a slow answer is late for itself and delays no other question."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from timeproto.bench import asker
from timeproto.bench.asker import Asker, pause_after
from timeproto.bench.frames import frame
from timeproto.errors import ConfigurationError
from timeproto.wire import codec, messages

KNOWN = b'{"status":"known"}'
PING = codec.encode(messages.Ping())


class Node:
    """A connection to a node in virtual time: each of ``answers`` comes at its moment, cut as the network likes."""

    def __init__(self, answers: list[tuple[float, bytes]]) -> None:
        self.now = 0.0
        self.sent: list[tuple[float, bytes]] = []
        self._answers = answers

    def seconds(self) -> float:
        return self.now

    def is_readable(self, connection: object, patience: float) -> bool:
        until = self.now + patience
        if self._answers and self._answers[0][0] <= until:
            self.now = max(self.now, self._answers[0][0])
            return True
        self.now = until
        return False

    def recv(self, size: int) -> bytes:
        return self._answers.pop(0)[1]

    def sendall(self, data: bytes) -> None:
        self.sent.append((self.now, data))


def cut(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 7] for at in range(0, len(data), 7))


class Asking(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(asker, "PREPARED", 2)
        self.cycle = pause_after(1) + pause_after(3)

    def ask(self, node: Node) -> dict[int, list[float]]:
        one = Asker(node, 1_000, (1, 3), seconds=node.seconds, is_readable=node.is_readable)
        return one.ask(3 * self.cycle)

    def test_nobody_answers_and_it_asks_on(self) -> None:
        """Each question leaves in its time; each answer counts from when its question had to leave."""
        answers = [(1.0, frame(KNOWN * items)) for items in (1, 3, 1, 2, 1, 1, 3)]  # one comes in two frames
        node = Node(answers)
        times = self.ask(node)
        wanted = [at * self.cycle + more for at in range(3) for more in (0, pause_after(1))]
        self.assertTrue(all(abs(left - due) < 1e-9 for (left, _), due in zip(node.sent, wanted, strict=True)))
        self.assertEqual({size: len(each) for size, each in times.items()}, {1: 3, 3: 3})
        expected = [1000 * (1.0 - at * self.cycle) for at in range(3)]
        self.assertTrue(all(abs(a - b) < 1e-6 for a, b in zip(times[1], expected, strict=True)))

    def test_answers_in_pieces(self) -> None:
        """An answer counts when its last byte is here; a ping between two is answered."""
        words = frame(KNOWN) + frame(PING) + b"".join(frame(KNOWN * items) for items in (3, 1, 3, 1, 3))
        pieces = list(cut(words))
        times = self.ask(Node([(1.0 + 0.001 * at, piece) for at, piece in enumerate(pieces)]))
        last = 1000 * (1.0 + 0.001 * (len(pieces) - 1) - 2 * self.cycle - pause_after(1))
        self.assertAlmostEqual(times[3][-1], last)
        node = Node([(0.001, frame(PING)), *((1.0, frame(KNOWN * items)) for items in (1, 3, 1, 3, 1, 3))])
        self.ask(node)
        self.assertIn(frame(codec.encode(messages.Pong())), [data for _, data in node.sent])

    def test_a_node_that_does_not_know(self) -> None:
        """What is measured would not be what it says."""
        error = self.assertRaises(ConfigurationError, self.ask, Node([(0.01, frame(b'{"status":"unknown"}'))]))
        self.assertIn("does not know the coins", str(error))

    def test_a_node_that_goes_away(self) -> None:
        """It is told at once."""
        error = self.assertRaises(ConfigurationError, self.ask, Node([(0.01, b"")]))
        self.assertIn("closed the connection", str(error))

    def test_a_node_that_is_silent(self) -> None:
        """It is waited for, but not for ever."""
        error = self.assertRaises(ConfigurationError, self.ask, Node([]))
        self.assertIn("did not answer within 20 s", str(error))
