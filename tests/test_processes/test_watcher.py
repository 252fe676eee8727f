"""``examples/watch.mjs``, a watcher in another language: on the golden vectors, before real masternodes, and before one
that lies to it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.trial.unittest import SynchronousTestCase
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from tests.node_js import NODE, PATIENCE
from tests.test_processes.harness import free_ports, until
from tests.test_processes.test_web_port import WebCase
from timeproto.model.transaction import Transaction
from timeproto.web.websocket import text_frame
from timeproto.wire import codec

ROOT = Path(__file__).parent.parent.parent
WATCH = ROOT / "examples" / "watch.mjs"
CHECKER = """
import fs from "node:fs";
process.exit = () => { throw new Error("refused"); };
console.error = () => {};
let members;
console.log(JSON.stringify(JSON.parse(fs.readFileSync(0, "utf8")).map((each) => {
  try {
    members = each.masternodes;
    if (each.proof) check(each.proof, each.proof.txid);
    const top = !each.proof && root(sha256([0], Buffer.from(each.leaf, "hex")), each.index, each.size, each.path);
    need(each.proof || top.equals(hex(each.root)));
    return true;
  } catch { return false; }
})));
"""


class Watcher(ProcessProtocol):
    """The example as a process. ``lines`` is what it printed, ``complaint`` its standard error."""

    def __init__(self, address: str, genesis_hash: str, watched: str) -> None:
        self._printed, self._complained = b"", b""
        self.ended: Deferred[int] = Deferred()
        arguments = [NODE, "--experimental-websocket", str(WATCH), f"ws://{address}/v1/socket", genesis_hash, watched]
        reactor.spawnProcess(self, NODE, arguments, env={})

    def outReceived(self, data: bytes) -> None:
        self._printed += data

    def errReceived(self, data: bytes) -> None:
        self._complained += data

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(reason.value.exitCode)

    def kill(self) -> Deferred[int]:
        if not self.ended.called:
            self.transport.signalProcess("KILL")
        return self.ended

    @property
    def lines(self) -> list[str]:
        return self._printed.decode("utf-8").splitlines()

    @property
    def complaint(self) -> str:
        return self._complained.decode("utf-8")


class Liar(Protocol):
    """Stands in front of a node's web port and bends what the node says; the other half of it is ``_Node``."""

    def __init__(self, address: str, bend: Callable[[Any], None]) -> None:
        self._address, self.bend = address, bend
        self._early = b""
        self._node: Any = None

    def connectionMade(self) -> None:
        host, _, port = self._address.rpartition(":")
        joined = connectProtocol(TCP4ClientEndpoint(reactor, host, int(port)), _Node(self))
        joined.addCallbacks(self._join, lambda _: self.transport.abortConnection())

    def _join(self, node: Protocol) -> None:
        self._node = node
        node.transport.write(self._early)

    def dataReceived(self, data: bytes) -> None:
        if self._node is None:
            self._early += data
        else:
            self._node.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        if self._node is not None:
            self._node.transport.loseConnection()


class _Node(Protocol):
    def __init__(self, liar: Liar) -> None:
        self._liar = liar
        self._head: bytes | None = b""
        self._frames = Connection(ConnectionType.CLIENT)
        self._text = ""

    def dataReceived(self, data: bytes) -> None:
        if self._head is not None:
            head, end, data = (self._head + data).partition(b"\r\n\r\n")
            self._head = None if end else head
            self._liar.transport.write(head + end if end else b"")
        self._frames.receive_data(data)
        for event in self._frames.events():
            if isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    message, self._text = json.loads(self._text), ""
                    self._liar.bend(message)
                    self._liar.transport.write(text_frame(json.dumps(message).encode("utf-8")))

    def connectionLost(self, reason: Any = None) -> None:
        self._liar.transport.loseConnection()


def other(digits: str) -> str:
    """The same hex with another first digit."""
    return ("0" if digits[0] != "0" else "1") + digits[1:]


class WatcherCase(WebCase):
    timeout = 240

    def watch(self, watched: str, address: str | None = None, genesis_hash: str | None = None) -> Watcher:
        """The example, before the first node or at ``address``."""
        layout = self.devnet.layout
        watcher = Watcher(address or layout.nodes[0].web, genesis_hash or layout.genesis.hash, watched)
        self.addCleanup(watcher.kill)
        return watcher

    async def pay(self, tx: Transaction) -> None:
        status, _ = await self.ask("v1/transactions", codec.encode(tx))
        self.assertEqual(status, 202)


class Alone(SynchronousTestCase):
    def test_it_is_short(self) -> None:
        """Sixty lines, none of them long."""
        lines = WATCH.read_text("utf-8").splitlines()
        self.assertLessEqual(len(lines), 60)
        self.assertLessEqual(max(map(len, lines)), 120)

    def verdicts(self, pinned: str, inputs: list[Any]) -> list[bool]:
        """What the example's own functions say of proofs and Merkle paths."""
        _, _, script = WATCH.read_text("utf-8").partition("// Messages")[0].partition("\n")
        done = subprocess.run(
            [NODE, "--input-type=module", "-e", script + CHECKER, "watch.mjs", "url", pinned, "address"],
            input=json.dumps(inputs), capture_output=True, text=True, timeout=PATIENCE, check=True,
        )  # fmt: skip
        found: list[bool] = json.loads(done.stdout)
        return found

    def test_it_judges_as_the_vectors_do(self) -> None:
        """Proofs true and false, and every path of trees of many sizes."""
        vectors = [
            case | {"file": file}
            for file in ("proof", "vote-merkle", "merkle-rfc6962")
            for case in json.loads((ROOT / "tests" / "vectors" / f"{file}.json").read_text("utf-8"))["cases"]
            if "proof" in case["input"] or "leaf" in case["input"]
        ]
        networks = {case["input"].get("genesis_hash", "") for case in vectors}
        judged = 0
        for pinned in networks:
            cases = [case for case in vectors if case["input"].get("genesis_hash", "") == pinned]
            found = self.verdicts(pinned, [case["input"] for case in cases])
            for case, verdict in zip(cases, found, strict=True):
                self.assertEqual(verdict, case["expect"] == "accept", f"{case['file']}: {case['id']}")
                judged += 1
        self.assertGreater(judged, 40)


