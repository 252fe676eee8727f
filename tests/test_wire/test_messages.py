"""The catalogue: every message says who may send it and shows an example that decodes."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import PAYMENT, fill
from tests.strategies import messages
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import BlockVote
from timeproto.model.canonical import U64, Hex32, Hex64
from timeproto.model.vote import VoteBatch
from timeproto.wire import messages as package
from timeproto.wire.codec import decode, encode
from timeproto.wire.messages import (
    ANSWERS,
    CATALOGUE,
    AnyMessage,
    Error,
    Message,
    Reply,
    Request,
    Role,
    error_of,
    senders_of,
)

EXAMPLE = re.compile(r"``(\{\"type\": .*?\})``", re.DOTALL)

BOTH, ALL = {Role.WALLET, Role.MASTERNODE}, set(Role)
TELLS = {Role.NODE, Role.MASTERNODE}
VOTERS = {Role.MASTERNODE}
DIRECTIONS: dict[str, set[Role]] = {
    "Handshake": ALL, "HandshakeAck": ALL, "Ping": ALL, "Pong": ALL, "Error": ALL,
    "TransactionBroadcast": BOTH, "UTXOStateQuery": BOTH, "UTXOSubscribe": BOTH, "UTXOUnsubscribe": BOTH,
    "GetAddressUTXOs": BOTH, "GetTransaction": BOTH, "GetFinalityProof": BOTH, "GetGenesis": BOTH, "GetInfo": BOTH,
    "TransactionAccepted": TELLS, "UTXOStateResponse": TELLS, "UTXOSubscribed": TELLS, "UTXOUnsubscribed": TELLS,
    "UTXOWatermark": {Role.NODE}, "UTXOSubscriptionNotice": {Role.NODE}, "TransactionStatus": {Role.NODE},
    "UTXOStateNotification": TELLS, "AddressUTXOs": TELLS, "TransactionInfo": TELLS, "GenesisDocument": TELLS,
    "Info": TELLS, "FinalityProofs": TELLS, "GetTrace": BOTH, "Trace": TELLS,
    "GetTransactions": VOTERS, "Transactions": VOTERS, "VoteBatch": VOTERS, "GetVotes": VOTERS, "Votes": VOTERS,
    "GetFinalized": VOTERS, "Finalized": VOTERS, "GetPeers": VOTERS, "Peers": VOTERS,
    "TransactionCancel": BOTH, "CancelAccepted": TELLS, "GetEvidence": BOTH, "EvidenceFound": TELLS,
    "GetBudget": BOTH, "Budget": TELLS,
    "BlockProposal": VOTERS, "BlockVote": VOTERS, "GetBlocks": VOTERS, "Blocks": VOTERS,
    "GetLease": VOTERS, "LeaseFilter": VOTERS,
}  # fmt: skip


def leaf_classes(cls: type) -> list[type]:
    return [leaf for sub in cls.__subclasses__() for leaf in leaf_classes(sub)] or [cls]


class Catalogue(SynchronousTestCase):
    def test_nothing_is_left_out(self) -> None:
        """Every message class of the package is in the union the codec decodes, under its own name."""
        declared = {cls for cls in leaf_classes(Message) if cls.__module__.startswith(f"{package.__name__}.")}
        declared |= {VoteBatch, BlockVote}
        self.assertEqual(declared, set(get_args(AnyMessage)))
        self.assertEqual({name: cls.__name__ for name, cls in CATALOGUE.items()}, {name: name for name in CATALOGUE})

    def test_every_request_has_an_answer(self) -> None:
        """One type of reply each, and each reply but ``Error`` answers something."""
        requests = {cls for cls in CATALOGUE.values() if issubclass(cls, Request)}
        replies = {cls for cls in CATALOGUE.values() if issubclass(cls, Reply)} - {Error}
        self.assertEqual((set(ANSWERS), set(ANSWERS.values())), (requests, replies))

    def test_directions(self) -> None:
        """Who may send what, type by type: a new message must be entered here by hand."""
        self.assertEqual({name: set(senders_of(cls)) for name, cls in CATALOGUE.items()}, DIRECTIONS)

    def test_every_message_shows_an_example(self) -> None:
        """The docstring's JSON decodes into that message, and says of it what encoding it again says."""
        for name, cls in CATALOGUE.items():
            examples = EXAMPLE.findall(cls.__doc__ or "")
            self.assertEqual(len(examples), 1, f"{name} shows {len(examples)} examples")
            text = fill(re.sub(r"\s*\n\s*", " ", examples[0]))
            message = decode(text)
            self.assertIs(type(message), cls)
            shown, again = json.loads(text), json.loads(encode(message))
            self.assertEqual(again, {key: shown[key] for key in again}, name)

    def test_requests_and_replies_carry_an_id(self) -> None:
        """A reply can always be matched to its request; what is neither needs no id."""
        for name, cls in CATALOGUE.items():
            if issubclass(cls, Request | Reply):
                self.assertIn("id", cls.__struct_fields__, name)
                self.assertFalse(issubclass(cls, Request) and issubclass(cls, Reply), name)

    def test_a_request_is_told_by_its_name(self) -> None:
        """Whatever begins with Get is a request."""
        for name, cls in CATALOGUE.items():
            if name.startswith("Get"):
                self.assertTrue(issubclass(cls, Request), name)


