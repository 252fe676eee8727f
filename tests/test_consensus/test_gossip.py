"""What a replica asks for and answers: catching up, late payments, hints, pages that fit a frame (protocol §4, §9)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import Cluster
from tests.test_consensus.alone import Alone
from timeproto import limits
from timeproto.consensus import answers
from timeproto.consensus.catch_up import CatchUp
from timeproto.consensus.effects import Heard, LinkDown, LinkUp
from timeproto.model.utxo_state import UNSPENT, SpentFinalized, to_wire
from timeproto.model.vote import VoteBatch, sign_batch
from timeproto.wire import codec, messages

A, B = "aa" * 32, "bb" * 32
TXIDS = tuple(f"{number:064x}" for number in range(10))


def page(start: int, end: int, head: int = 10) -> messages.Finalized:
    return messages.Finalized(txids=TXIDS[start:end], next=end, head=head)


def asked_for(sent: list[tuple[str | None, messages.AnyMessage]]) -> list[messages.GetTransactions]:
    return [message for _, message in sent if isinstance(message, messages.GetTransactions)]


class Positions(SynchronousTestCase):
    def test_moves_past_what_is_final_here_and_no_further(self) -> None:
        """The known beginning of a page is behind us even if its end has still to be fetched."""
        following = CatchUp({})
        self.assertTrue(following.fits(A, page(0, 4)))
        self.assertFalse(following.advance(A, page(0, 4), 3))
        self.assertEqual((following.position(A), following.take_changes()), (3, {A: 3}))
        self.assertEqual((following.awaited(A), following.awaited(B)), (TXIDS[3], None))
        following.forget(A)
        self.assertIsNone(following.awaited(A))
        self.assertFalse(following.fits(A, page(0, 4)))
        self.assertTrue(following.fits(A, page(3, 10)))
        self.assertTrue(following.advance(A, page(3, 10), 7))
        self.assertEqual((following.position(A), following.position(B)), (10, 0))

    def test_level_is_what_was_final_when_first_asked(self) -> None:
        """Under load a peer's list grows for ever; it is enough to hold what it held at the start."""
        following = CatchUp({})
        self.assertFalse(following.advance(A, page(0, 2, head=5), 2))
        self.assertTrue(following.advance(A, page(2, 6, head=9), 3))

    def test_a_peer_that_lost_its_list_is_read_from_the_start(self) -> None:
        """A head behind our position: position and goal are given up."""
        following = CatchUp({A: 8})
        self.assertFalse(following.fits(A, page(0, 3, head=3)))
        self.assertEqual((following.position(A), following.take_changes()), (0, {A: 0}))
        self.assertTrue(following.fits(A, page(0, 3, head=3)))
        self.assertTrue(following.advance(A, page(0, 3, head=3), 3))

    def test_a_page_beyond_its_own_head_does_not_fit(self) -> None:
        """Nonsense is not followed."""
        self.assertFalse(CatchUp({}).fits(A, page(0, 5, head=4)))


