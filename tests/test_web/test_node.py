"""The web port over a real node: replica, store, bridge and wallets' handler, and nothing played."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import Node, NoPeers
from tests.cluster import COIN, address, key, pay
from tests.test_web.harness import Connection, Web, encode, read_events
from tests.test_web.sockets import Wallet
from timeproto.masternode.windows import Everybody
from timeproto.model.certificate import FinalityProof, check_proof
from timeproto.model.transaction import Transaction
from timeproto.network.handshake import HandshakeMachine
from timeproto.web.service import WebService
from timeproto.web.view import Figures
from timeproto.wire import codec, messages


class RealWeb(Web):
    """A web service over a masternode alone in its set, which is its own quorum; on ``clock``, or the node's own."""

    def __init__(self, clock: Any = None, make_webhooks: Any = None) -> None:
        """``make_webhooks`` is given the view, the feed and the metrics."""
        self.alone = node = Node()
        self.clock = clock or node.clock
        self.service = WebService(
            clock=self.clock,
            view=node.view,
            sink=node.handler,
            greet=lambda transport: HandshakeMachine(
                genesis=node.genesis, key=key(1), dialled=False, nonce=b"\x07" * 32, binding=b""
            ),
            now=self.clock.seconds,
            make_webhooks=None if make_webhooks is None else partial(make_webhooks, node.view),
        )
        node.integration.initialize(peers=NoPeers(), wallets=Everybody(node.handler, self.service.feed))
        self.service.startService()

    def payment(self, number: int = 0) -> Transaction:
        """One coin of the first wallet pays the second."""
        node = self.alone
        owner, other = node.wallets[:2]
        coins = [outpoint for outpoint, output in node.genesis.coins() if output.address == address(owner)]
        return pay(node.genesis, [(coins[number], 10 * COIN, owner)], [(address(other), COIN)])


class Payments(SynchronousTestCase):
    def setUp(self) -> None:
        self.web = RealWeb()

    def send(self, tx: Transaction) -> Any:
        return self.web.post("/v1/transactions", encode(tx))

    def test_a_payment_and_its_proof(self) -> None:
        """Sent by HTTP it is locked, then final, and the proof that is shown convinces who checks it."""
        web, tx = self.web, self.web.payment()
        self.assertEqual(web.get(f"/v1/transactions/{tx.txid}").status, 404)
        answer = self.send(tx)
        self.assertEqual((answer.status, answer.json["txid"]), (202, tx.txid))
        shown = web.get(f"/v1/transactions/{tx.txid}").json
        self.assertEqual(shown["status"], "final")
        trace = web.get(f"/v1/transactions/{tx.txid}/trace").json
        self.assertEqual([stage["name"] for stage in trace["stages"]], ["seen", "locked", "pending", "final"])
        proof = msgspec.convert(shown["proof"], FinalityProof)
        genesis = web.alone.genesis
        check_proof(proof, genesis.masternode_set, genesis.hash)
        self.assertEqual(web.get(f"/v1/transactions/{tx.txid}/proof").json, shown["proof"])

    def test_it_is_confirmed_by_a_block(self) -> None:
        """The block, the place in it, and the coin's last state."""
        web, tx = self.web, self.web.payment()
        self.send(tx)
        height = web.alone.make_block()
        shown = web.get(f"/v1/transactions/{tx.txid}").json
        self.assertEqual((shown["height"], shown["inclusion"]["header"]["height"]), (height, height))
        stages = web.get(f"/v1/transactions/{tx.txid}/trace").json["stages"]
        self.assertEqual(stages[-1], {"name": "confirmed", "at": shown["inclusion"]["header"]["timestamp"]})
        self.assertIn(tx.txid, web.get(f"/v1/blocks/{height}").json["transactions"])
        coin = web.get(f"/v1/coins/{tx.outpoints[0]}").json
        self.assertEqual(coin["state"]["Confirmed"]["txid"], tx.txid)

    def test_refusals_are_the_wires(self) -> None:
        """A double spend: the code, the rival, and a status that fits."""
        web = self.web
        first = web.payment()
        rival = pay(web.alone.genesis, [(first.outpoints[0], 10 * COIN, web.alone.wallets[0])], [], timestamp=9)
        self.send(first)
        answer = self.send(rival)
        self.assertEqual((answer.status, answer.code), (409, "double_spend"))
        self.assertEqual(answer.json["details"]["conflicting_txid"], first.txid)

    def test_nothing_is_shown_before_it_is_durable(self) -> None:
        """While the commit is on its way to the disk the answer waits, and so does every question about coins."""
        web, tx = self.web, self.web.payment()
        web.alone.hold()
        sent = web.connect().request("POST", "/v1/transactions", encode(tx), Content_Type="application/json")
        asked = web.connect().request("GET", f"/v1/transactions/{tx.txid}")
        self.assertEqual((sent.take(), asked.take()), (b"", b""))
        web.alone.release()
        self.assertEqual([each.status for each in sent.answers() + asked.answers()], [202, 200])

    def test_everybody_who_watches_is_told(self) -> None:
        """An event stream and a WebSocket hear each step of a payment that came over neither."""
        web, tx = self.web, self.web.payment()
        stream = web.connect().request("GET", f"/v1/events?txid={tx.txid}")
        wallet = Wallet(web)
        wallet.send(messages.UTXOSubscribe(id=1, subscriber_id="s", addresses=(address(web.alone.wallets[1]),)))
        self.send(tx)
        web.clock.advance(0)
        told = [data["notification"]["new_state"] for _, event, data in self.events(stream) if event == "transition"]
        self.assertEqual([state if isinstance(state, str) else next(iter(state)) for state in told],
                         ["Locked", "SpentPending", "SpentFinalized", "Unspent", "Unspent"])
        kinds = [each["type"] for each in wallet.hear().take()]
        self.assertEqual(kinds[0], "UTXOSubscribed")
        self.assertIn("UTXOStateNotification", kinds)

    def events(self, stream: Connection) -> list[tuple[str, str, Any]]:
        return read_events(stream.take().partition(b"\r\n\r\n")[2])


