"""One set of cases for both transports of the wallet protocol (fault T-10): the same asked, the same answered and told.

Behind each stands the real handler of a masternode among four. Every case runs over TCP and over a WebSocket; and then
both transcripts are compared word for word.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any, Protocol
from unittest import TestResult

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import key
from tests.examples import plain
from tests.test_network.listening import Listening
from tests.test_web.harness import Web, encode
from tests.test_web.sockets import Wallet
from tests.test_web.test_bridge import Switchboard
from timeproto import limits
from timeproto.model.transaction import Transaction
from timeproto.network.handshake import CURSORS, OWNERS, STATUSES, HandshakeMachine
from timeproto.network.node_protocol import NodeProtocol
from timeproto.network.ownership import digest, show
from timeproto.network.utxo_handler import UTXOProtocolHandler
from timeproto.wire import messages

Word = dict[str, Any]


class Talk(Protocol):
    """A wallet's connection, over whatever."""

    def send(self, message: Any) -> None: ...

    def hear(self) -> list[Word]:
        """What has come since, as JSON."""

    def stop_reading(self) -> None: ...

    def read_again(self) -> None: ...

    def leave(self) -> None: ...

    @property
    def is_closed(self) -> bool:
        """True once the node has closed."""


def greeter(net: Listening) -> HandshakeMachine:
    """The node's side of a handshake; each connection has a nonce of its own, the same in every run."""
    net.greeted = getattr(net, "greeted", 0) + 1  # type: ignore[attr-defined]
    return HandshakeMachine(
        genesis=net.genesis, key=key(1), dialled=False, nonce=net.greeted.to_bytes(32, "big"), binding=b"",  # type: ignore[attr-defined]
        capabilities=(CURSORS, OWNERS, STATUSES),
    )  # fmt: skip


class Tcp:
    def __init__(self, net: Listening) -> None:
        self._wire = StringTransport()
        machine = greeter(net)
        switchboard: Any = Switchboard(net.handler, lambda **_: machine)  # type: ignore[arg-type]
        self._protocol = NodeProtocol(net.clock, switchboard)
        self._protocol.makeConnection(self._wire)

    def send(self, message: Any) -> None:
        payload = encode(message)
        self._protocol.dataReceived(struct.pack("!I", len(payload)) + payload)

    def hear(self) -> list[Word]:
        raw, told = self._wire.value(), []
        self._wire.clear()
        while raw:
            (size,) = struct.unpack_from("!I", raw)
            told.append(json.loads(raw[4 : 4 + size]))
            raw = raw[4 + size :]
        return told

    def stop_reading(self) -> None:
        self._protocol.pauseProducing()

    def read_again(self) -> None:
        self._protocol.resumeProducing()

    def leave(self) -> None:
        self._protocol.connectionLost()

    @property
    def is_closed(self) -> bool:
        return bool(self._wire.disconnecting)


class WebSocket:
    def __init__(self, net: Listening) -> None:
        self._web = Web(sink=net.handler, greet=lambda transport: greeter(net))
        self._wallet = Wallet(self._web)
        (self._socket,) = self._web.service._bridge._sockets

    def send(self, message: Any) -> None:
        self._wallet.send(message)

    def hear(self) -> list[Word]:
        return self._wallet.hear().take()

    def stop_reading(self) -> None:
        self._socket.pauseProducing()

    def read_again(self) -> None:
        self._socket.resumeProducing()

    def leave(self) -> None:
        self._wallet.connection.lose()

    @property
    def is_closed(self) -> bool:
        return self._wallet.connection.wire.is_ended