class Asking(SynchronousTestCase):
    def test_whoever_was_away_gets_everything(self) -> None:
        """Sixty finals while one node was gone: it fetches them by its own position, in order, once."""
        cluster = Cluster(4, 5, coins=20)
        cluster.settle(2)
        cluster.kill(3)
        payments = [cluster.payment(wallet, coin, (wallet + 1) % 3) for wallet in range(3) for coin in range(20)]
        for tx in payments:
            cluster.submit(tx, cluster.random.randrange(3))
        cluster.settle(4)
        node = cluster.restart(3)
        since = len(cluster.sent)
        cluster.settle(4)
        self.assertEqual(node.replica.final_count, 60)
        fetched = [message for sender, to, message in cluster.sent[since:]
                   if to == node.key and isinstance(message, messages.Transactions) and message.transactions]
        self.assertLessEqual(sum(len(message.transactions) for message in fetched), 3 * 60)
        self.assertEqual(len(cluster.digests()), 1)

    def test_a_transaction_that_votes_overtook_is_fetched_when_somebody_honest_has_it(self) -> None:
        """f voters may lie, and most often it is on its way: the first of them asks for nothing, f + 1 do, once."""
        alone = Alone(4)
        tx, on_its_way = alone.pay(alone.coins()[:1]), alone.pay(alone.coins()[1:2])
        self.assertEqual(alone.vote(1, lock=[tx, on_its_way]).send, [])
        batch = Heard(alone.batch(2, lock=[tx, on_its_way]), alone.keys[2].public_hex)
        body = Heard(messages.Transactions(transactions=(on_its_way,)), alone.keys[1].public_hex)
        sent = alone.act(batch, body).send
        self.assertEqual(asked_for(sent), [messages.GetTransactions(txids=(tx.txid,))])
        self.assertEqual(alone.vote(3, lock=[tx]).send, [])

    def test_one_voter_is_asked_in_time(self) -> None:
        """Whoever alone speaks of a transaction is asked for it, or another is, once it is late."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:1])
        alone.vote(1, lock=[tx])
        before = len(alone.node.effects)
        alone.tick(3)
        later = [each for effects in alone.node.effects[before:] for each in effects.send]
        self.assertIn(messages.GetTransactions(txids=(tx.txid,)), asked_for(later))

    def test_a_page_with_one_unknown_is_remembered_up_to_there(self) -> None:
        """The next request begins at the first final that is missing here."""
        alone = Alone(4)
        one, two = alone.pay(alone.coins()[:1]), alone.pay(alone.coins()[1:2])
        alone.show(one)
        alone.finish(one)
        effects = alone.hear(messages.Finalized(txids=(one.txid, two.txid), next=2, head=2), 1)
        self.assertEqual(effects.send, [(alone.keys[1].public_hex, messages.GetTransactions(txids=(two.txid,)))])
        effects = alone.hear(messages.Transactions(transactions=(two,), proofs=(alone.proof(two),)), 1)
        self.assertTrue(alone.is_final(two))
        self.assertIn((alone.keys[1].public_hex, messages.GetFinalized(since=1)), effects.send)

    def test_what_is_on_its_way_is_not_fetched(self) -> None:
        """A peer is a moment ahead; what is late, or not here at all, is fetched, and anything by who catches up."""
        alone = Alone(4)
        tx, other = alone.pay(alone.coins()[:1]), alone.pay(alone.coins()[1:2])
        alone.show(tx)

        def fetched() -> list[str]:
            effects = alone.hear(messages.Finalized(txids=(tx.txid, other.txid), next=2, head=2), 1)
            return [txid for message in asked_for(effects.send) for txid in message.txids]

        self.assertEqual(fetched(), [other.txid])
        alone.tick(int(limits.LATE / limits.TICK) + 1)
        self.assertEqual(fetched(), [tx.txid, other.txid])
        alone.start(voting=False)
        self.assertEqual(fetched(), [tx.txid, other.txid])

    def test_after_a_break_nothing_is_on_its_way(self) -> None:
        """What became final while a link was down is not voted for again: with the new link it is fetched, once."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:1])
        alone.submit(tx)
        peer = alone.keys[1].public_hex
        listed = messages.Finalized(txids=(tx.txid,), next=1, head=1)
        self.assertEqual(asked_for(alone.hear(listed, 1).send), [])
        alone.act(LinkDown(peer))
        alone.act(LinkUp(peer))
        self.assertEqual(asked_for(alone.hear(listed, 1).send), [messages.GetTransactions(txids=(tx.txid,))])
        self.assertEqual(asked_for(alone.hear(listed, 1).send), [])
        alone.hear(messages.Transactions(transactions=(tx,), proofs=(alone.proof(tx),)), 1)
        self.assertTrue(alone.is_final(tx))

    def test_a_list_that_never_comes_true_keeps_nobody_else_waiting(self) -> None:
        """A peer lists finals that do not exist: its list stands still, others' go on (B-20)."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:1])
        alone.hear(messages.Finalized(txids=TXIDS, next=10, head=10), 3)
        alone.tick(5)
        alone.hear(messages.Finalized(txids=(tx.txid,), next=1, head=1), 1)
        alone.hear(messages.Transactions(transactions=(tx,), proofs=(alone.proof(tx),)), 1)
        self.assertTrue(alone.is_final(tx))
        self.assertEqual(alone.store.caught_up(), {})
        alone.hear(messages.Finalized(txids=(tx.txid,), next=1, head=1), 1)
        self.assertEqual(alone.store.caught_up(), {alone.keys[1].public_hex: 1})

    def test_a_liar_cannot_make_a_request_out_of_every_reply(self) -> None:
        """Listing what it never shows, a peer gets one request a tick, not an endless conversation (B-20, B-31)."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:1])
        alone.hear(messages.Finalized(txids=TXIDS, next=10, head=10), 3)
        for reply in (messages.Transactions(), messages.Transactions(transactions=(tx,))):
            asked = [message for _, message in alone.hear(reply, 3).send if not isinstance(message, VoteBatch)]
            self.assertEqual(asked, [])

    def test_a_new_link_is_handed_the_very_batches(self) -> None:
        """What was signed before is served again byte for byte, in this life and the next (P-01)."""
        alone = Alone(4)
        payments = [alone.pay([coin]) for coin in alone.coins()[:3]]
        for tx in payments:
            alone.submit(tx)
        for voter in (1, 2):
            alone.vote(voter, lock=payments[:1])
        signed = [codec.encode(batch) for batch in alone.cast()]
        self.assertEqual(len(signed), 4)
        for _ in range(2):
            effects = alone.act(LinkUp(alone.keys[2].public_hex))
            handed = [codec.encode(batch) for _, message in effects.send
                      if isinstance(message, messages.Votes) for batch in message.batches]
            self.assertEqual(handed, signed)
            alone.act(LinkDown(alone.keys[2].public_hex))
            alone.start()

    def test_only_linked_peers_are_asked_by_time(self) -> None:
        """A tick speaks to who can be reached, each in turn, and to nobody when there is nobody."""
        alone = Alone(4)
        alone.submit(alone.pay(alone.coins()[:1]))
        for peer in (1, 2):
            alone.act(LinkDown(alone.keys[peer].public_hex))
        alone.tick(5)
        asked = {to for effects in alone.node.effects[-5:] for to, _ in effects.send}
        self.assertEqual(asked, {alone.keys[3].public_hex})
        alone.act(LinkDown(alone.keys[3].public_hex))
        alone.tick()
        self.assertEqual(alone.node.effects[-1].send, [])

    def test_who_spoke_of_it_is_asked_for_it(self) -> None:
        """One masternode alone may have it, and nobody is asked for what a liar made up but the liar."""
        alone = Alone(7)
        txids = [f"{number:064x}" for number in range(3)]
        for txid, voters in zip(txids, ((5,), (2, 6), (3,)), strict=True):
            for voter in voters:
                set_hash = alone.genesis.masternode_set.hash
                alone.hear(sign_batch(alone.keys[voter], alone.genesis.hash, set_hash, 0, lock=[txid]), voter)
        alone.act(LinkDown(alone.keys[3].public_hex))
        alone.tick(8)
        asked: dict[str, set[str | None]] = {txid: set() for txid in txids}
        for effects in alone.node.effects:
            for to, message in effects.send:
                for txid in message.txids if isinstance(message, messages.GetTransactions) else ():
                    asked[txid].add(to)
        keys = [key.public_hex for key in alone.keys]
        self.assertEqual(asked[txids[0]], {keys[5]})
        self.assertEqual(asked[txids[1]], {keys[2], keys[6]})
        self.assertEqual(asked[txids[2]], {keys[each] for each in (1, 2, 4, 5, 6)})