class Errors(SynchronousTestCase):
    def test_a_refusal_travels(self) -> None:
        """Code, words and details arrive as they were sent."""
        sent = Refusal(ErrorCode.DOUBLE_SPEND, "taken", conflicting_txid="ab", value=3)
        message = decode(encode(error_of(sent, 7)))
        assert isinstance(message, Error)
        got = message.refusal()
        self.assertEqual((message.id, got.code, got.message, got.details), (7, sent.code, "taken", sent.details))

    def test_no_details_are_no_details(self) -> None:
        """An error without details has none on the wire and none after it."""
        message = error_of(Refusal(ErrorCode.BUSY, "later"))
        self.assertNotIn(b"details", encode(message))
        self.assertEqual(message.refusal().details, {})

    def test_a_newer_nodes_code_is_understood(self) -> None:
        """A code this version does not know is an internal error of the other side, not of ours."""
        refusal = Error(code="from_the_future", message="?").refusal()
        self.assertEqual((refusal.code, refusal.message), (ErrorCode.INTERNAL, "from_the_future: ?"))

    def test_what_was_sent_to_us_comes_back_harmless(self) -> None:
        """Escapes, new lines and length of a hostile text stay out of logs and terminals."""
        hostile = "\x1b[31m red\r\nfake log line\u202e\x00" + "A" * 10_000
        message = error_of(Refusal(ErrorCode.BAD_FIELD, hostile)).message
        self.assertLessEqual(len(message), 512)
        self.assertTrue(message.isprintable())


class EveryMessage(SynchronousTestCase):
    @given(messages())
    def test_round_trip(self, message: Any) -> None:
        """What we can say, we understand, and it means the same."""
        payload = encode(message)
        self.assertEqual(decode(payload), message)
        self.assertEqual(encode(decode(payload)), payload)

    def test_out_of_range_numbers_are_refused_everywhere(self) -> None:
        """Replace each number of each example by one that is too large, negative or none at all: refused."""
        checked = 0
        for name, cls in CATALOGUE.items():
            example = json.loads(fill(re.sub(r"\s*\n\s*", " ", EXAMPLE.findall(cls.__doc__ or "")[0])))
            for path in number_paths(example):
                for wrong in (2**64, 2**70, 10**400, -(2**63) - 1, 1.5, True, "1", [], 1e300):
                    payload = json.dumps(replaced(example, path, wrong)).encode()
                    if path[0] == "outpoints" and not isinstance(wrong, float) and abs_or_zero(wrong) < 2**63:
                        continue  # an item that is malformed is answered as such
                    if path[0] == "details" and wrong == "1":
                        continue  # details may be texts
                    error = self.assertRaises(Refusal, decode, payload)
                    self.assertIn(error.code, (ErrorCode.BAD_NUMBER, ErrorCode.BAD_FIELD), (name, path, wrong))
                    checked += 1
        self.assertGreater(checked, 500)

    def test_unknown_fields_are_refused_everywhere(self) -> None:
        """No object of any message takes a field it does not know, but for an item that is answered by itself."""
        for name, cls in CATALOGUE.items():
            example = json.loads(fill(re.sub(r"\s*\n\s*", " ", EXAMPLE.findall(cls.__doc__ or "")[0])))
            for path in object_paths(example):
                if (path and path[0] in ("outpoints", "details", "limits")) or path == ("states",):
                    continue
                error = self.assertRaises(Refusal, decode, json.dumps(replaced(example, (*path, "?"), 1)).encode())
                self.assertEqual(error.code, ErrorCode.BAD_FIELD, (name, path))

    def test_the_transaction_keeps_the_original_spelling(self) -> None:
        """Byte strings of a transaction are arrays of numbers, as they always were."""
        tx = json.loads(encode(PAYMENT))
        self.assertEqual(bytes(tx["signature"]), bytes(PAYMENT.signature))
        self.assertEqual(len(tx["inputs"][0]["script_sig"]), 32)


