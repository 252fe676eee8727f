"""``timeproto wallet``: a payment's block, its proof, and a payment that is cancelled."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from twisted.internet.defer import succeed

from tests.cluster import COIN, address, key, pay
from tests.test_cli.command import PASSWORD, PHRASE, CommandCase
from tests.test_wallet import verdicts
from timeproto.model.block import InclusionProof, check_inclusion, transaction_leaf
from timeproto.model.transaction import Transaction
from timeproto.wallet import hd, keystore
from timeproto.wire import messages


class Blocks(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.restored()
        self.node = self.world.node

    def undecided(self) -> None:
        """From now on the node accepts payments and wishes, and nothing becomes of them."""
        self.patch(self.node.view, "submit", lambda tx: succeed(messages.TransactionAccepted(txid=tx.txid)))
        self.patch(self.node.view, "cancel", lambda each: succeed(messages.CancelAccepted(txid=each.txid)))

    def shows(self, *infos: messages.TransactionInfo) -> None:
        table, real = {info.tx.txid: info for info in infos}, self.node.view.transaction
        self.patch(self.node.view, "transaction", lambda txid: table.get(txid) or real(txid))

    def pending(self) -> Transaction:
        """A payment in the wallet file of which nothing is decided."""
        self.undecided()
        self.assertEqual(self.call("send", address(key(5)), "1")[0], 130)  # its user loses patience
        (tx,) = keystore.WalletFile.open(self.file, PASSWORD).pending
        return tx

    def rival(self, tx: Transaction) -> Transaction:
        coin = self.node.view.coin(tx.outpoints[0])
        assert coin is not None
        owner = hd.derive(PHRASE)
        return pay(
            self.node.genesis, [(tx.outpoints[0], coin.output.amount, owner)], [(address(owner), COIN)]
        )


class Confirmed(Blocks):
    """``send --confirmed`` and ``proof`` with its block."""

    def test_send_waits_for_the_block(self) -> None:
        """The step and the height; as JSON the height beside the votes."""
        self.meanwhile = [lambda: None, lambda: self.node.make_block() and None]
        status, out, err = self.call("send", address(key(5)), "1", "--confirmed")
        self.assertEqual((status, err), (0, ""))
        self.assertIn("Confirmed in block 1\n", out)
        self.assertIn("confirmed: block 1 contains it", out)
        self.meanwhile = [lambda: None, lambda: self.node.make_block() and None]
        told = self.json("send", address(key(5)), "1", "--confirmed")
        self.assertEqual((told["final"], told["height"], told["steps"][-1]["state"]), (True, 2, "Confirmed"))

    def test_send_does_not_wait_unasked(self) -> None:
        """Final is final."""
        self.assertNotIn("height", self.json("send", address(key(5)), "1"))

    def test_a_proof_names_its_block(self) -> None:
        """As soon as there is one, beside the votes."""
        txid = self.fund(hd.derive(PHRASE), COIN, coin=1)
        self.assertNotIn("block", self.call("proof", txid)[1])
        self.node.make_block()
        status, out, _ = self.call("proof", txid)
        self.assertEqual(status, 0)
        self.assertIn("is final: the proof holds", out)
        self.assertIn("block 1 of ", out)

    def test_a_place_in_a_block_is_kept(self) -> None:
        """As JSON and in a file: anybody can check it with the genesis alone."""
        txid = self.fund(hd.derive(PHRASE), COIN, coin=1)
        self.refused(1, "proof", "--block", txid, words="no block contains")
        self.node.make_block()
        kept = self.folder / "place.json"
        told = self.json("proof", "--block", txid, "--out", str(kept))
        self.assertEqual(json.loads(kept.read_text()), told)
        place = msgspec.json.decode(kept.read_bytes(), type=InclusionProof)
        genesis = self.node.genesis
        check_inclusion(place, transaction_leaf(txid), genesis.masternode_set, genesis.hash)

    def test_a_false_place_is_not_shown(self) -> None:
        """Nor kept, though the votes are good."""
        txid = self.fund(hd.derive(PHRASE), COIN, coin=1)
        self.node.make_block()

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message.get("inclusion"):
                message["inclusion"]["header"]["timestamp"] += 1
            return message

        self.world.bend = bend
        kept = self.folder / "false.json"
        self.refused(1, "proof", txid, "--out", str(kept), words="cannot prove")
        self.assertFalse(kept.exists())

    def test_the_end_of_another_whose_name_it_is_given(self) -> None:
        """That is no end of this one, and the next node is asked."""
        txid = self.fund(hd.derive(PHRASE), COIN, coin=1)
        tx = self.node.view.transaction(txid).tx
        ended = verdicts.aborted(self.node.genesis, self.pending())
        forged = msgspec.structs.replace(ended, tx=msgspec.structs.replace(tx, txid=ended.tx.txid))
        self.patch(self.node.view, "transaction", {txid: forged, ended.tx.txid: ended}.get)
        self.refused(1, "proof", txid, words="another transaction was given")

    def test_what_was_aborted_has_no_proof_of_finality(self) -> None:
        """It says which block ended it, by a verdict or for a rival, once that is proven."""
        tx = self.pending()
        self.shows(verdicts.aborted(self.node.genesis, tx))
        self.refused(1, "proof", tx.txid, words=f"block 1 aborted the transaction {tx.txid} (aborted)")
        rival = self.rival(tx)
        self.shows(*verdicts.beaten(self.node.genesis, tx, rival).values())
        self.refused(1, "proof", tx.txid, words=f"block 1 contains {rival.txid}")


class Cancelling(Blocks):
    """``cancel``."""

    def test_until_the_verdict(self) -> None:
        """Says so, waits, tells the block; the coins are free, and the wallet file has forgotten the payment."""
        tx = self.pending()
        self.meanwhile = [lambda: None, lambda: self.shows(verdicts.aborted(self.node.genesis, tx))]
        status, out, err = self.call("cancel", tx.txid)
        self.assertEqual((status, err), (0, ""))
        self.assertIn(f"Asking the masternodes to end {tx.txid}", out)
        self.assertIn("block 1 aborted the transaction", out)
        self.assertEqual(keystore.WalletFile.open(self.file, PASSWORD).pending, ())
        self.assertEqual(self.json("balance")["available"], 9 * COIN)

    def test_as_json_and_what_was_aborted_already(self) -> None:
        """The wish has come true before it was said: status 0 too."""
        tx = self.pending()
        self.shows(verdicts.aborted(self.node.genesis, tx))
        expected = {"txid": tx.txid, "aborted": True, "height": 1, "rival": None}
        self.assertEqual(self.json("cancel", tx.txid), expected)
        self.assertEqual(self.json("cancel", tx.txid), expected)

    def test_a_rival_in_the_block(self) -> None:
        """What is left of its coins is not said: other rivals may have spent the others."""
        tx = self.pending()
        rival = self.rival(tx)
        self.shows(*verdicts.beaten(self.node.genesis, tx, rival).values())
        status, out, err = self.call("cancel", tx.txid)
        self.assertEqual((status, err), (0, ""))
        self.assertIn(f"block 1 contains {rival.txid}, which spends a coin of {tx.txid}: it holds no coins", out)
        self.assertNotIn("free", out)

    def test_too_late(self) -> None:
        """It is final: status 1, said as an answer, with the block as soon as there is one."""
        txid = self.json("send", address(key(5)), "1")["txid"]
        status, out, err = self.call("cancel", txid)
        self.assertEqual((status, err), (1, ""))
        self.assertIn("it is final, and cannot be cancelled any more: the proof holds, and no block contains it", out)
        self.node.make_block()
        status, out, err = self.call("cancel", txid, "--json")
        self.assertEqual((status, err), (1, ""))
        self.assertEqual(json.loads(out), {"txid": txid, "aborted": False, "final": True, "height": 1})

    def test_what_cannot_be_asked(self) -> None:
        """Not a txid, nobody's, somebody else's: a sentence each, and nothing is sent."""
        self.patch(self.node.view, "cancel", lambda each: self.fail("a wish was sent"))
        self.refused(2, "cancel", "xyz", words="is not a txid")
        self.refused(1, "cancel", "ab" * 32, words="not_found")
        giver = self.node.wallets[1]
        coin = next(at for at, out in self.node.genesis.coins() if out.address == address(giver))
        txid = pay(self.node.genesis, [(coin, 10 * COIN, giver)], [(address(hd.derive(PHRASE)), 9 * COIN)]).txid
        self.refused(1, "cancel", txid, words="no coin in")

    def test_given_up(self) -> None:
        """Interrupted before a verdict: the payment is kept in the file, and it says so."""
        tx = self.pending()
        status, _, err = self.call("cancel", tx.txid)
        self.assertEqual(status, 130)
        self.assertIn("are not decided yet", err)
        self.assertEqual([each.txid for each in keystore.WalletFile.open(self.file, PASSWORD).pending], [tx.txid])