class Cases:
    """The cases. ``connect`` opens a connection of the transport under test; what each hears is kept for comparison."""

    connect_to: Callable[[Listening], Talk]

    def setUp(self) -> None:
        self.net = Listening()
        count = iter(range(1_000))
        self.net.handler = UTXOProtocolHandler(self.net.clock, lambda size: next(count).to_bytes(size, "big"))
        self.net.handler.setup_notification_handler(self.net.view)
        self.transcript: list[Word] = []
        self.rest: list[Word] = []
        self.talk = self.connect()

    def connect(self) -> Talk:
        return type(self).connect_to(self.net)

    def hear(self, talk: Talk | None = None) -> list[Word]:
        self.net.clock.advance(0)  # whoever tells many writes in turns
        told = (talk or self.talk).hear()
        self.transcript += told
        return told

    def ask(self, message: Any, talk: Talk | None = None) -> Word:
        (talk or self.talk).send(message)
        answer, *self.rest = self.hear(talk)
        return answer

    def subscribe(self, talk: Talk | None = None, wallet: int = 1, **more: Any) -> Word:
        more = {"id": 1, "subscriber_id": "w", "addresses": (self.net.address_of(wallet),)} | more
        return self.ask(messages.UTXOSubscribe(**more), talk)

    def pay(self, coin: int = 0) -> Transaction:
        """Wallet 0 pays wallet 1, final everywhere."""
        tx = self.net.payment(0, coin, 1)
        self.net.submit(tx, 0)
        self.net.settle(2)
        return tx

    def catch_up(self) -> None:
        for _ in range(20):
            self.net.clock.advance(limits.FEED_PAUSE / 10)

    # -- requests ------------------------------------------------------------------------------------

    def test_every_request(self) -> None:
        """Each kind that a wallet may send, with its id in the one answer, whether yes or no."""
        tx = self.pay()
        self.net.pass_time(6_000)
        coin, nothing = str(tx.output_outpoint(0)), "ab" * 32
        mine = self.net.address_of(1)
        asked = [
            messages.Ping(), messages.GetInfo(), messages.GetGenesis(), messages.GetEvidence(),
            messages.UTXOStateQuery(outpoints=(coin, plain(tx.output_outpoint(1)), f"{nothing}:1", "x", 1, None)),
            messages.GetAddressUTXOs(address=mine), messages.GetAddressUTXOs(address=mine, limit=1, spent=True),
            messages.GetAddressUTXOs(address="TIME1" + mine[5:]),
            messages.GetTransaction(txid=tx.txid), messages.GetTransaction(txid=nothing),
            messages.GetFinalityProof(txid=tx.txid), messages.GetFinalityProof(txid=nothing),
            messages.GetTrace(txid=tx.txid), messages.GetTrace(txid=nothing),
            messages.UTXOSubscribe(subscriber_id="w", outpoints=(coin,)), messages.UTXOSubscribe(subscriber_id="x"),
            messages.UTXOUnsubscribe(subscriber_id="w"), messages.UTXOUnsubscribe(subscriber_id="w"),
        ]  # fmt: skip
        for number, message in enumerate(asked):
            talk = self.connect()  # some refusals close
            talk.send(messages.UTXOSubscribe(id=99, subscriber_id="first", outpoints=(coin,)))
            self.hear(talk)
            answer = self.ask(type(message)(**{name: getattr(message, name) for name in message.__struct_fields__} | {
                "id": number}), talk)
            self.equal(answer["id"], number)
        kinds = {word["type"] for word in self.transcript}
        self.equal(kinds >= {"Pong", "Info", "GenesisDocument", "EvidenceFound", "UTXOStateResponse", "AddressUTXOs",
                             "TransactionInfo", "FinalityProofs", "Trace", "UTXOSubscribed", "Error"}, True)

    # -- subscriptions -------------------------------------------------------------------------------

    def test_watching(self) -> None:
        """A snapshot, each step of a payment with its proof, and silence after the end."""
        self.equal(len(self.subscribe(wallet=0)["states"]), 4)
        tx = self.pay()
        steps = [next(iter(each["notification"]["new_state"])) for each in self.hear() if "proof" not in each]
        self.equal(steps[0], "Locked")
        self.net.pass_time(6_000)
        told = self.hear()
        self.equal([each["notification"]["outpoint"]["txid"] for each in told], [tx.outpoints[0].txid])
        self.equal("inclusion" in told[0], True)
        self.equal(self.ask(messages.UTXOUnsubscribe(id=2, subscriber_id="w"))["type"], "UTXOUnsubscribed")
        self.pay(1)
        self.equal(self.hear(), [])

    def test_names_are_the_connections_own(self) -> None:
        """Nobody ends, sees or takes another's (W-01, W-02)."""
        other = self.connect()
        self.subscribe()
        self.subscribe(other, wallet=2)
        self.ask(messages.UTXOUnsubscribe(id=2, subscriber_id="w"), other)
        refused = [self.ask(messages.UTXOUnsubscribe(id=3, subscriber_id=name), other) for name in ("w", "never")]
        self.equal(refused[0], refused[1])
        self.pay()
        self.equal((len(self.hear()), self.hear(other)), (1, []))

    def test_limits(self) -> None:
        """Named, with their values, where a connection asks for too much; and it goes on."""
        for number in range(limits.SUBSCRIPTIONS):
            self.subscribe(subscriber_id=f"w{number}")
        over = self.subscribe(subscriber_id="more")
        self.equal((over["code"], over["details"]), ("over_limit", {"limit": "subscriptions", "value": 16}))
        self.equal(self.ask(messages.Ping(id=5))["type"], "Pong")

    def test_sending_is_watching(self) -> None:
        """A payment is accepted and its steps are told, without a subscription."""
        tx = self.net.payment(0, 0, 1)
        accepted = messages.TransactionAccepted(txid=tx.txid)

        def submit(sent: Transaction) -> Any:
            from twisted.internet.defer import succeed

            self.net.submit(sent, 0)
            return succeed(accepted)

        self.net.view.submit = submit  # type: ignore[method-assign]
        self.talk.send(messages.TransactionBroadcast(id=4, tx=tx))
        self.net.settle(2)
        told = self.hear()
        self.equal(sorted(each["type"] for each in told)[:1], ["TransactionAccepted"])
        last = [each for each in told if each["type"] == "UTXOStateNotification"][-1]
        self.equal("SpentFinalized" in last["notification"]["new_state"], True)

    # -- cursors and leases --------------------------------------------------------------------------

    def test_resuming(self) -> None:
        """What was missed, once and in order, then its end, then live; and resets that say why."""
        cursor = self.subscribe(wallet=0)["cursor"]
        self.pay()
        before = self.hear()
        self.talk.leave()
        self.pay(1)
        self.talk = self.connect()
        answer = self.subscribe(wallet=0, since=messages.Cursor(**cursor))
        self.equal((answer["cursor"], answer["states"]), (cursor, []))
        self.catch_up()
        *missed, mark = self.rest + self.hear()
        self.equal((missed[: len(before)], mark["type"]), (before, "UTXOWatermark"))
        self.equal(len(missed) > len(before), True)
        self.pay(2)
        self.equal(len(self.hear()) > 0, True)
        for wrong, reason in (({"node": "ab" * 32}, "another_node"), ({"position": 10**6}, "ahead")):
            since = messages.Cursor(**(cursor | wrong))
            answer = self.subscribe(self.connect(), wallet=0, since=since)
            self.equal((answer["reset"], answer["reason"], len(answer["states"]) > 0), (True, reason, True))

    def test_leases(self) -> None:
        """Taken up with its token and with no other, announced before it ends, and told when it has."""
        token = self.subscribe(ttl_ms=600_000)["token"]
        wrong = messages.UTXOSubscribe(id=2, subscriber_id="w", token="ab" * 32)
        self.equal(self.ask(wrong, self.connect())["code"], "not_found")
        other = self.connect()
        self.ask(messages.UTXOSubscribe(id=3, subscriber_id="w", token=token, ttl_ms=20_000), other)
        self.equal([each["event"] for each in self.hear()], ["moved"])
        for seconds, event in ((16, "expiring"), (5, "expired")):
            self.net.clock.advance(seconds)
            events = [each["event"] for each in self.hear(other) if each["type"] == "UTXOSubscriptionNotice"]
            self.equal(events, [event])

    def greet(self, talk: Talk) -> str:
        """Shakes hands; the node's nonce on this connection."""
        talk.send(messages.Handshake(
            version=1, network="devnet", genesis=self.net.genesis.hash, role="wallet", node_key=None, listen=None,
            capabilities=(), nonce="ab" * 32,
        ))  # fmt: skip
        hello, proof = self.hear(talk)
        self.equal((hello["type"], proof["type"]), ("Handshake", "HandshakeAck"))
        return str(hello["nonce"])

    def test_leases_of_a_key(self) -> None:
        """Shown after the handshake, for this connection alone; taken up on the next one without an item."""
        mine = (self.net.address_of(1),)

        def owner(nonce: str, time: int, items: Any = None) -> messages.Owner:
            found = None if items is None else digest(items)
            return show(key(7), self.net.genesis.hash, self.net.nodes[0].key, nonce, "w", time=time, filter=found)

        nonce = self.greet(self.talk)
        leased = self.subscribe(ttl_ms=600_000, owner=owner(nonce, 1))
        self.equal((leased["type"], leased.get("token"), leased["ttl_ms"]), ("UTXOSubscribed", None, 600_000))
        overheard = messages.UTXOSubscribe(id=2, subscriber_id="w", owner=owner(nonce, 2, mine))
        for greeted in (True, False):
            thief = self.connect()
            if greeted:
                self.greet(thief)
            self.equal(self.ask(overheard, thief)["code"], "not_authorised")
            self.case().assertTrue(thief.is_closed)
        self.talk.leave()
        self.pay()
        other = self.connect()
        shown = owner(self.greet(other), 3, mine)
        since = messages.Cursor(**leased["cursor"])
        taken = self.ask(messages.UTXOSubscribe(id=3, subscriber_id="w", owner=shown, since=since), other)
        self.equal((taken["type"], taken["cursor"]), ("UTXOSubscribed", leased["cursor"]))
        self.equal([word["type"] for word in self.rest + self.hear(other)], ["UTXOStateNotification", "UTXOWatermark"])

    def test_a_reader_that_stops(self) -> None:
        """Nothing piles up for it, and nothing is missing when it reads again."""
        self.case().patch(limits, "FEED_QUEUE", 3_000)
        self.subscribe(wallet=0)
        self.talk.stop_reading()
        for coin in range(4):
            self.pay(coin)
        self.equal(self.hear(), [])
        self.talk.read_again()
        for _ in range(20):
            self.net.clock.advance(limits.FEED_PAUSE)
        positions = [each["cursor"]["position"] for each in self.hear() if each["type"] == "UTXOStateNotification"]
        mine = self.net.address_of(0)
        log = self.net.nodes[0].store.transitions(0, 1_000)
        self.equal(positions, [each.position for each in log if each.output.address == mine])

    # -- payments on their way -----------------------------------------------------------------------

    def test_statuses(self) -> None:
        """Every step of a payment, after its coin; a rival; an end: to who asked, and to nobody else."""
        quiet = self.connect()
        self.subscribe(quiet)
        self.subscribe(statuses=True)
        tx, loser = self.net.payment(0, 0, 1), self.net.payment(0, 1, 1)
        self.net.alone(tx)
        self.net.submit(loser, 0)
        self.net.lock_votes(tx, 1, 2)
        self.net.submit(self.net.payment(0, 1, 2), 1)
        self.net.run()
        self.net.heal()
        self.net.pass_time(8_000)
        told = self.hear()
        of = {each: [word["status"] for word in told if word.get("txid") == each] for each in (tx.txid, loser.txid)}
        self.equal(of[tx.txid], ["locked", "pending", "final", "confirmed"])
        self.equal((of[loser.txid][0], of[loser.txid][-1]), ("locked", "aborted"))
        kinds = [word.get("status", word["type"]) for word in told if word["type"] != "TransactionStatus"
                 or word["txid"] == tx.txid]  # fmt: skip
        self.equal(kinds.index("UTXOStateNotification") < kinds.index("final"), True)
        self.equal({word["type"] for word in self.hear(quiet)}, {"UTXOStateNotification"})

    def test_what_is_on_its_way_is_shown(self) -> None:
        """To one that comes late."""
        self.net.alone(self.net.payment(0, 0, 1))
        self.subscribe(statuses=True)
        self.net.clock.advance(limits.INCOMING_PAUSE)
        self.equal([word["status"] for word in self.hear()], ["locked"])

    # -- how they are run ----------------------------------------------------------------------------

    def case(self) -> SynchronousTestCase:
        assert isinstance(self, SynchronousTestCase)
        return self

    def equal(self, found: Any, expected: Any) -> None:
        self.case().assertEqual(found, expected)