def abs_or_zero(value: Any) -> int:
    return abs(value) if isinstance(value, int) else 0


def number_paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the numbers are; of a long list of them the first will do."""
    if type(value) is int:
        return [path]
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in number_paths(item, (*path, key))]
    if isinstance(value, list):
        return [found for at, item in enumerate(value[:1]) for found in number_paths(item, (*path, at))]
    return []


def object_paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [path, *(found for key, item in value.items() for found in object_paths(item, (*path, key)))]
    if isinstance(value, list):
        return [found for at, item in enumerate(value[:1]) for found in object_paths(item, (*path, at))]
    return []


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of a JSON value with the item at ``path`` replaced or added."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new) if len(path) > 1 else new
    return copy


class StrictBatch(msgspec.Struct, tag="VoteBatch", tag_field="type", forbid_unknown_fields=True):
    """A vote batch with its spelling declared text by text: slow, and plain to see."""

    voter: Hex32
    set: Hex32
    height: U64
    lock: tuple[Hex32, ...]
    commit: tuple[Hex32, ...]
    abort: tuple[Hex32, ...]
    signature: Hex64


class VoteBatches(SynchronousTestCase):
    """All texts of a batch are looked at in one go, and the same are refused as if each had its own pattern."""

    def assert_judged_alike(self, changed: dict[str, Any]) -> bool:
        """True if the batch is good; if not, the refusal names the field."""
        payload = json.dumps(BATCH | changed).encode()
        try:
            msgspec.json.decode(payload, type=StrictBatch)
        except msgspec.ValidationError:
            refusal = self.assertRaises(Refusal, decode, payload)
            self.assertEqual(refusal.code, ErrorCode.BAD_FIELD)
            self.assertTrue(any(name in refusal.message for name in changed), refusal.message)
            return False
        self.assertEqual(json.loads(encode(decode(payload))), BATCH | changed)
        return True

    def test_what_is_no_hex(self) -> None:
        """Upper case, other digits, white space, too long, too short: in each field, at both ends and in the middle."""
        for name, text in {"voter": "a", "set": "b", "lock": "c", "commit": "d", "abort": "e"}.items():
            for wrong in "AFgG \n\0-_/:`\x7f\u00e9\u0661\uff11":
                for at in (0, 31, 63):
                    spelled = text * at + wrong + text * (63 - at)
                    self.assertFalse(self.assert_judged_alike({name: _one_or_more(name, text * 64, spelled)}))
            for length in (0, 1, 62, 63, 65, 66, 128):
                self.assertFalse(self.assert_judged_alike({name: _one_or_more(name, "0" * 64, text * length)}))
            self.assertTrue(self.assert_judged_alike({name: _one_or_more(name, "0" * 64, "f" * 64)}))
        for signature in ("A" * 128, "a" * 127 + "\n", "a" * 127, "a" * 129, "a" * 128 + "\n", "0x" + "a" * 126):
            self.assertFalse(self.assert_judged_alike({"signature": signature}))

    @given(st.sampled_from(["voter", "set", "lock", "signature"]), st.integers(0, 127),
           st.characters(exclude_categories=["Cs"]))  # half a surrogate is no text: no JSON, before any schema
    def test_any_character_anywhere(self, name: str, at: int, character: str) -> None:
        """One character of one field is another."""
        size = 128 if name == "signature" else 64
        text = "a" * (at % size) + character + "a" * (size - 1 - at % size)
        self.assert_judged_alike({name: [text] if name == "lock" else text})


BATCH = {
    "type": "VoteBatch", "voter": "1" * 64, "set": "2" * 64, "height": 3, "lock": ["4" * 64], "commit": [], "abort": [],
    "signature": "5" * 128,
}  # fmt: skip


def _one_or_more(name: str, first: str, second: str) -> Any:
    return [first, second] if name in ("lock", "commit", "abort") else second