class Health(SynchronousTestCase):
    def test_alive_and_ready(self) -> None:
        """A node that is its own quorum, votes and is caught up takes payments; one that broke says why not."""
        web = RealWeb()
        web.alone.make_block()
        self.assertEqual(web.get("/live").json, {"live": True})
        ready = web.get("/ready")
        self.assertEqual((ready.status, ready.json), (200, {"ready": True, "reasons": []}))
        web.alone.replica.halt("its storage failed")
        ready = web.get("/ready")
        self.assertEqual(ready.status, 503)
        self.assertIn("its storage failed", ready.json["reasons"][0])
        self.assertEqual(web.get("/live").status, 200)

    def test_info(self) -> None:
        """What a wallet is told over TCP."""
        web = RealWeb()
        told = web.get("/v1/node").json
        self.assertEqual(told, codec.parse_json(encode(web.alone.view.info())))

    def test_numbers(self) -> None:
        """The official parser reads them, and they are this node's."""
        web = RealWeb()
        web.post("/v1/transactions", encode(web.payment()))
        families = text_string_to_metric_families(web.get("/metrics").body.decode("utf-8"))
        found = {sample.name: sample.value for family in families for sample in family.samples}
        counters = web.alone.integration.counters
        self.assertEqual(found["timeproto_final_transactions"], 1)
        self.assertEqual(found["timeproto_commits_total"], counters.commits)
        self.assertEqual(found["timeproto_final_seconds_count"], 1)
        self.assertGreater(found["process_resident_memory_bytes"], 1_000_000)

    def test_what_the_node_counts(self) -> None:
        """Names that the metrics take, all of them: one that is none would be left out in silence."""
        figures = RealWeb().alone.view.figures()
        self.assertIsInstance(figures, Figures)
        self.assertEqual(set(figures.counters), {"steps", "commits", "inputs", "inputs_dropped", "proven"})