class OverTcp(Cases, SynchronousTestCase):
    connect_to = Tcp


class OverWebSocket(Cases, SynchronousTestCase):
    connect_to = WebSocket


class Same(SynchronousTestCase):
    def test_word_for_word(self) -> None:
        """What is heard over one transport is heard over the other, in the same order, to the last field."""
        for name in sorted(name for name in dir(Cases) if name.startswith("test_")):
            heard = []
            for kind in (OverTcp, OverWebSocket):
                case = kind(name)
                result = TestResult()
                case.run(result)
                self.assertEqual((result.errors, result.failures), ([], []))
                heard.append(case.transcript)
            self.assertEqual(heard[0], heard[1], name)
            self.assertTrue(heard[0], name)

    def test_a_lease_is_taken_over_the_other_transport(self) -> None:
        """A wallet may come back another way; and what it missed comes by that."""
        for here, there in ((Tcp, WebSocket), (WebSocket, Tcp)):
            net = Listening()
            first, second = here(net), there(net)
            first.send(messages.UTXOSubscribe(
                id=1, subscriber_id="w", addresses=(net.address_of(1),), ttl_ms=600_000
            ))  # fmt: skip
            (leased,) = first.hear()
            first.leave()
            net.submit(net.payment(0, 0, 1), 0)
            net.settle(2)
            second.send(messages.UTXOSubscribe(
                id=1, subscriber_id="w", token=leased["token"], since=messages.Cursor(**leased["cursor"])
            ))  # fmt: skip
            net.clock.advance(0.1)
            self.assertEqual([word["type"] for word in second.hear()],
                             ["UTXOSubscribed", "UTXOStateNotification", "UTXOWatermark"])  # fmt: skip
