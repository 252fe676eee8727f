"""``timeproto wallet`` with several ``--node``: one that lies, or goes away, costs no more than the next one's time."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, ensureDeferred, succeed

from tests.cluster import COIN, address, pay
from tests.test_cli import command
from tests.test_cli.command import DEAD, NODE, PASSWORD, PHRASE, CommandCase
from tests.test_wallet.world import Bend, Elsewhere, World
from timeproto.cli.wallet_setting import connected
from timeproto.model import masternodes
from timeproto.wallet import hd, keystore
from timeproto.wallet.client import WalletClient
from timeproto.wallet.nodes import Node
from timeproto.wire import codec, messages


class Several(CommandCase):
    """Four masternodes, of which the first makes final what all know."""

    def setUp(self) -> None:
        self.patch(masternodes, "quorum", lambda n: 1)
        super().setUp()
        self.world = World(wallets=2, coins=4, masternodes=4)
        self.genesis.write_bytes(codec.dump_document(self.world.node.genesis))
        self.places: dict[str, Any] = {NODE: self.world}
        for number in (2, 3):
            place = Elsewhere(self.world, self.world.node, number)
            self.places[place.address] = place
        self.nodes = [word for each in list(self.places)[1:] for word in ("--node", each)]
        self.mine = address(hd.derive(PHRASE))

    def _endpoint(self, node: Node) -> Any:
        return self.places.get(node.address) or super()._endpoint(node)

    def restore(self, *nodes: str) -> tuple[int, str, str]:
        return self.call("restore", "--genesis", str(self.genesis), "--node", NODE, *nodes, stdin=PHRASE)

    def invents(self, kind: str, coins: str) -> Bend:
        """Among the coins that are told there is one that never was."""

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] != kind:
                return message
            output = {"amount": COIN, "address": message.get("address", self.mine)}
            coin = {"outpoint": {"txid": "ab" * 32, "vout": 0}, "state": "Unspent", "output": output}
            return message | {coins: [*message[coins], coin]}

        return bend

    def lie(self, *places: Any) -> None:
        watched, read = self.invents("UTXOSubscribed", "states"), self.invents("AddressUTXOs", "coins")
        for place in places:
            place.bend = lambda message: read(watched(message))


class Balances(Several):
    """What every command begins with: the coins are read."""

    def setUp(self) -> None:
        super().setUp()
        self.restored()

    def balance(self, *nodes: str) -> tuple[int, str, str]:
        return self.call("balance", "--json", "--node", NODE, *nodes)

    def test_the_first_lies(self) -> None:
        """The next one is asked, whoever lied is named, and of the next one nothing of it is said."""
        self.lie(self.world)
        status, out, err = self.balance(*self.nodes[:2])
        self.assertEqual((status, f'"total": {9 * COIN}' in out), (0, True), err)
        self.assertIn(f"the node at {NODE} lies", err)
        self.assertNotIn("127.0.0.1:2", err)

    def test_all_lie(self) -> None:
        """What is proven is shown, as with one that lies, and whoever lied is named."""
        self.lie(*self.places.values())
        status, out, err = self.balance(*self.nodes)
        self.assertEqual((status, f'"total": {9 * COIN}' in out, err.count(" lies: ")), (0, True, 2), err)

    def test_the_first_goes_away(self) -> None:
        """In the middle of its coins."""

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] == "UTXOSubscribed":
                self.world._servers[-1].abort()
                return None
            return message

        self.world.bend = bend
        self.assertEqual(self.balance(*self.nodes[:2])[0::2], (0, ""))

    def test_there_is_no_other(self) -> None:
        """It ends with the node's going, and is not asked again."""
        self.world.bend = lambda message: None if message["type"] == "UTXOSubscribed" else message
        self.meanwhile = [self.world.cut]
        before = self.world.connections
        self.refused(1, "balance", words="is lost")
        self.assertLessEqual(self.world.connections - before, 2)


