"""The generator's connection: frames however they are cut, and proofs checked as whole as a wallet checks them."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from timeproto.bench.frames import frame
from timeproto.bench.inprocess import Cluster
from timeproto.bench.line import Line, ProofChecker
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.certificate import FinalityProof, check_proof
from timeproto.model.keys import SigningKey
from timeproto.network.requests import ConnectionGone
from timeproto.wire import codec, messages


class Transport(StringTransport):
    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


def make_line() -> tuple[Line, list[bytes], Transport]:
    heard: list[bytes] = []
    line, transport = Line(heard.append), Transport()
    line.makeConnection(transport)
    return line, heard, transport


class Frames(SynchronousTestCase):
    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0, 300)))
    def test_however_they_are_cut(self, payloads: list[bytes], cuts: list[int]) -> None:
        """Every payload comes whole, once, in order."""
        line, heard, _ = make_line()
        payloads = [b"." + payload for payload in payloads]  # no ping
        stream = b"".join(map(frame, payloads))
        places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
        for start, end in itertools.pairwise(places):
            line.dataReceived(stream[start:end])
        self.assertEqual(heard, payloads)

    def test_a_ping_is_answered(self) -> None:
        """A node that hears nothing for a minute is not to hang up in the middle of a measurement."""
        line, heard, transport = make_line()
        line.dataReceived(frame(codec.encode(messages.Ping(id=4))))
        self.assertEqual(transport.value(), frame(codec.encode(messages.Pong(id=4))))
        self.assertEqual(heard, [])

    def test_replies_go_to_who_asked(self) -> None:
        """By their id, in any order; what nobody asked for is heard."""
        line, heard, transport = make_line()
        first, second = line.ask(messages.GetEvidence()), line.ask(messages.GetTransaction(txid="0" * 64))
        sent: Any = transport.value()
        asked = []
        while sent:
            length = int.from_bytes(sent[:4], "big")
            asked.append(codec.decode(sent[4 : 4 + length]))
            sent = sent[4 + length :]
        refusal = messages.Error(id=asked[1].id, code="not_found", message="there is none")
        stranger = codec.encode(messages.TransactionAccepted(id=1, txid="1" * 64))
        found = messages.EvidenceFound(id=asked[0].id, evidence=(), next=0, more=False)
        line.dataReceived(frame(codec.encode(refusal)) + frame(stranger) + frame(codec.encode(found)))
        self.assertEqual(self.successResultOf(first), found)
        self.assertIs(self.failureResultOf(second, Refusal).value.code, ErrorCode.NOT_FOUND)
        self.assertEqual(heard, [stranger])

    def test_a_connection_that_goes(self) -> None:
        """Who waits is told, and so is whoever asks afterwards."""
        line, _, _ = make_line()
        waiting = line.ask(messages.GetInfo())
        line.connectionLost()
        self.failureResultOf(waiting, ConnectionGone)
        self.failureResultOf(line.ask(messages.GetInfo()), ConnectionGone)
        self.assertTrue(line.gone)


class Proofs(SynchronousTestCase):
    cluster: Cluster
    proofs: list[FinalityProof]

    def setUp(self) -> None:
        self.cluster = Cluster(4, 8)
        records = [self.cluster.nodes[0].store.transaction(tx.txid) for tx in self.cluster.pay(5)]
        self.proofs = [record.proof for record in records if record is not None and record.proof is not None]
        self.assertEqual(len(self.proofs), 5)
        self.checker = ProofChecker(self.cluster.genesis)

    def refused(self, proof: FinalityProof) -> None:
        with self.assertRaises(Refusal) as caught:
            self.checker.check(proof)
        self.assertIs(caught.exception.code, ErrorCode.BAD_PROOF)
        with self.assertRaises(Refusal):
            check_proof(proof, self.cluster.genesis.masternode_set, self.cluster.genesis.hash)

    def test_good_ones(self) -> None:
        """What a wallet accepts this accepts, again too."""
        for proof in [*self.proofs, *self.proofs]:
            check_proof(proof, self.cluster.genesis.masternode_set, self.cluster.genesis.hash)
            self.checker.check(proof)

    def test_bad_ones(self) -> None:
        """What a wallet refuses this refuses, although it has seen good proofs with the very same signatures."""
        for proof in self.proofs:
            self.checker.check(proof)
        proof, other = self.proofs[:2]
        first = proof.votes[0]

        def with_votes(*votes: Any) -> FinalityProof:
            return msgspec.structs.replace(proof, votes=tuple(votes))

        self.refused(msgspec.structs.replace(proof, txid="0" * 64))
        self.refused(msgspec.structs.replace(proof, txid=other.txid))
        self.refused(msgspec.structs.replace(proof, set="0" * 64))
        self.refused(with_votes(*proof.votes[1:]))
        self.refused(with_votes(first, *proof.votes[:-1]))
        stranger = SigningKey(b"\x09" * 32).public_hex
        rest = proof.votes[1:]
        self.refused(with_votes(msgspec.structs.replace(first, voter=stranger), *rest))
        self.refused(with_votes(msgspec.structs.replace(first, signature="0" * 128), *rest))
        self.refused(with_votes(msgspec.structs.replace(first, height=first.height + 1), *rest))
        self.refused(with_votes(msgspec.structs.replace(first, index=first.index ^ 1), *rest))
        self.refused(with_votes(msgspec.structs.replace(first, path=()), *rest))
