"""What blocks make of payments, and what a wallet believes of it: confirmed or ended, each on proof alone."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import COIN, address, key, pay
from tests.examples import replace
from tests.test_wallet import verdicts
from tests.test_wallet.world import World
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import inclusion_proof
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import Confirmed, kind
from timeproto.wallet.belief import Aborted, Lie
from timeproto.wallet.client import WalletClient
from timeproto.wallet.purse import MemoryPurse
from timeproto.wallet.watch import Change
from timeproto.wire import messages


class Ends(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World()
        self.node = self.world.node
        self.genesis = self.node.genesis

    def payment(self, number: int = 0, to: int = 1) -> Transaction:
        owner = self.node.wallets[0]
        owned = [at for at, output in self.genesis.coins() if output.address == address(owner)]
        return pay(self.genesis, [(owned[number], 10 * COIN, owner)], [(address(self.node.wallets[to]), COIN)])

    def undecided(self) -> None:
        """From now on the node accepts payments and nothing becomes of them."""
        self.patch(self.node.view, "submit", lambda tx: succeed(messages.TransactionAccepted(txid=tx.txid)))
        self.patch(self.node.view, "cancel", lambda each: succeed(messages.CancelAccepted(txid=each.txid)))

    def shows(self, info: messages.TransactionInfo) -> None:
        """What the node says of this transaction from now on."""
        real = self.node.view.transaction
        self.patch(self.node.view, "transaction", lambda txid: info if txid == info.tx.txid else real(txid))

    def aborted(self, tx: Transaction) -> messages.TransactionInfo:
        return verdicts.aborted(self.genesis, tx)


class Blocks(Ends):
    def test_confirmed_is_told_with_proof(self) -> None:
        """A watcher hears SpentFinalized, then Confirmed, both proven; whoever waits for the block gets its height."""
        client = self.world.client()
        told: list[Change] = []
        tx = self.payment()
        client.watch(told.append, outpoints=tx.outpoints)
        payment = client.submit(tx)
        confirmed = client.wait_confirmed(tx.txid)
        self.world.run(1)
        self.successResultOf(payment.when_final())
        self.assertNoResult(confirmed)
        height = self.node.make_block()
        self.world.run(3)
        self.assertEqual(self.successResultOf(confirmed), height)
        last = told[-1]
        self.assertEqual((kind(last.new_state), last.proven), ("Confirmed", True))
        assert isinstance(last.new_state, Confirmed)
        self.assertEqual(last.new_state.block_height, height)

    def test_a_false_place_is_a_lie(self) -> None:
        """Another time in the header, and its hash is not what the masternodes signed: nobody is told Confirmed."""

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message.get("inclusion"):
                message["inclusion"]["header"]["timestamp"] += 1
            return message

        self.world.bend = bend
        client = self.world.client()
        told: list[Change] = []
        tx = self.payment()
        client.watch(told.append, outpoints=tx.outpoints)
        client.submit(tx)
        confirmed = client.wait_confirmed(tx.txid)
        self.world.run(1)
        self.node.make_block()
        self.world.run(3)
        self.assertNoResult(confirmed)
        self.assertNotIn("Confirmed", [kind(change.new_state) for change in told])
        self.assertGreater(client.belief.lies, 0)
        confirmed.addErrback(lambda failure: None)

    def test_a_minted_coin_is_money(self) -> None:
        """The reward of a block is proven by the coinbase's place in it."""
        client = self.world.client()
        told: list[Change] = []
        client.watch(told.append, addresses=[address(key(1))])
        self.world.run(1)
        self.node.make_block()
        self.world.run(1)
        self.assertEqual([(kind(change.new_state), change.proven) for change in told], [("Unspent", True)])


