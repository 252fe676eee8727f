"""``timeproto wallet trace``: one payment as each node tells it, and nothing believed that is not proven."""

from __future__ import annotations

import gc
import json
from typing import Any

from twisted.logger import LogLevel, globalLogPublisher

from tests.cluster import COIN, address, key, pay
from tests.test_cli import command
from tests.test_cli.command import DEAD, NODE, CommandCase, Nobody
from tests.test_wallet import verdicts
from tests.test_wallet.world import World
from timeproto.model.transaction import Transaction
from timeproto.wallet.nodes import Node
from timeproto.wire import messages

SECOND = "127.0.0.1:2"


class TraceCase(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.other = World(wallets=2, coins=4)
        run = self.world.run

        def run_both(seconds: float = 0.0) -> None:
            run(seconds)
            self.other.run(seconds)

        self.patch(self.world, "run", run_both)

    def _endpoint(self, node: Node) -> Any:
        self.dialled.append(node)
        return {NODE: self.world, SECOND: self.other}.get(node.address, Nobody())

    def payment(self, coin: int = 0, to: int = 1) -> Transaction:
        """A payment of the first wallet; the same one every time."""
        node = self.world.node
        owner = node.wallets[0]
        outpoint = [each for each, out in node.genesis.coins() if out.address == address(owner)][coin]
        return pay(node.genesis, [(outpoint, 10 * COIN, owner)], [(address(node.wallets[to]), 2 * COIN)])

    def trace(self, tx: Transaction | str, *more: str) -> tuple[int, str, str]:
        txid = tx if isinstance(tx, str) else tx.txid
        return self.call("trace", txid, "--genesis", str(self.genesis), *more)

    def traced(self, tx: Transaction, *more: str, status: int = 0) -> Any:
        found, out, err = self.trace(tx, "--json", *more)
        self.assertEqual((found, err), (status, ""))
        self.assertEqual(out.count("\n"), 1)
        return json.loads(out)

    def bent(self, name: str, **change: Any) -> None:
        """What the node says in that kind of message, it says otherwise."""
        def bend(message: dict[str, Any]) -> dict[str, Any]:
            return message | change if message["type"] == name else message

        self.world.bend = bend


class Told(TraceCase):
    def test_a_payment_and_its_block(self) -> None:
        """Each stage with its time, who signed, the block; what is over is proven. No wallet is needed."""
        tx = self.payment()
        self.world.node.integration.process_transaction(tx)
        height = self.world.node.make_block()
        status, out, err = self.trace(tx)
        self.assertEqual((status, err), (0, ""))
        lines = out.splitlines()
        self.assertEqual(lines[0], f"Transaction {tx.txid}")
        self.assertIn(f"2 TIME to {tx.outputs[0].address}", lines[1])
        self.assertIn(f"{NODE}  final, for ever, and in a block, and the proof holds", lines)
        stages = [line.split()[4 if "ms" in line or " s " in line else 2] for line in lines if line.startswith("  19")]
        self.assertEqual(stages, ["seen", "locked", "pending", "final", "confirmed"])
        self.assertIn(f"  block {height}", lines)
        self.assertIn(f"  commit 1 of 1: {self.world.node.genesis.masternodes[0][:8]}", lines)

    def test_as_json(self) -> None:
        """One object: the trace as it came, whether it is proven, and whether the nodes agree."""
        tx = self.payment()
        self.world.node.integration.process_transaction(tx)
        told = self.traced(tx)
        self.assertEqual((told["txid"], told["agree"]), (tx.txid, True))
        (node,) = told["nodes"]
        self.assertEqual((node["node"], node["outcome"], node["proven"], node["why"]), (NODE, "told", True, None))
        self.assertEqual((node["trace"]["status"], node["trace"]["waits_for"]), ("final", "block"))

    def test_every_node_is_asked(self) -> None:
        """One knows it, one does not, one is not there: each is told, and that they differ."""
        tx = self.payment()
        self.world.node.integration.process_transaction(tx)
        more = ("--node", NODE, "--node", SECOND, "--node", DEAD)
        told = self.traced(tx, *more)
        self.assertEqual([each["outcome"] for each in told["nodes"]], ["told", "unknown", "unreachable"])
        self.assertFalse(told["agree"])
        status, out, _ = self.trace(tx, *more)
        self.assertEqual(status, 0)
        self.assertIn(f"{SECOND}  does not know it", out)
        self.assertIn(f"{DEAD}  no answer: ", out)
        self.assertIn(f"They differ: final says {NODE}; unknown says {SECOND}.", out)
        self.other.node.integration.process_transaction(tx)
        self.assertTrue(self.traced(tx, *more)["agree"])

    def test_its_user_loses_patience(self) -> None:
        """With several nodes that do not answer: it ends, and leaves nothing behind."""
        for world in (self.world, self.other):
            world.bend = lambda message: None if "id" in message else message
        logged: list[Any] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        self.patch(command, "LONGEST", 5)
        self.assertEqual(self.trace("ab" * 32, "--node", NODE, "--node", SECOND), (130, "", ""))
        gc.collect()
        self.assertEqual([event for event in logged if event["log_level"] >= LogLevel.warn], [])

    def test_nobody_knows_it(self) -> None:
        """Status 1, and the reason; what is no txid is a mistake of the command line."""
        status, out, _ = self.trace("ab" * 32)
        self.assertEqual(status, 1)
        self.assertIn("does not know it", out)
        self.refused(2, "trace", "xyz", words="is not a txid")

    def test_a_wallets_genesis_does(self) -> None:
        """Without --genesis the wallet file says whom to believe."""
        self.restored()
        tx = self.payment()
        self.world.node.integration.process_transaction(tx)
        self.assertTrue(self.json("trace", tx.txid)["nodes"][0]["proven"])

    def test_whatever_is_in_the_way(self) -> None:
        """Locked, contested, waiting for parents, refused: the words say what it stands still for."""
        tx, keys = self.payment(), [f"{number:064x}" for number in range(1, 8)]
        at, coin = 1_700_000_000_000, self.payment(1).outpoints[0]
        undecided: dict[str, Any] = {
            "txid": tx.txid, "cursor": messages.Cursor(key(1).public_hex, 7), "complete": True, "quorum": 5, "tx": tx,
            "stages": (messages.TraceStage("seen", at), messages.TraceStage("locked", at + 4)),
        }  # fmt: skip
        silent = (messages.MissingVoter(keys[5], True), messages.MissingVoter(keys[6], False))
        rival = messages.TraceRival("cd" * 32, coin, "locked", at)
        over = undecided | {"stages": (), "complete": False}
        for trace, words in (
            (messages.Trace(status="locked", waits_for="lock", lock=tuple(keys[:3]), missing=silent, **undecided),
             ["waits for lock votes: 3 of the 5 needed", "+4 ms  locked", f"silent 2 of 1: {keys[5][:8]}",
              f"not connected to this node: {keys[6][:8]}"]),
            (messages.Trace(status="pending", waits_for="commit", commit=(keys[0],), **undecided),
             ["a quorum has locked its coins", "waits for commit votes: 1 of the 5 needed"]),
            (messages.Trace(status="seen", waits_for="verdict", contested=True, cancelled=True, rivals=(rival,),
                            more=True, **undecided),
             ["contested: waits for a block's verdict", f"rival  {'cd' * 32} (locked) wants the coin {coin}",
              "more rivals", "an owner of its coins asked"]),
            (messages.Trace(status="seen", waits_for="parents", parents=("ef" * 32,), not_voting="it is new",
                            **undecided), ["waits for its parents", "ef" * 32, "does not vote now: it is new"]),
            (messages.Trace(status="announced", waits_for="transaction", **(over | {"tx": None})),
             ["not here yet", "which is being fetched"]),
            (messages.Trace(status="refused", refusal=messages.Reason("not_owner", "a coin of another\x1b[2J"), **over),
             ["it can never be final, says the node", "why: a coin of another\\x1b[2J (not_owner)",
              "not known here any"]),
        ):  # fmt: skip
            self.patch(self.world.node.view, "trace", lambda txid, trace=trace: trace)
            status, out, err = self.trace(tx)
            self.assertEqual((status, err), (0, ""))
            for each in words:
                self.assertIn(each, out)
            self.assertFalse(self.traced(tx)["nodes"][0]["proven"])


class Believed(TraceCase):
    """A node that lies is found out: status 1, and its account is not shown."""

    def check_false(self, tx: Transaction) -> None:
        status, out, _ = self.trace(tx)
        self.assertEqual(status, 1)
        self.assertIn("says what it cannot prove", out)
        self.assertEqual(self.traced(tx, status=1)["nodes"][0]["trace"], None)

    def test_final_without_a_proof(self) -> None:
        """Neither without one, nor with another's, nor in a block that does not hold it."""
        tx, other = self.payment(), self.payment(1)
        for each in (tx, other):
            self.world.node.integration.process_transaction(each)
        for change in ({"proof": None}, {"txid": other.txid}):
            self.bent("Trace", **change)
            self.check_false(tx)
        self.world.node.make_block()
        self.bent("Trace", height=7)
        self.check_false(tx)

    def test_another_transaction_under_its_name(self) -> None:
        """The contents are hashed here."""
        tx, other = self.payment(), self.payment(1)
        self.world.node.integration.process_transaction(tx)
        self.bent("Trace", tx=json.loads(messages_json(other)))
        self.check_false(tx)

    def test_its_contents_under_the_name_of_another(self) -> None:
        """Which a block ended, and that is proven: of another."""
        tx, other = self.payment(), self.payment(1)
        self.world.node.integration.process_transaction(tx)
        info = verdicts.aborted(self.world.node.genesis, other)
        real = self.world.node.view.transaction
        self.patch(self.world.node.view, "transaction", lambda txid: info if txid == other.txid else real(txid))
        named = json.loads(messages_json(tx)) | {"txid": other.txid}
        self.bent("Trace", tx=named, status="aborted", height=1, proof=None)
        self.check_false(tx)

    def test_aborted_without_a_verdict(self) -> None:
        """A node that says a block ended it must show the block."""
        tx = self.payment()
        self.world.node.integration.process_transaction(tx)
        self.bent("Trace", status="aborted", height=1, proof=None)
        self.check_false(tx)

    def test_aborted_otherwise_than_it_says(self) -> None:
        """A verdict that holds proves the end; the block and the rival that are told must be the ones it shows."""
        tx, node = self.payment(), self.world.node
        info = verdicts.aborted(node.genesis, tx)
        self.patch(node.view, "transaction", lambda txid: info)
        for height, rival, is_true in ((1, None, True), (4, None, False), (1, "cd" * 32, False)):
            trace = messages.Trace(
                txid=tx.txid, cursor=messages.Cursor(key(1).public_hex, 1), status="aborted", stages=(), complete=True,
                quorum=1, tx=tx, height=height, inclusion=info.inclusion, conflicting_txid=rival,
            )  # fmt: skip
            self.patch(node.view, "trace", lambda txid, trace=trace: trace)
            if is_true:
                self.assertTrue(self.traced(tx)["nodes"][0]["proven"])
            else:
                self.check_false(tx)

    def test_refused_for_a_rival_that_is_not_final(self) -> None:
        """The rival's own proof is asked for; with it the refusal is proven."""
        node, tx, rival = self.world.node, self.payment(), self.payment(0, 0)
        node.integration.process_transaction(rival)
        trace = messages.Trace(
            txid=tx.txid, cursor=messages.Cursor(key(1).public_hex, 1), status="refused", stages=(), complete=True,
            quorum=1, tx=tx, rivals=(messages.TraceRival(rival.txid, tx.outpoints[0], "final", proven=True),),
        )  # fmt: skip
        self.patch(node.view, "trace", lambda txid: trace)
        self.assertTrue(self.traced(tx)["nodes"][0]["proven"])
        self.bent("TransactionInfo", proof=None, status="pending")
        self.check_false(tx)


def messages_json(tx: Transaction) -> bytes:
    from timeproto.wire import codec

    return codec.encode(tx)
