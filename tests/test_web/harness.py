"""A web port on a fake clock and in-memory wires, and the few words of HTTP that tests say to it."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.examples import GENESIS, VOTERS
from tests.test_web.node import FakeNode
from timeproto.network.handshake import HandshakeMachine
from timeproto.web.channel import WebChannel
from timeproto.web.service import WebService
from timeproto.wire import codec, messages

START = 1_700_000_000.0


class Wire(StringTransport):
    """A transport that remembers how it was closed, and can be a reader that does not read."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, 40_000))
        self.half_closed = False
        self.aborted = False

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True

    @property
    def is_ended(self) -> bool:
        return self.half_closed or self.disconnecting or self.aborted

    @property
    def is_paused(self) -> bool:
        return self.producerState == "paused"


@attrs.define
class Answer:
    """One HTTP answer. ``headers`` by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error."""
        return str(self.json["code"])


class Sink:
    """Answers every request with what it is: enough to see what arrives."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.clients: list[Any] = []
        self.lost: list[Any] = []

    def handle_message(self, client: Any, message: Any) -> None:
        self.heard.append(message)
        self.clients.append(client)
        client.send(messages.Pong(id=message.id))

    def connection_lost(self, client: Any) -> None:
        self.lost.append(client)


class Web:
    """A web service over a fake node; ``connect`` opens wires to it."""

    def __init__(self, *, sink: Any = None, node: FakeNode | None = None, greet: Any = None, **options: Any) -> None:
        self.clock = Clock()
        self.clock.rightNow = START
        self.node = node or FakeNode(self.clock)
        self.node.clock = self.clock
        self.sink = sink or Sink()
        self.service = WebService(
            clock=self.clock,
            view=self.node,
            sink=self.sink,
            greet=greet
            or (
                lambda transport: HandshakeMachine(
                    genesis=GENESIS, key=VOTERS[0], dialled=False, nonce=b"\x07" * 32, binding=b""
                )
            ),
            now=self.clock.seconds,
            **options,
        )
        self.node.feed = self.service.feed
        self.service.startService()

    def connect(self, host: str = "127.0.0.1") -> Connection:
        channel = self.service.site.buildProtocol(IPv4Address("TCP", host, 40_000))
        assert channel is not None, "no room"
        return Connection(self, channel, host)

    def get(self, path: str, **headers: str) -> Answer:
        """One answer over a connection of its own."""
        return self.connect().ask("GET", path, **headers)

    def post(self, path: str, body: bytes, **headers: str) -> Answer:
        headers = {"Content_Type": "application/json"} | headers
        return self.connect().ask("POST", path, body, **headers)


class Connection:
    """One wire, and what came back over it."""

    def __init__(self, web: Web, channel: WebChannel, host: str) -> None:
        self.web = web
        self.channel = channel
        self.wire = Wire(host)
        channel.makeConnection(self.wire)

    def send(self, data: bytes) -> Connection:
        self.channel.dataReceived(data)
        return self

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Connection:
        """Sends a request; an underscore in a header's name stands for a hyphen."""
        lines = {"Host": "localhost"} | {name.replace("_", "-"): value for name, value in headers.items()}
        if body:
            lines["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        self.request(method, path, body, **headers)
        answers = self.answers()
        assert len(answers) == 1, answers
        return answers[0]

    def take(self) -> bytes:
        """What was written, taken."""
        found: bytes = self.wire.value()
        self.wire.clear()
        return found

    def answers(self) -> list[Answer]:
        """Whole answers, taken; bodies by Content-Length only."""
        rest, found = self.take(), []
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            size = int(headers.get("content-length", "0"))
            found.append(Answer(int(first.split()[1]), headers, rest[:size]))
            rest = rest[size:]
        return found

    def lose(self) -> None:
        """The other end is gone."""
        self.channel.connectionLost(Failure(ConnectionDone()))


def read_events(raw: bytes) -> list[tuple[str, str, Any]]:
    """The server-sent events in a chunked body (or a part of one) as (id, event, data)."""
    text = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        count = int(size, 16)
        text, raw = text + raw[:count], raw[count + 2 :]
    found = []
    for block in text.decode("utf-8").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line)
        if fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


def encode(message: Any) -> bytes:
    return codec.encode(message)