class Hints(SynchronousTestCase):
    def test_a_peers_word_about_a_coin_changes_nothing(self) -> None:
        """SpentFinalized without a proof is a reason to ask, and no more (B-19, A-9)."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:1])
        outpoint, output = alone.genesis.coins()[0]
        before = alone.replica.state_digest()
        for state in (SpentFinalized(tx.txid, 1, 3), UNSPENT):
            told = messages.UTXOStateNotification(
                notification=messages.StateChange(outpoint, None, to_wire(state), 1, alone.keys[1].public_hex),
                cursor=messages.Cursor(alone.keys[1].public_hex, 1),
                output=output,
            )
            alone.hear(told, 1)
            self.assertEqual((alone.state(outpoint), alone.replica.state_digest()), (UNSPENT, before))

    def test_a_peers_proof_is_as_good_as_votes(self) -> None:
        """A hint with a proof that holds makes final whatever it proves, as soon as the transaction is here."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:1])
        outpoint, output = alone.genesis.coins()[0]
        sender = alone.keys[1].public_hex
        change = messages.StateChange(outpoint, None, to_wire(SpentFinalized(tx.txid, 1, 3)), 1, sender)
        cursor = messages.Cursor(sender, 1)
        alone.hear(messages.UTXOStateNotification(
            notification=change, cursor=cursor, output=output, proof=alone.proof(tx)
        ), 1)
        self.assertFalse(alone.is_final(tx))
        alone.show(tx)
        self.assertTrue(alone.is_final(tx))