class Addresses(Several):
    """What a command asks beside."""

    def test_the_first_lies(self) -> None:
        """An address is given out all the same."""
        self.restored()
        self.world.bend = self.invents("AddressUTXOs", "coins")
        status, out, err = self.call("address", "--node", NODE, *self.nodes)
        self.assertEqual((status, out.startswith("TIME0")), (0, True), err)


class Restores(Several):
    """A wallet from its phrase."""

    def setUp(self) -> None:
        super().setUp()
        self.fund(hd.derive(PHRASE, index=3))

    def test_the_first_lies(self) -> None:
        """It is left, named, and the search begins again at the next one."""
        self.lie(self.world)
        status, out, err = self.restore(*self.nodes)
        self.assertEqual((status, "1 addresses were used; they hold 9 TIME." in out), (0, True), err)
        self.assertIn("2 nodes were asked", out)
        self.assertIn(f"the node at {NODE} lies", err)

    def test_all_but_the_last_lie(self) -> None:
        """A wallet does not leave a liar at once if it has just left another: the command waits for that."""
        self.lie(self.world, self.places["127.0.0.1:2"])
        status, out, err = self.restore(*self.nodes)
        self.assertEqual((status, "1 addresses were used; they hold 9 TIME." in out), (0, True), err)
        self.assertEqual(err.count(" lies: "), 2, err)

    def test_one_lies_and_the_next_keeps_all_to_itself(self) -> None:
        """That one is left too, before the coins are counted."""
        self.lie(self.world)
        self.places["127.0.0.1:2"].bend = lambda message: (
            message | {"coins": [], "more": False} if message["type"] == "AddressUTXOs"
            else message | {"states": []} if message["type"] == "UTXOSubscribed" else message
        )  # fmt: skip
        status, out, err = self.restore(*self.nodes)
        self.assertEqual((status, "1 addresses were used; they hold 9 TIME." in out), (0, True), out + err)

    def test_all_lie(self) -> None:
        """Each is asked, and then it ends as it does with one."""
        self.lie(*self.places.values())
        status, out, err = self.restore(*self.nodes)
        self.assertEqual((status, out), (1, ""))
        self.assertIn("the node says what it cannot prove", err.splitlines()[-1])
        self.assertFalse(self.file.exists())

    def test_the_first_goes_away(self) -> None:
        """The search begins again at the next one."""

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] == "AddressUTXOs":
                self.world._servers[-1].abort()
                return None
            return message

        self.world.bend = bend
        status, out, err = self.restore(*self.nodes[:2])
        self.assertEqual((status, "1 addresses were used; they hold 9 TIME." in out), (0, True), err)

    def test_it_says_how_many_nodes_agreed(self) -> None:
        """One alone could keep an address to itself; of two that do not agree the one with the proof is believed."""
        self.world.bend = lambda message: message | {"coins": []} if message["type"] == "AddressUTXOs" else message
        status, out, err = self.restore(*self.nodes[:2])
        self.assertEqual(status, 0, err)
        self.assertIn("1 addresses were used; they hold 9 TIME.\n2 nodes were asked", out)
        self.assertIn(f"the node at {NODE} keeps something back", err)
        self.assertEqual(keystore.WalletFile.open(self.file, PASSWORD).receive_index, 4)
        self.file.unlink()
        self.world.bend = lambda message: message
        told = self.json("restore", "--genesis", str(self.genesis), "--node", NODE, *self.nodes, stdin=PHRASE)
        self.assertEqual(told["nodes"], 3)

    def test_others_that_cannot_be_asked(self) -> None:
        """It is said which and why, and not that others may be named."""
        status, out, err = self.restore("--node", DEAD)
        self.assertEqual((status, err.count("\n")), (0, 1), err)
        self.assertIn(f"the node at {DEAD} is not asked: {DEAD} cannot be reached", err)
        self.assertIn("One node was asked, and it could keep more to itself: the others could not be asked.", out)
        self.file.unlink()
        status, out, err = self.restore()
        self.assertEqual((status, err), (0, ""))
        self.assertIn("others may be named too, each with --node", out)


