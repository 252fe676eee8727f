"""What wallets are told of blocks: each place in one with its proof, and what there is to ask."""

from __future__ import annotations

from tests.alone_node import Client, state_name
from tests.cluster import address, key
from tests.test_network.test_utxo_handler import HandlerCase
from timeproto import limits
from timeproto.model.block import check_inclusion, transaction_leaf
from timeproto.model.transaction import txid_of
from timeproto.wire import messages
from timeproto.wire.messages import TransactionCancel, UTXOStateNotification


class Blocks(HandlerCase):
    def check(self, told: UTXOStateNotification | messages.TransactionInfo, txid: str) -> int:
        """The height of the decided block in which ``told`` proves ``txid`` to stand."""
        assert told.inclusion is not None
        genesis = self.node.genesis
        check_inclusion(told.inclusion, transaction_leaf(txid), genesis.masternode_set, genesis.hash)
        return told.inclusion.header.height

    def test_confirmed_comes_with_its_place_in_the_block(self) -> None:
        """A watcher of the spent coin is told Confirmed, and can check it against the masternodes alone."""
        tx = self.payment()
        self.subscribe(self.client, outpoints=(str(tx.outpoints[0]),))
        self.send(tx)
        before = [each for each in self.client.take() if isinstance(each, UTXOStateNotification)]
        self.assertTrue(all(each.inclusion is None for each in before))
        height = self.node.make_block()
        (told,) = (each for each in self.client.take() if isinstance(each, UTXOStateNotification))
        self.assertEqual(state_name(told.notification.new_state), "Confirmed")
        self.assertEqual((self.check(told, tx.txid), told.proof), (height, None))

    def test_what_is_marked_later_comes_with_its_place_too(self) -> None:
        """One with the block, one by a timer, one after a restart, one with the next block: each with its own place."""
        self.patch(limits, "CONFIRMED_AT_ONCE", 1)
        self.patch(limits, "CONFIRM_BLOCKS", 1)
        spent = {tx.outpoints[0]: tx for tx in (self.payment(0, number) for number in range(4))}
        watched = tuple(map(str, spent))
        self.subscribe(self.client, outpoints=watched)
        for tx in spent.values():
            self.send(tx)
        self.client.take()
        height, told = self.node.make_block(), self.client.take()
        self.node.clock.advance(limits.CONFIRM_PAUSE)
        told += self.client.take()
        self.assertEqual((len(told), self.node.replica.confirmed_height), (2, height - 1))
        self.node.start()
        self.subscribe(self.client, outpoints=watched)
        self.node.make_block()
        told += self.client.take()
        self.assertEqual([state_name(each.notification.new_state) for each in told], ["Confirmed"] * 4)
        for each in told:
            self.assertEqual(self.check(each, spent.pop(each.notification.outpoint).txid), height)

    def test_a_minted_coin_comes_with_the_coinbase_place(self) -> None:
        """The proposer hears of its reward, and that the coinbase stands in a decided block."""
        self.subscribe(self.client, addresses=(address(key(1)),))
        height = self.node.make_block()
        (told,) = (each for each in self.client.take() if isinstance(each, UTXOStateNotification))
        self.assertIsNone(told.notification.old_state)
        txid = told.notification.outpoint.txid
        self.assertEqual(self.check(told, txid), height)
        info = self.ask(messages.GetTransaction(id=1, txid=txid))
        self.assertEqual((info.status, info.height, txid_of(info.tx.canonical)), ("final", height, txid))
        self.assertEqual(info.tx.outputs[0].amount, told.output.amount)

    def test_a_transaction_is_shown_with_all_that_proves_it(self) -> None:
        """First the votes alone, then the block too."""
        tx = self.payment()
        self.send(tx)
        info = self.ask(messages.GetTransaction(id=1, txid=tx.txid))
        self.assertEqual((info.status, info.height, info.inclusion), ("final", None, None))
        height = self.node.make_block()
        info = self.ask(messages.GetTransaction(id=2, txid=tx.txid))
        self.assertEqual((info.status, info.height, self.check(info, tx.txid)), ("final", height, height))
        self.assertIsNotNone(info.proof)

    def test_info_tells_of_the_chain(self) -> None:
        """Height, tip, commitment, and what waits for a block."""
        self.send(self.payment())
        before = self.ask(messages.GetInfo(id=1))
        self.assertEqual((before.height, before.unconfirmed, before.tip), (0, 1, self.node.genesis.hash))
        height = self.node.make_block()
        after = self.ask(messages.GetInfo(id=2))
        self.assertEqual((after.height, after.unconfirmed, after.synced), (height, 0, True))
        self.assertNotEqual((before.tip, before.commitment), (after.tip, after.commitment))

    def test_a_cancel_is_answered_with_its_code(self) -> None:
        """Unknown, final, or not signed by the key it names."""
        tx = self.payment()
        owner = self.node.wallets[0]
        genesis_hash = self.node.genesis.hash

        def cancel(txid: str) -> TransactionCancel:
            unsigned = TransactionCancel(id=1, txid=txid, key=owner.public_hex, signature="0" * 128)
            signature = owner.sign(unsigned.message(genesis_hash)).hex()
            return TransactionCancel(id=1, txid=txid, key=owner.public_hex, signature=signature)

        self.assert_refused("not_found", cancel(tx.txid))
        self.send(tx)
        self.assert_refused("already_final", cancel(tx.txid))
        forged = TransactionCancel(id=1, txid=tx.txid, key=owner.public_hex, signature="0" * 128)
        self.assert_refused("bad_signature", forged)

    def test_evidence_can_be_asked_for(self) -> None:
        """Nobody is accused here: an empty page, and no more."""
        found = self.ask(messages.GetEvidence(id=1))
        self.assertEqual((found.evidence, found.next, found.more), ((), 0, False))

    def test_one_encoding_and_one_proof_for_many_watchers(self) -> None:
        """A block proves a transaction once, however many coins and wallets hear of it."""
        tx = self.payment()
        clients = [Client() for _ in range(5)]
        for client in clients:
            self.subscribe(client, outpoints=(str(tx.outpoints[0]),))
        self.send(tx)
        for client in clients:
            client.take()
        self.node.make_block()
        told = [client.take() for client in clients]
        self.assertEqual(told, [told[0]] * 5)
