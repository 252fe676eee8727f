"""What a lying masternode says unasked: replays, forgeries, false proofs, words for everything; and false answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec

from timeproto.model.block import BlockVote, BlockVoteKind, Commit, DecidedBlock, Precommit, sign_block_vote
from timeproto.model.certificate import FinalityProof, signed_vote
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.utxo_state import Confirmed, Locked, SpentFinalized, to_wire
from timeproto.model.vote import VoteBatch, VoteKind, sign_batch
from timeproto.sim.conspiracy import Conspiracy
from timeproto.sim.signatures import Signer
from timeproto.wire import messages

replace = msgspec.structs.replace

MOST = 60
"""Tricks of one liar in one run: enough for harm, few enough for an end."""


class Mischief:
    def __init__(self, signer: Signer, genesis: Genesis, shared: Conspiracy, lies: random.Random) -> None:
        self._signer = signer
        self._genesis = genesis
        self._shared = shared
        self._lies = lies
        self._stranger = SigningKey(lies.randbytes(32))
        self._left = MOST

    def some(self) -> Sequence[Any]:
        """The messages of one trick; none any more when it has had its share."""
        if not self._left:
            return ()
        self._left -= 1
        trick = self._lies.choice((
            self._sign_everything, self._sign_everything, self._replay, self._forge, self._fake_proof, self._fake_hint,
            self._fake_hint,
            self._show, self._words, self._words, self._fake_blocks, self._ahead, self._questions,
            self._nothings, self._false_cancels, self._out_of_turn,
        ))
        return trick()

    # -- payments ------------------------------------------------------------------------------------

    def _sign(self, **lists: Sequence[str]) -> VoteBatch:
        set_hash = self._genesis.masternode_set.hash
        height = max(0, self._shared.height - 1 + self._lies.choice((-1, 0, 0, 0, 5)))
        return sign_batch(self._signer, self._genesis.hash, set_hash, height, **lists)

    def _sign_everything(self) -> list[Any]:
        every = self._shared.some_txids(20)
        kinds = [kind for kind in ("lock", "commit", "abort") if self._lies.random() < 0.7]
        return [self._sign(**dict.fromkeys(kinds, every))] if every and kinds else []

    def _replay(self) -> list[Any]:
        heard = self._shared.batches
        words = self._lies.sample(self._shared.words, min(3, len(self._shared.words)))
        batches = tuple(self._lies.sample(heard, min(3, len(heard))))
        return [messages.Votes(batches=batches), *(word for word in words if word.kind != "proposal")]

    def _forge(self) -> list[Any]:
        """Another's name, another's words, a signature that is none; and a whole one that promises nothing real."""
        batch = self._sign(lock=(self._nothing(),), commit=self._shared.some_txids())
        heard = self._lies.choice(self._shared.batches) if self._shared.batches else batch
        every = set(self._shared.some_txids(10))
        victim = self._lies.choice(self._genesis.masternode_set.keys)
        forged: list[Any] = [
            batch,
            replace(batch, voter=victim),
            replace(batch, signature="0" * 128),
            replace(batch, set="12" * 32),
            self._sign_as_a_stranger(batch),
            replace(heard, lock=tuple(sorted(set(heard.lock) | every))),
            replace(heard, commit=tuple(sorted(set(heard.commit) | every))),
            replace(heard, abort=tuple(sorted(set(heard.abort) | every))),
        ]
        if self._shared.words:
            word = self._lies.choice(self._shared.words)
            if word.kind != "proposal":
                forged += [replace(word, voter=victim), replace(word, set="12" * 32)]
                forged.append(replace(word, block=next(iter(self._shared.blocks), None)))
        return self._lies.sample(forged, 2)

    def _fake_proof(self) -> list[Any]:
        """Too few votes, one voter twice, lock votes for commits, a whole proof for another transaction."""
        txids = self._shared.some_txids()
        if not txids:
            return []
        txid = txids[0]
        own = self._sign(lock=(txid,), commit=(txid,))
        mine, other = (signed_vote(own, own.index(kind, txid)) for kind in (VoteKind.COMMIT, VoteKind.LOCK))
        votes = [mine, *self._shared.signed_votes(len(self._genesis.masternodes))]
        quorum, set_hash = self._genesis.masternode_set.quorum, self._genesis.masternode_set.hash
        fakes = [votes[: quorum - 1], [mine] * quorum, [other, *votes[1:]], votes]
        proofs = [FinalityProof(txid, set_hash, tuple(each)) for each in fakes if each]
        return [messages.FinalityProofs(proofs=tuple(proofs))]

    def _sign_as_a_stranger(self, batch: VoteBatch) -> VoteBatch:
        lists = {"lock": batch.lock, "commit": batch.commit}
        return sign_batch(self._stranger, self._genesis.hash, batch.set, batch.height, **lists)

    def _nothings(self) -> list[Any]:
        """Votes for a crowd of transactions that there are not."""
        txids = [self._nothing() for _ in range(self._lies.randint(5, 30))]
        return [self._sign(lock=txids, abort=txids[::2])]

    def _false_cancels(self) -> list[Any]:
        """A real one again; one in its owner's name; one of somebody who owns nothing there."""
        cancels = list(self._shared.cancels[-2:])
        for tx in self._shared.book.transactions(self._shared.some_txids(2)):
            mine = messages.TransactionCancel(txid=tx.txid, key=self._signer.public_hex, signature="0" * 128)
            mine = replace(mine, signature=self._signer.sign(mine.message(self._genesis.hash)).hex())
            cancels += [mine, replace(mine, key=bytes(tx.inputs[0].script_sig).hex())]
        return [*cancels, messages.Votes(cancels=tuple(cancels))]

    def _fake_hint(self) -> list[Any]:
        outpoint, output = self._lies.choice(self._genesis.coins())
        recent = [*self._shared.book.entries][-4:] or ["ab" * 32]
        txid = self._lies.choice(recent)
        state = self._lies.choice((Locked(txid, 1), SpentFinalized(txid, 1, 99), Confirmed(txid, 1, 1)))
        change = messages.StateChange(outpoint, None, to_wire(state), 1, self._signer.public_hex)
        cursor = messages.Cursor(self._signer.public_hex, 1)
        hint = messages.UTXOStateNotification(notification=change, cursor=cursor, output=output)
        proofs = [*self._shared.proofs.values()]
        told = [None, *proofs, *(replace(proof, txid=self._nothing()) for proof in proofs[-1:])]
        return [hint, replace(hint, proof=self._lies.choice(told))]

    def _show(self) -> list[Any]:
        """Real transactions, and one with other contents under the same name."""
        known = self._shared.book.transactions(self._shared.some_txids())
        spoilt = [replace(tx, outputs=tx.outputs[::-1], timestamp=tx.timestamp + 1) for tx in known[:1]]
        page = messages.Transactions(transactions=(*known, *spoilt))
        return [page, *(messages.TransactionBroadcast(tx=tx) for tx in known)]

    def _questions(self) -> list[Any]:
        """Many, and of the largest kind."""
        keys = self._genesis.masternode_set.keys
        return [
            messages.GetVotes(voter=self._lies.choice(keys)),
            messages.GetVotes(txids=tuple(self._shared.book.entries)[:500]),
            messages.GetBlocks(since=0),
            messages.GetFinalized(since=0),
            messages.GetTransactions(txids=(self._nothing(), *self._shared.some_txids())),
        ]

    # -- blocks --------------------------------------------------------------------------------------

    def _word(self, kind: BlockVoteKind, round_: int, block: str | None, height: int | None = None) -> BlockVote:
        signer, genesis = self._signer, self._genesis
        at = self._shared.height if height is None else height
        place = signer.public_hex, genesis.masternode_set.hash, at, round_
        return sign_block_vote(signer, genesis.hash, BlockVote(kind, *place, block, None, "0" * 128))

    def _words(self) -> list[Any]:
        """For every block that there is, and for none."""
        blocks: list[str | None] = [None, *self._shared.blocks]
        kinds = (BlockVoteKind.PREVOTE, BlockVoteKind.PRECOMMIT)
        round_ = max(0, self._shared.round + self._lies.choice((-1, 0, 0, 0, 1)))
        return [self._word(self._lies.choice(kinds), round_, block) for block in blocks]

    def _out_of_turn(self) -> list[Any]:
        """A block of anybody, proposed in a round that is another's; a word that names another block than it shows."""
        if not self._shared.blocks:
            return []
        digest, block = self._lies.choice(list(self._shared.blocks.items()))
        round_ = self._shared.round + self._lies.randint(0, 2)
        word = self._word(BlockVoteKind.PROPOSAL, round_, digest)
        other = self._word(BlockVoteKind.PROPOSAL, round_, self._nothing())
        own = replace(block, header=replace(block.header, proposer=self._signer.public_hex, round=round_))
        mine = self._word(BlockVoteKind.PROPOSAL, round_, own.header.hash(self._genesis.hash))
        pairs = (word, block), (other, block), (mine, own)
        return [messages.BlockProposal(vote=vote, block=shown) for vote, shown in pairs]

    def _ahead(self) -> list[Any]:
        """Words of rounds and heights that nobody has reached."""
        return [
            self._word(BlockVoteKind.PREVOTE, self._shared.round + self._lies.randint(2, 100), None),
            self._word(BlockVoteKind.PRECOMMIT, 0, self._nothing(), self._shared.height + self._lies.randint(1, 1_000)),
        ]

    def _fake_blocks(self) -> list[Any]:
        """A block that nobody decided, under a commit of words that were said, or of one's own alone."""
        if not self._shared.blocks:
            return []
        digest, block = self._lies.choice(list(self._shared.blocks.items()))
        words = {word.voter: word for word in self._shared.words if word.kind == "precommit"}
        mine = self._word(BlockVoteKind.PRECOMMIT, self._shared.round, digest)
        words[mine.voter] = mine
        quorum, set_hash = self._genesis.masternode_set.quorum, self._genesis.masternode_set.hash
        real = [Precommit(word.voter, word.signature) for word in words.values()]
        own = Precommit(mine.voter, mine.signature)
        signatures = self._lies.choice((real, real[: quorum - 1] or real, [own] * quorum))
        commit = Commit(block.header.height, self._shared.round, digest, set_hash, tuple(signatures))
        decided = DecidedBlock(block, commit)
        return [messages.Blocks(blocks=(decided,), head=block.header.height)]

    # -- answers -------------------------------------------------------------------------------------

    def false_answer(self, message: Any) -> Any:
        match message:
            case messages.Blocks():
                return self._false_blocks(message)
            case messages.Finalized():
                listed = (*message.txids[:1], self._nothing())
                since = message.next - len(message.txids)
                head = since + len(listed) + self._lies.choice((0, 3, 10**9))
                return self._lies.choice((
                    replace(message, txids=listed, next=since + len(listed), head=head),
                    replace(message, txids=(), next=since, head=since),
                    replace(message, txids=(), next=since, head=head),
                ))
            case messages.Votes():
                return self._lies.choice((
                    replace(message, batches=(), proofs=(), block_votes=()),
                    replace(message, batches=message.batches[:1], more=True),
                    replace(message, block_votes=()),
                ))
            case messages.Transactions():
                return replace(message, transactions=message.transactions[:-1], proofs=message.proofs[:-1])
        return message

    def _false_blocks(self, message: messages.Blocks) -> messages.Blocks:
        blocks = list(message.blocks)
        spoilt = list(blocks)
        if blocks:
            first = blocks[0]
            short = first.commit.signatures[:-1]
            spoilt[0] = self._lies.choice((
                replace(first, commit=replace(first.commit, signatures=short)),
                replace(first, commit=replace(first.commit, signatures=(*short, first.commit.signatures[0]))),
                replace(first, block=replace(first.block, transactions=first.block.transactions[:-1])),
                replace(first, block=replace(first.block, verdicts=())),
                replace(first, block=blocks[-1].block),
            ))
        return self._lies.choice((
            replace(message, blocks=tuple(spoilt)),
            replace(message, blocks=tuple(reversed(blocks))),
            replace(message, blocks=tuple(blocks[1:])),
            replace(message, blocks=(), head=message.head + self._lies.choice((1, 7, 10**9))),
            replace(message, blocks=(), head=0),
        ))

    def _nothing(self) -> str:
        return f"{self._lies.getrandbits(256):064x}"