class Others(Several):
    """What the first node does not know, or cannot prove, another one is asked for."""

    def setUp(self) -> None:
        super().setUp()
        self.restored()
        owner = hd.derive(PHRASE)
        coin = self.world.node.view.address_coins(address(owner), None, 1, spent=False)[0][0][0]
        self.tx = pay(self.world.node.genesis, [(coin, 9 * COIN, owner)], [(address(owner), COIN)])
        self.final = self.fund(owner, coin=1)

    def says_not_found(self, message: dict[str, Any]) -> dict[str, Any]:
        unknown = {"type": "Error", "id": message.get("id"), "code": "not_found", "message": "who?", "details": {}}
        return unknown if message["type"] == "TransactionInfo" else message

    def proof(self, *nodes: str) -> tuple[int, str, str]:
        return self.call("proof", self.final, "--node", NODE, *nodes)

    def test_a_proof_that_the_first_does_not_have(self) -> None:
        """Whether it knows nothing, or shows what proves nothing, or is not there."""
        self.world.bend = self.says_not_found
        self.assertEqual(self.proof(*self.nodes)[0], 0)
        self.world.bend = lambda message: message | {"proof": None} if "proof" in message else message
        self.assertEqual(self.proof(*self.nodes)[0], 0)
        self.assertEqual(self.call("proof", self.final, "--node", DEAD, *self.nodes)[0], 0)

    def test_nobody_has_it(self) -> None:
        """The first reason is told, but none of a node that could not be asked if there is another."""
        for each in self.places.values():
            each.bend = self.says_not_found
        self.refused(1, "proof", self.final, "--node", DEAD, "--node", NODE, *self.nodes, words="not_found")
        self.refused(1, "proof", self.final, node=DEAD, words="cannot be reached")

    def test_a_payment_that_is_to_be_cancelled(self) -> None:
        """The first does not know it: it is taken from another, and the wish is sent."""
        wishes: list[str] = []
        view = self.world.node.view
        accepted, wished = messages.TransactionAccepted, messages.CancelAccepted
        told = json.loads(codec.encode(messages.TransactionInfo(tx=self.tx, status="pending")))
        for each in list(self.places.values())[1:]:
            each.bend = lambda message: told | {"id": message["id"]} if message["type"] == "Error" else message
        self.patch(view, "submit", lambda tx: succeed(accepted(txid=tx.txid)))
        self.patch(view, "cancel", lambda each: (wishes.append(each.txid), succeed(wished(txid=each.txid)))[1])
        self.patch(command, "LONGEST", 5)  # before it is handed on
        status, _, err = self.call("cancel", self.tx.txid, "--node", NODE, *self.nodes)
        self.assertEqual(status, 130, err)
        self.assertEqual(set(wishes), {self.tx.txid})

    def test_one_that_is_final_and_its_block_is_not_proven(self) -> None:
        """It cannot be cancelled, which is proven; of the block nothing is said."""
        self.world.node.integration.process_transaction(self.tx)
        self.world.node.make_block()

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message.get("inclusion"):
                message["inclusion"]["header"]["timestamp"] += 1
            return message

        self.world.bend = bend
        status, out, err = self.call("cancel", self.tx.txid)
        self.assertEqual((status, err), (1, ""))
        self.assertIn("no block contains it yet", out)


class Reached(Several):
    def test_called_off_before_a_node_is_there(self) -> None:
        """Whoever waits hears that, and not that no node could be reached."""
        client = WalletClient(self.world.clock, self.world.node.genesis, [Node(DEAD)])
        client.startService()
        waiting = ensureDeferred(connected(self.world.clock, client))
        self.world.run(1)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.successResultOf(ensureDeferred(client.stopService()))