class TrueNodes(WatcherCase):
    async def test_payments_are_followed_and_proven(self) -> None:
        """The payer's watcher sees each state, the payee's what was paid; both check proofs of votes in batches."""
        await self.start_web(4, block_interval=1)
        payments = self.transactions[:6]
        payer, payee = payments[0].outputs[1].address, payments[0].outputs[0].address
        theirs, ours = self.watch(payer), self.watch(payee)
        await until(lambda: theirs.lines and ours.lines)
        for tx in payments:
            await self.pay(tx)

        def told(watcher: Watcher, coin: str, word: str, verdict: str) -> bool:
            lines = (line for line in watcher.lines if line.startswith(f"{coin} "))
            return any(word in line and line.endswith(verdict) for line in lines)

        for tx in payments:
            spent = str(tx.outpoints[0])
            for state, verdict in (("Locked", "unproven"), ("SpentPending", "unproven"),
                                   ("SpentFinalized", "proof verified"), ("Confirmed", "unproven")):
                await until(lambda spent=spent, state=state, verdict=verdict: told(theirs, spent, state, verdict))
            paid = json.dumps({"amount": str(tx.outputs[0].amount), "address": payee}, separators=(",", ":"))
            await until(lambda tx=tx, paid=paid: told(ours, f"{tx.txid}:0", paid, "proof verified"))
        self.assertEqual((theirs.complaint, ours.complaint), ("", ""))


class Liars(WatcherCase):
    async def lied_to(self, bend: Callable[[Any], None], tx: Transaction, watched: str) -> Watcher:
        """The watcher's end, after a node bent what it says of a payment."""
        factory = Factory.forProtocol(lambda: Liar(self.devnet.layout.nodes[0].web or "", bend))  # type: ignore[arg-type]
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        watcher = self.watch(watched, f"127.0.0.1:{port.getHost().port}")
        await until(lambda: watcher.lines or watcher.ended.called)
        await self.pay(tx)
        await watcher.ended.addTimeout(PATIENCE, reactor)
        return watcher

    async def test_what_is_forged_is_refused(self) -> None:
        """A bent signature, a vote too few or twice, another's proof, more than was paid, other masternodes."""
        await self.start_web(1)
        first = self.transactions[0]
        payer, payee = first.outputs[1].address, first.outputs[0].address

        def with_proof(change: Callable[[Any], None]) -> Callable[[Any], None]:
            def bend(told: Any) -> None:
                if told["type"] == "UTXOStateNotification" and "proof" in told:
                    change(told["proof"])

            return bend

        def richer(told: Any) -> None:
            if told["type"] == "TransactionInfo":
                told["tx"]["outputs"][0]["amount"] += 1

        def replaced(told: Any) -> None:
            if told["type"] == "GenesisDocument":
                told["genesis"]["masternodes"][0] = other(told["genesis"]["masternodes"][0])

        def bent(proof: Any) -> None:
            proof["votes"][0]["signature"] = other(proof["votes"][0]["signature"])

        def higher(proof: Any) -> None:
            proof["votes"][0]["height"] += 1

        def longer(proof: Any) -> None:
            proof["votes"][0]["path"].append("00" * 32)

        cases = [
            (with_proof(bent), "not a masternode's"),
            (with_proof(higher), "not a masternode's"),
            (with_proof(longer), "wrong length"),
            (with_proof(lambda proof: proof["votes"][0].update(voter="11" * 32)), "not a masternode's"),
            (with_proof(lambda proof: proof["votes"].clear()), "no quorum"),
            (with_proof(lambda proof: proof["votes"].append(proof["votes"][0])), "no quorum"),
            (with_proof(lambda proof: proof.update(txid=other(proof["txid"]))), "something else"),
            (richer, "something else"),
            (replaced, "another genesis"),
        ]
        for at, (bend, why) in enumerate(cases):
            watched = payer if at % 2 else payee
            watcher = await self.lied_to(bend, self.transactions[at % self.coins], payee if bend is richer else watched)
            self.assertEqual(await watcher.ended, 1, why)
            self.assertIn(why, watcher.complaint)
            self.assertNotIn("proof verified", "".join(watcher.lines), why)

    async def test_nobody_there(self) -> None:
        """A node that cannot be reached is told, with a status that is not 0."""
        watcher = Watcher(f"127.0.0.1:{free_ports(1)}", "ab" * 32, "TIME0")
        self.addCleanup(watcher.kill)
        self.assertEqual(await watcher.ended.addTimeout(PATIENCE, reactor), 1)
        self.assertEqual(watcher.complaint, "refused: there is no connection\n")

    async def test_another_genesis_than_the_one_it_was_told(self) -> None:
        """A node of another network is left at once."""
        await self.start_web(1)
        watcher = self.watch(self.transactions[0].outputs[0].address, genesis_hash="ab" * 32)
        self.assertEqual(await watcher.ended.addTimeout(PATIENCE, reactor), 1)
        self.assertEqual(watcher.complaint, "refused: the node has another genesis\n")