class Answers(SynchronousTestCase):
    def test_every_answer_fits_a_frame(self) -> None:
        """The largest transactions, full batches, proofs: the sizes reckoned are never below the real ones."""
        alone = Alone(7, coins=200)
        big = alone.pay(alone.coins(), amount=1_000_000, fee=100_000)
        most = tuple(f"{number:064x}" for number in range(limits.BATCH_VOTES))
        batch = VoteBatch(A, A, 2**64 - 1, most, most, most, "f" * 128)
        proof = alone.proof(big)
        for item, reckoned in (
            (messages.Transactions(transactions=(big,)), answers.transaction_size(big)),
            (messages.Votes(batches=(batch,)), answers.batch_size(batch)),
            (messages.FinalityProofs(proofs=(proof,)), answers.proof_size(proof)),
        ):
            self.assertLessEqual(len(codec.encode(item)), reckoned + 200, type(item).__name__)
        cut = [messages.Votes(batches=tuple(each)) for each in answers.pages([batch] * 9, answers.batch_size)]
        self.assertEqual(sum(len(each.batches) for each in cut), 9)
        self.assertTrue(all(len(codec.encode(each)) < limits.FRAME_PEER for each in cut))

    def test_what_is_asked_for_comes_with_its_proof_or_not_at_all(self) -> None:
        """Undecided: the transaction. Final: with its proof. Unknown: silence, not a guess."""
        alone = Alone(4)
        final, open_ = alone.pay(alone.coins()[:1]), alone.pay(alone.coins()[1:2])
        alone.submit(final)
        alone.finish(final)
        alone.submit(open_)
        (to, reply), = alone.hear(messages.GetTransactions(id=7, txids=(final.txid, open_.txid, A, final.txid)), 2).send
        assert isinstance(reply, messages.Transactions)
        self.assertEqual((to, reply.id), (alone.keys[2].public_hex, 7))
        self.assertEqual(sorted(tx.txid for tx in reply.transactions), sorted([final.txid, open_.txid]))
        self.assertEqual([proof.txid for proof in reply.proofs], [final.txid])
        (_, empty), = alone.hear(messages.GetTransactions(txids=(A,)), 2).send
        self.assertEqual(empty, messages.Transactions())

    def test_all_votes_of_a_voter_in_pages_of_which_the_last_says_so(self) -> None:
        """Who asks about itself learns every undecided vote of its own, and when it has heard all."""
        alone = Alone(4, coins=5)
        payments = [alone.pay([coin]) for coin in alone.coins()]
        self.patch(answers, "_PAGE_BYTES", 2 * answers.batch_size(alone.batch(2, lock=payments[:1])))
        for tx in payments:
            alone.vote(2, lock=[tx])
        pages = [message for _, message in alone.hear(messages.GetVotes(voter=alone.keys[2].public_hex), 2).send]
        self.assertEqual([message.more for message in pages], [True, True, False])  # type: ignore[union-attr]
        self.assertEqual(sum(len(message.batches) for message in pages), 5)  # type: ignore[union-attr]
        again = messages.GetVotes(voter=alone.keys[2].public_hex)
        self.assertEqual(alone.hear(again, 2).send, [])  # the answer is costly, so it is given once in a tick
        alone.tick()
        self.assertEqual(len(alone.hear(again, 2).send), 3)
        alone.act(LinkUp(alone.keys[2].public_hex))  # or on a new link: the asker may have started anew
        self.assertEqual(len(alone.hear(again, 2).send), 3)
        (_, none), = alone.hear(messages.GetVotes(voter=alone.keys[3].public_hex), 3).send
        self.assertEqual(none, messages.Votes(voter=alone.keys[3].public_hex))

    def test_a_position_past_the_end_is_answered_with_the_end(self) -> None:
        """No error and no surprise for a peer that remembers more than there is."""
        alone = Alone(4)
        (_, reply), = alone.hear(messages.GetFinalized(since=2**64 - 1), 2).send
        self.assertEqual(reply, messages.Finalized(txids=(), next=0, head=0))

    def test_the_list_of_finals_is_one_whether_at_hand_or_read(self) -> None:
        """Wherever a page begins it is what the store holds: of this life's newest, of older ones, after a restart."""
        self.patch(limits, "RECENTLY_FINAL", 4)
        self.patch(limits, "CATCH_UP_PAGE", 3)
        alone = Alone(4, coins=9)
        payments = [alone.pay([coin]) for coin in alone.coins()]
        for tx in payments:
            alone.show(tx)
            alone.finish(tx)
        listed = tuple(tx.txid for tx in payments)
        for _ in ("this life", "the next"):
            for since in range(len(listed) + 1):
                (_, reply), = alone.hear(messages.GetFinalized(since=since), 2).send
                page = listed[since : since + 3]
                self.assertEqual(reply, messages.Finalized(txids=page, next=since + len(page), head=len(listed)))
            alone.start()

    def test_a_final_is_listed_when_it_is_committed_and_not_before(self) -> None:
        """Asked in the very step that makes it final, a replica does not tell what a power cut could take back."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:1])
        alone.show(tx)
        asked = Heard(messages.GetFinalized(since=0), alone.keys[2].public_hex)
        proven = Heard(messages.FinalityProofs(proofs=(alone.proof(tx),)), alone.keys[1].public_hex)
        effects = alone.act(asked, proven, asked)
        self.assertTrue(alone.is_final(tx))
        answers_to = [message for _, message in effects.send if isinstance(message, messages.Finalized)]
        self.assertEqual(answers_to, [messages.Finalized(txids=(), next=0, head=0)] * 2)
        (_, reply), = alone.act(asked).send
        self.assertEqual(reply, messages.Finalized(txids=(tx.txid,), next=1, head=1))
