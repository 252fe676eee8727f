"""errors, limits, params: the ground every room stands on."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, BOB, DEVNET, GENESIS, VOTERS, address, build, proof_of, replace
from timeproto import limits
from timeproto.errors import POLICY, ErrorCode, ExitStatus, Refusal
from timeproto.model.certificate import FinalityProof
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import SpentPending, to_wire
from timeproto.model.validation import check_shape
from timeproto.model.vote import sign_batch
from timeproto.params import MAX_AMOUNT, NETWORKS
from timeproto.wire import codec
from timeproto.wire.messages import (
    CoinState,
    FinalityProofs,
    Finalized,
    ItemState,
    TransactionBroadcast,
    TransactionInfo,
    UTXOStateResponse,
)


class Errors(SynchronousTestCase):
    def test_every_code_has_a_policy(self) -> None:
        """No code is left without a decision about the connection and the sender."""
        self.assertEqual(set(POLICY), set(ErrorCode))

    def test_codes_are_their_own_names(self) -> None:
        """What goes over the wire can be guessed from the name in the code."""
        self.assertEqual([str(code) for code in ErrorCode], [code.name.lower() for code in ErrorCode])

    def test_framing_errors_close_and_never_count(self) -> None:
        """A torn stream is nobody's crime."""
        for code in (ErrorCode.BAD_FRAME, ErrorCode.FRAME_TOO_LARGE, ErrorCode.BAD_ENCODING, ErrorCode.BAD_JSON):
            self.assertTrue(POLICY[code].closes, code)
            self.assertEqual(POLICY[code].penalty, 0, code)

    def test_refused_payments_keep_the_connection(self) -> None:
        """A wallet whose payment is refused may send another one."""
        for code in (ErrorCode.DOUBLE_SPEND, ErrorCode.UNKNOWN_INPUT, ErrorCode.DUST, ErrorCode.BUSY):
            self.assertFalse(POLICY[code].closes, code)

    def test_a_refusal_carries_its_parts(self) -> None:
        """Code, words and details are there for program and person."""
        refusal = Refusal(ErrorCode.DOUBLE_SPEND, "the coin is taken", conflicting_txid="ab")
        self.assertEqual(refusal.details, {"conflicting_txid": "ab"})
        self.assertEqual(str(refusal), "double_spend: the coin is taken")
        self.assertIs(refusal.policy, POLICY[ErrorCode.DOUBLE_SPEND])

    def test_exit_statuses_differ(self) -> None:
        """A script can tell the ways of failing apart."""
        statuses = [value for name, value in vars(ExitStatus).items() if name.isupper()]
        self.assertEqual(sorted(statuses), [0, 1, 2, 3, 4])


class Limits(SynchronousTestCase):
    """The largest thing each limit allows fits where another limit says it must go."""

    def fits(self, message: object, limit: int = limits.FRAME_PEER) -> None:
        self.assertLess(len(codec.encode(message)), limit)

    def test_a_largest_transaction_fits_a_frame_with_its_proof(self) -> None:
        """Whoever asks for a final transaction of the largest size can be answered."""
        coins = [(Outpoint(GENESIS.hash, at), ALICE) for at in range(limits.INPUTS)]
        tx = build(coins, [(MAX_AMOUNT // 1_000, address(BOB))] * 470, fee=MAX_AMOUNT // 2)
        self.assertGreater(len(tx.canonical), limits.TRANSACTION_SIZE * 0.98)
        check_shape(tx, DEVNET)
        vote = proof_of(tx.txid, VOTERS[:1]).votes[0]
        longest = replace(vote, path=("f" * 64,) * limits.PROOF_PATH, height=2**64 - 1, index=2**32 - 1)
        proof = FinalityProof(tx.txid, GENESIS.masternode_set.hash, (longest,) * limits.MASTERNODES)
        self.fits(TransactionBroadcast(tx=tx))
        self.fits(TransactionInfo(tx=tx, status="final", proof=proof))
        self.fits(FinalityProofs(proofs=(proof,)))

    def test_a_full_batch_fits_a_frame(self) -> None:
        """A replica that votes on as much as it may can tell its peers in one frame, and prove each vote."""
        txids = [f"{at:064x}" for at in range(limits.BATCH_VOTES)]
        batch = sign_batch(VOTERS[0], GENESIS.hash, GENESIS.hash, 2**64 - 1, lock=txids, commit=txids, abort=txids)
        self.fits(batch)
        self.assertEqual(batch.tree.size, 3 * limits.BATCH_VOTES)
        self.assertLessEqual(len(batch.tree.path(0)), limits.PROOF_PATH)

    def test_the_longest_answers_fit_a_frame(self) -> None:
        """A query or a page of the largest size can be answered in one frame."""
        state = to_wire(SpentPending("f" * 64, 2**32 - 1, 2**32 - 1, -(2**63)))
        outpoint, output = Outpoint("f" * 64, 2**32 - 1), GENESIS.allocations[0]
        largest = replace(output, amount=MAX_AMOUNT)
        item = ItemState(status="known", outpoint=outpoint, state=state, output=largest)
        self.fits(UTXOStateResponse(states=(item,) * limits.QUERY))
        self.assertGreater(len(codec.encode(item)), len(codec.encode(CoinState(outpoint, state, largest))))
        self.fits(Finalized(txids=("f" * 64,) * limits.CATCH_UP_PAGE, next=2**64 - 1, head=2**64 - 1))

    def test_published_limits_are_whole_numbers(self) -> None:
        """GetInfo can publish them all, and each means what the module says."""
        published = limits.published()
        self.assertTrue(all(type(value) is int and value > 0 for value in published.values()))
        for name, value in published.items():
            own = getattr(limits, name.removesuffix("_ms").upper())
            self.assertEqual(value, own * 1000 if name.endswith("_ms") else own, name)


class Params(SynchronousTestCase):
    def test_networks_are_told_apart(self) -> None:
        """Ports differ, and mainnet's addresses are no test network's."""
        self.assertEqual(len({network.port for network in NETWORKS.values()}), len(NETWORKS))
        digits = {name: network.address_digit for name, network in NETWORKS.items()}
        self.assertEqual(digits, {"mainnet": "1", "testnet": "0", "devnet": "0"})
        self.assertEqual([network.name for network in NETWORKS.values()], list(NETWORKS))

    def test_the_fee_counts_started_kilobytes(self) -> None:
        """1,000 bytes cost one unit, 1,001 cost two."""
        fee = DEVNET.fee_per_kilobyte
        table = {1: fee, 999: fee, 1_000: fee, 1_001: 2 * fee, 2_000: 2 * fee, 100_000: 100 * fee}
        self.assertEqual({size: DEVNET.minimum_fee(size) for size in table}, table)