class Ended(Ends):
    def test_a_verdict_ends_a_payment(self) -> None:
        """It fails with the proven verdict: which transaction, and at what height."""
        self.undecided()
        client = self.world.client()
        tx = self.payment()
        payment = client.submit(tx)
        self.world.run(1)
        self.shows(self.aborted(tx))
        final = payment.when_final()
        self.world.run(5)
        end = self.failureResultOf(final, Aborted).value
        self.assertEqual((str(end.code), end.height, end.rival, end.details["txid"]), ("aborted", 1, None, tx.txid))

    def test_a_rival_in_a_block_ends_a_payment(self) -> None:
        """The block contains a transaction that spends its coin: that one is fetched, and compared."""
        self.undecided()
        client = self.world.client()
        tx, rival = self.payment(), self.payment(to=2)
        payment = client.submit(tx)
        self.world.run(1)
        infos = verdicts.beaten(self.genesis, tx, rival)
        self.patch(self.node.view, "transaction", infos.get)
        final = payment.when_final()
        self.world.run(5)
        end = self.failureResultOf(final, Aborted).value
        self.assertEqual((end.height, end.rival), (1, rival.txid))

    def test_a_word_without_proof_ends_nothing(self) -> None:
        """Aborted, says the node: with no place, one of another verdict, or a rival that spends other coins."""
        self.undecided()
        tx, stranger = self.payment(), self.payment(1)
        decided = verdicts.decide(self.genesis, contains=(stranger.txid,))
        elsewhere = inclusion_proof(decided, 1)
        for info in (
            replace(self.aborted(tx), inclusion=None),
            replace(self.aborted(stranger), tx=tx),
            messages.TransactionInfo(
                tx=tx, status="aborted", height=1, inclusion=elsewhere, conflicting_txid=stranger.txid
            ),
        ):
            client = self.world.client()
            payment = client.submit(tx)
            self.world.run(1)
            self.shows(info)
            final = payment.when_final()
            self.world.run(5)
            self.assertNoResult(final)
            self.assertGreater(client.belief.lies, 0)
            final.addErrback(lambda failure: None)
            client.stopService()

    def test_the_verdict_of_another_whose_name_it_is_given(self) -> None:
        """Contents that hash to the one, called as the other, which a block ended: no end of either, and a lie."""
        self.undecided()
        tx, stranger = self.payment(), self.payment(1)
        rival = self.payment(1, to=2)
        beaten = verdicts.beaten(self.genesis, stranger, rival)
        for info in (self.aborted(stranger), beaten[stranger.txid]):
            client = self.world.client()
            payment = client.submit(tx)
            final = payment.when_final()
            self.world.run(1)
            table = beaten | {tx.txid: replace(info, tx=replace(tx, txid=stranger.txid))}
            self.patch(self.node.view, "transaction", table.get)
            confirmed = client.wait_confirmed(tx.txid)
            self.world.run(1)
            self.assertNoResult(confirmed)
            self.assertNoResult(final)
            self.assertGreater(client.belief.lies, 0)
            for each in (confirmed, final):
                each.addErrback(lambda failure: None)
            client.stopService()

    def test_the_coins_of_an_ended_payment_can_be_paid_again(self) -> None:
        """The purse forgets it, the balance has the coin, and a new payment with it becomes final."""
        phrase = "abandon " * 11 + "about"
        purse = MemoryPurse(phrase)
        client = WalletClient(self.world.clock, self.genesis, [], rotation=self.world, purse=purse)
        client.startService()
        self.world.run(2)
        reading = client.balance()
        self.world.run(1)
        self.successResultOf(reading)
        mine = client.account.addresses[0]
        owner = self.node.wallets[0]
        owned = [at for at, output in self.genesis.coins() if output.address == address(owner)]
        self.node.integration.process_transaction(pay(self.genesis, [(owned[0], 10 * COIN, owner)], [(mine, 9 * COIN)]))
        self.world.run(1)
        submit = self.node.view.submit
        self.undecided()
        sending = client.send(address(owner), COIN)
        self.world.run(1)
        payment = self.successResultOf(sending)
        self.shows(self.aborted(payment.tx))
        final = payment.when_final()
        self.world.run(5)
        self.failureResultOf(final, Aborted)
        self.assertEqual((list(purse.pending), client.account.balance().available), ([], 9 * COIN))
        self.patch(self.node.view, "submit", submit)
        again = client.send(address(owner), 2 * COIN)
        self.world.run(1)
        self.successResultOf(self.successResultOf(again).when_final())


class Cancelled(Ends):
    def cancel(self, client: WalletClient, tx: Transaction) -> Deferred[Aborted]:
        return client.cancel(tx, self.node.wallets[0])

    def test_a_cancel_is_said_until_the_verdict_is_proven(self) -> None:
        """Signed by an owner, repeated, and over when a block has ended the transaction."""
        heard: list[messages.TransactionCancel] = []
        self.undecided()
        accept = self.node.view.cancel
        self.patch(self.node.view, "cancel", lambda each: (heard.append(each), accept(each))[1])
        client = self.world.client()
        tx = self.payment()
        ending = self.cancel(client, tx)
        self.world.run(7)
        self.assertNoResult(ending)
        self.assertGreater(len(heard), 2)
        self.assertEqual({(each.txid, each.key) for each in heard}, {(tx.txid, self.node.wallets[0].public_hex)})
        self.shows(self.aborted(tx))
        self.world.run(5)
        self.assertEqual(self.successResultOf(ending).height, 1)
        count = len(heard)
        self.world.run(5)
        self.assertEqual(len(heard), count)

    def test_a_final_payment_cannot_be_cancelled(self) -> None:
        """The proof of finality is what ends the wish."""
        client = self.world.client()
        tx = self.payment()
        client.submit(tx)
        self.world.run(1)
        ending = self.cancel(client, tx)
        self.world.run(5)
        refusal = self.failureResultOf(ending, Refusal).value
        self.assertEqual((str(refusal.code), refusal.details["txid"]), ("already_final", tx.txid))

    def test_one_that_a_node_gives_with_false_signatures(self) -> None:
        """Its txid fits, for it says nothing of them: a lie, and nothing is sent that no node takes."""
        tx = self.payment()
        forged = replace(tx, signature=(0,) * len(tx.signature))
        self.shows(messages.TransactionInfo(tx=forged, status="pending"))
        client = self.world.client()
        ending = client.cancel(tx.txid, self.node.wallets[0])
        self.world.run(0.5)
        self.failureResultOf(ending, Lie)
        payment = client.submit(tx)
        self.world.run(0.5)
        self.assertEqual(payment.tx, tx)
        self.assertIsNotNone(payment.proof)

    def test_what_a_block_has_minted(self) -> None:
        """Nobody signs it, and nobody can end it: that is no lie of the node."""
        self.node.make_block()
        minted = self.node.view.address_coins(address(key(1)), None, 1, spent=False)[0][0][0]
        client = self.world.client()
        ending = client.cancel(minted.txid, self.node.wallets[0])
        self.world.run(0.5)
        self.assertIs(self.failureResultOf(ending, Refusal).value.code, ErrorCode.NOT_OWNER)
