"""The signed handshake: who may pass, and every way to cheat that must not."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import GENESIS, STRANGER, VOTERS
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.keys import SigningKey
from timeproto.network.handshake import HandshakeMachine, OwnKey

CHANNEL = b"c" * 32


def machine(
    key: SigningKey | None, dialled: bool, nonce: int = 1, binding: bytes = CHANNEL, **more: Any
) -> HandshakeMachine:
    genesis = more.pop("genesis", GENESIS)
    return HandshakeMachine(
        genesis=genesis, key=key, dialled=dialled, nonce=bytes([nonce]) * 32, binding=binding, **more
    )


class Handshakes(SynchronousTestCase):
    def pair(self, **acceptor: Any) -> tuple[HandshakeMachine, HandshakeMachine]:
        return machine(VOTERS[0], True, 1), machine(acceptor.pop("key", VOTERS[1]), False, 2, **acceptor)

    def shake(self, dialler: HandshakeMachine, acceptor: HandshakeMachine) -> None:
        """All messages to their end."""
        (greeting,) = dialler.begin()
        answer, proof = acceptor.hear_handshake(greeting)
        dialler.hear_handshake(answer)
        for ack in dialler.hear_ack(proof):
            acceptor.hear_ack(ack)

    def assert_refused(self, code: ErrorCode, function: Any, *arguments: Any) -> None:
        with self.assertRaises(Refusal) as caught:
            function(*arguments)
        self.assertIs(caught.exception.code, code)

    def test_two_masternodes(self) -> None:
        """Each has proven its key to the other."""
        dialler, acceptor = self.pair()
        self.shake(dialler, acceptor)
        self.assertEqual((dialler.done, acceptor.done), (True, True))
        self.assertEqual(dialler.peer_key, VOTERS[1].public_hex)
        self.assertEqual(acceptor.peer_key, VOTERS[0].public_hex)

    def test_a_wallet_learns_who_the_node_is(self) -> None:
        """It sends no proof, and needs none."""
        wallet, node = machine(None, True, 1), machine(VOTERS[1], False, 2)
        self.shake(wallet, node)
        self.assertEqual((wallet.done, node.done), (True, True))
        self.assertEqual((wallet.peer_key, node.peer_key), (VOTERS[1].public_hex, None))

    def test_a_pinned_key(self) -> None:
        """Another masternode, however genuine, is not the one."""
        wallet = machine(None, True, 1, expected_key=VOTERS[2].public_hex)
        (greeting,) = wallet.begin()
        answer, _ = machine(VOTERS[1], False, 2).hear_handshake(greeting)
        self.assert_refused(ErrorCode.BAD_HANDSHAKE, wallet.hear_handshake, answer)

    def test_words_that_do_not_fit(self) -> None:
        """Version, network, genesis, stranger, wallet with a key, masternode without, reflected nonce."""
        (good,) = machine(VOTERS[0], True, 1).begin()
        for code, change in (
            (ErrorCode.WRONG_VERSION, {"version": 2}),
            (ErrorCode.WRONG_NETWORK, {"network": "mainnet"}),
            (ErrorCode.WRONG_GENESIS, {"genesis": "00" * 32}),
            (ErrorCode.NOT_A_MASTERNODE, {"node_key": STRANGER.public_hex}),
            (ErrorCode.BAD_HANDSHAKE, {"role": "wallet"}),
            (ErrorCode.BAD_HANDSHAKE, {"node_key": None}),
            (ErrorCode.BAD_HANDSHAKE, {"nonce": "02" * 32}),
        ):
            acceptor = machine(VOTERS[1], False, 2)
            self.assert_refused(code, acceptor.hear_handshake, msgspec.structs.replace(good, **change))

    def test_both_sides_check_the_genesis(self) -> None:
        """The dialling side refuses too (N2 of the original)."""
        other = msgspec.structs.replace(GENESIS, timestamp=1)
        dialler = machine(VOTERS[0], True, 1)
        answer = machine(VOTERS[1], False, 2, genesis=other).ours
        self.assert_refused(ErrorCode.WRONG_GENESIS, dialler.hear_handshake, answer)

    def test_a_key_without_its_proof(self) -> None:
        """A signature by another key, for another nonce, of the other side, on another channel: all refused."""
        dialler, acceptor = self.pair()
        (greeting,) = dialler.begin()
        answer, proof = acceptor.hear_handshake(greeting)
        dialler.hear_handshake(answer)
        (good,) = dialler.hear_ack(proof)
        replayed = self._proof_with(nonce=9)
        impostor = self._proof_with(key=VOTERS[3])
        elsewhere = self._proof_with(binding=b"d" * 32)
        for bad in (replayed, impostor, elsewhere, proof):  # the last: our own signature sent back to us
            self.assert_refused(ErrorCode.BAD_HANDSHAKE, acceptor.hear_ack, bad)
            self.assertFalse(acceptor.done)
        acceptor.hear_ack(good)

    def _proof_with(self, *, key: SigningKey = VOTERS[0], nonce: int = 1, binding: bytes = CHANNEL) -> Any:
        """The dialler's proof, made with something wrong."""
        dialler = machine(key, True, nonce, binding)
        acceptor = machine(VOTERS[1], False, 2, binding)
        (greeting,) = dialler.begin()
        answer, ack = acceptor.hear_handshake(greeting)
        dialler.hear_handshake(answer)
        (proof,) = dialler.hear_ack(ack)
        return proof

    def test_a_man_in_the_middle_has_two_channels(self) -> None:
        """What he passes on was signed for another channel's exporter value."""
        dialler, acceptor = self.pair(binding=b"other channel".ljust(32))
        (greeting,) = dialler.begin()
        answer, proof = acceptor.hear_handshake(greeting)
        dialler.hear_handshake(answer)
        self.assert_refused(ErrorCode.BAD_HANDSHAKE, dialler.hear_ack, proof)

    def test_out_of_order(self) -> None:
        """A proof before its words, words twice."""
        dialler, acceptor = self.pair()
        (greeting,) = dialler.begin()
        _, proof = acceptor.hear_handshake(greeting)
        self.assert_refused(ErrorCode.BAD_HANDSHAKE, acceptor.hear_handshake, greeting)
        self.assert_refused(ErrorCode.BAD_HANDSHAKE, dialler.hear_ack, proof)

    def test_our_own_key_at_the_other_end(self) -> None:
        """Proven by somebody else, it means that two processes have it."""
        dialler, acceptor = self.pair(key=VOTERS[0])
        with self.assertRaises(OwnKey):
            self.shake(dialler, acceptor)
