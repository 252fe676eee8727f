"""The codec under hostile bytes: every answer is a message or a Refusal, and each fault has its code."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import FUZZ
from tests.examples import GENESIS, PAYMENT, plain
from tests.strategies import JSON, messages
from timeproto import limits
from timeproto.errors import ConfigurationError, ErrorCode, Refusal
from timeproto.model.genesis import Genesis
from timeproto.model.ledger import OwnVotes, TransactionRecord
from timeproto.wire import codec
from timeproto.wire.codec import decode, encode, nesting, parse_json
from timeproto.wire.messages import (
    Error,
    GetFinalized,
    GetTransaction,
    GetTransactions,
    Handshake,
    Ping,
    TransactionBroadcast,
    UTXOStateQuery,
)

H = "ab" * 32


def ping(number: str) -> bytes:
    return b'{"type":"Ping","id":' + number.encode() + b"}"


def query(items: str) -> bytes:
    return b'{"type":"UTXOStateQuery","outpoints":' + items.encode() + b"}"


class Sizes(SynchronousTestCase):
    """Each type has a size that it cannot need more than."""

    def test_what_names_one_thing_is_short(self) -> None:
        """Padded with white space, or with whatever else fits a frame, it is none of ours; and the limit is named."""
        padded = b'{"type":"Ping",' + b" " * limits.FRAME_SMALL + b'"id":1}'
        error = self.assertRaises(Refusal, decode, padded)
        self.assertEqual((error.code, error.details["limit"]), (ErrorCode.FRAME_TOO_LARGE, "frame_small"))
        self.assertEqual(error.details["value"], limits.FRAME_SMALL)
        asks = b'{"type":"GetVotes","txids":[],' + b" " * limits.FRAME_WALLET + b'"voter":null}'
        self.assertEqual(self.assertRaises(Refusal, decode, asks).details["limit"], "frame_wallet")

    def test_the_longest_of_each_fits(self) -> None:
        """A greeting with all the names it may have, and the longest list of txids."""
        name = "x" * 64
        hello = Handshake(
            version=2**32 - 1, network="devnet", genesis=H, role="masternode", node_key=H, listen="x" * 270,
            capabilities=(name,) * 32, nonce=H,
        )  # fmt: skip
        self.assertEqual(decode(encode(hello)), hello)
        asked = GetTransactions(id=2**53 - 1, txids=(H,) * limits.FETCH)
        self.assertEqual(decode(encode(asked)), asked)
        details: dict[str, Any] = {name + str(number): name for number in range(16)}
        error = Error(id=2**53 - 1, code="x" * 64, message="\x7f" * 512, details=details)
        self.assertEqual(decode(encode(error)), error)

    def test_what_lists_is_as_long_as_its_frame(self) -> None:
        """Queries, subscriptions and payments are bounded by the frame and by their items."""
        text = query("[" + " " * 60_000 + "]")
        self.assertEqual(decode(text), UTXOStateQuery(outpoints=()))


class HostileBytes(SynchronousTestCase):
    """Rows H-05 to H-14: the fault, and the code it is told by."""

    def refused(self, code: ErrorCode, *payloads: bytes) -> None:
        for payload in payloads:
            error = self.assertRaises(Refusal, decode, payload)
            self.assertEqual(error.code, code, payload[:100])
            self.assertLess(len(error.message), 512)

    def test_h05_encodings(self) -> None:
        """Bad UTF-8, UTF-16, a byte order mark and encoded surrogates; UTF-32 is not even JSON."""
        text = '{"type":"Ping"}'
        self.refused(
            ErrorCode.BAD_ENCODING,
            b"\xef\xbb\xbf" + text.encode(),
            text.encode("utf-16"),
            b'{"type":"\xff"}',
            b'{"type":"\xc0\x80"}',
            b'{"type":"\xed\xa0\x80"}',
            b'{"type":"\xf4\x90\x80\x80"}',
            b'{"type":"Ping\xe2\x82"}',
        )
        self.refused(ErrorCode.BAD_JSON, text.encode("utf-16-le"), text.encode("utf-32-be"), text.encode("utf-32-le"))
        self.refused(ErrorCode.BAD_JSON, query('["\\ud800"]'), query('["\\udc00\\ud800"]'))

    def test_h06_numbers_that_are_none(self) -> None:
        """Floats, exponents and minus zero are no integers; NaN and Infinity are no JSON."""
        for wrong in ("1.0", "1e2", "1E2", "1e999", "-1e999", "0.0", "-0", "-0.0", "1e-7"):
            self.refused(ErrorCode.BAD_NUMBER, ping(wrong), query(f"[{wrong}]"), query(f'[{{"vout":{wrong}}}]'))
        for wrong in ("NaN", "Infinity", "-Infinity", "nan"):
            self.refused(ErrorCode.BAD_JSON, ping(wrong), query(f"[{wrong}]"))

    def test_h06_minus_zero_in_a_text_is_text(self) -> None:
        """The search for -0 does not look into strings, escapes and all."""
        for text in ('"-0"', '"a\\"-0"', '"\\\\", "-0"', '"\\\\\\"-0 "'):
            self.assertIsInstance(decode(query(f"[{text}]")), UTXOStateQuery)
        self.refused(ErrorCode.BAD_NUMBER, query('["\\\\",-0]'), query('["\\"",-0]'))

    def test_h07_huge_integers(self) -> None:
        """Past 2^64 is a bad number, however many digits; within it the field's own bound speaks."""
        for wrong in (str(2**64), str(2**70), "9" * 400, "9" * 4301, "-" + "9" * 4301, str(-(2**63) - 1)):
            self.refused(ErrorCode.BAD_NUMBER, ping(wrong), query(f"[{wrong}]"))
        for wrong in (2**63, 2**64 - 1, 2**53, 2**53 + 1):
            self.refused(ErrorCode.BAD_FIELD, ping(str(wrong)))
        self.assertEqual(decode(ping(str(2**53 - 1))), Ping(id=2**53 - 1))
        self.assertEqual(decode(encode(GetFinalized(since=2**64 - 1))), GetFinalized(since=2**64 - 1))

    def test_h08_of_a_duplicate_key_the_last_counts(self) -> None:
        """Spelled the same or with escapes, and no signature depends on it."""
        self.assertEqual(decode(b'{"type":"Ping","id":1,"id":2}'), Ping(id=2))
        self.assertEqual(decode(b'{"type":"Ping","id":1,"\\u0069d":2}'), Ping(id=2))
        twice = encode(TransactionBroadcast(tx=PAYMENT)).replace(b'"fee":', b'"fee":1,"fee":')
        broadcast = decode(twice)
        assert isinstance(broadcast, TransactionBroadcast)
        self.assertEqual(broadcast.tx.computed_txid, PAYMENT.txid)

    def test_h09_nesting(self) -> None:
        """Sixteen levels pass where any JSON may stand; more never do, and no recursion is spent on them."""
        self.assertIsInstance(decode(query("[" * 15 + "]" * 15)), UTXOStateQuery)
        for depth in (16, 900, 50_000, 1_000_000):
            self.refused(ErrorCode.TOO_DEEP, query("[" * depth + "]" * depth), query('[{"a":' * depth))
        self.refused(ErrorCode.TOO_DEEP, b"[" * 50_000, b'{"a":' * 900, b'{"type":' * 50_000)
        error = self.assertRaises(Refusal, decode, b"[" * 17)
        self.assertEqual(error.details, {"limit": "nesting", "value": limits.NESTING})

    def test_h09_brackets_in_texts_do_not_nest(self) -> None:
        """A text may hold any brackets."""
        text = json.dumps("[{" * 100 + '"\\')
        self.assertEqual(nesting(text.encode()), 0)
        self.assertIsInstance(decode(query(f"[{text}]")), UTXOStateQuery)

    def test_h10_one_object_and_nothing_else(self) -> None:
        """Another top level, two values, trailing bytes, comments, single quotes."""
        self.refused(
            ErrorCode.BAD_JSON,
            *(b"", b" ", b"[]", b"[{}]", b"1", b'"Ping"', b"null", b"true", b"{", b"}", b"{}{}", b"{},", b"\x00"),
            *(b'{"type":"Ping"}{}', b'{"type":"Ping"}\x00', b'{"type":"Ping"}]', b'{"type":"Ping",}'),
            *(b"{'type':'Ping'}", b'{"type":"Ping"/**/}', b'{"type":"Ping"}//', b"GET / HTTP/1.1", b"\x16\x03\x01"),
            *(ping("01"), ping("+1"), ping("1_0"), ping("0x1"), ping(".5"), ping("1."), ping("\uff11")),
        )
        self.assertEqual(decode(b'\r\n\t {"type" : "Ping"} \n'), Ping())

    def test_h11_types(self) -> None:
        """Whatever stands for the type, it is no message of ours; a long one does not come back whole."""
        for wrong in ("null", "1", "[]", "{}", "true", '""', '"ping"', '" Ping"', '"__class__"', '"Message"', '"Noun"'):
            self.refused(ErrorCode.UNSUPPORTED, b'{"type":' + wrong.encode() + b"}")
        self.refused(ErrorCode.UNSUPPORTED, b"{}", b'{"Type":"Ping"}')
        error = self.assertRaises(Refusal, decode, b'{"type":"' + b"A" * 60_000 + b'"}')
        self.assertLess(len(error.message), 200)

    def test_h11_what_is_wrong_with_the_type(self) -> None:
        """Missing, no string, unknown: each in its own words, and none in those of a programming language."""
        for payload, words in (
            (b'{"id":1}', "`type` is missing"),
            (b'{"type":5}', "`type` is not a string"),
            (b'{"type":null}', "`type` is not a string"),
            (b'{"type":"Future"}', "no message type is called 'Future'"),
        ):
            self.assertEqual(self.assertRaises(Refusal, decode, payload).message, words)

    def test_h11_the_request_is_named(self) -> None:
        """An unknown type's request id is in the details, so the error can be matched; a bad id is not."""
        error = self.assertRaises(Refusal, decode, b'{"type":"Future","id":7}')
        self.assertEqual(error.details, {"request_id": 7})
        for bad in ("true", "-1", '"7"', str(2**53)):
            error = self.assertRaises(Refusal, decode, b'{"type":"Future","id":' + bad.encode() + b"}")
            self.assertEqual(error.details, {})

    def test_h12_unknown_fields(self) -> None:
        """An extra field is refused in the envelope and in what is signed."""
        whole = plain(TransactionBroadcast(tx=PAYMENT))
        spent, made = whole["tx"]["inputs"][0], whole["tx"]["outputs"][0]
        for target in (whole, whole["tx"], spent, spent["previous_output"], made):
            target["extra"] = 1
            self.refused(ErrorCode.BAD_FIELD, json.dumps(whole).encode())
            del target["extra"]
        self.assertEqual(decode(json.dumps(whole).encode()), TransactionBroadcast(tx=PAYMENT))

    def test_h13_one_spelling(self) -> None:
        """Booleans and texts for numbers, negative and oversized ones, foreign digits, upper-case or padded hex."""
        whole = plain(TransactionBroadcast(tx=PAYMENT))
        outpoint = whole["tx"]["inputs"][0]["previous_output"]
        for wrong in (True, "0", " 0", -1, 2**32, None, [0]):
            outpoint["vout"] = wrong
            self.refused(ErrorCode.BAD_FIELD, json.dumps(whole).encode())
        outpoint["vout"] = 0
        padded = (f"{H} ", f"{H}\n", f"\n{H}", f"0x{H[2:]}", H[:-1], H + "ab")
        for wrong in (*padded, H.upper(), "\uff11" * 64, "g" * 64, 7, None):
            outpoint["txid"] = wrong
            self.refused(ErrorCode.BAD_FIELD, json.dumps(whole).encode())
            listed = {"type": "Finalized", "txids": [H, wrong], "next": 2, "head": 2}
            self.refused(ErrorCode.BAD_FIELD, json.dumps(listed).encode())
        self.assertEqual(decode(encode(GetTransaction(txid=H))), GetTransaction(txid=H))

    def test_h14_names(self) -> None:
        """A subscriber's name has 1 to 64 characters that look like nothing else."""
        def unsubscribe(name: str) -> bytes:
            return json.dumps({"type": "UTXOUnsubscribe", "subscriber_id": name}).encode()

        for good in ("a", "w1", "A.b:c-d_E", "x" * 64):
            decode(unsubscribe(good))
        for wrong in ("", "x" * 65, "а", "a b", "a\n", "\na", "a\u202eb", "a\x00", "é", "a/b", "<b>", "%s", "\x1b[31m"):
            self.refused(ErrorCode.BAD_FIELD, unsubscribe(wrong))

    def test_lists_have_their_limits(self) -> None:
        """One item more than the limit is refused as a whole, before anything is looked at."""
        self.assertIsInstance(decode(query(json.dumps([0] * limits.QUERY))), UTXOStateQuery)
        self.refused(ErrorCode.BAD_FIELD, query(json.dumps([0] * (limits.QUERY + 1))))
        fetch = b'{"type":"GetTransactions","txids":%s}'
        decode(fetch % json.dumps([H] * limits.FETCH).encode())
        self.refused(ErrorCode.BAD_FIELD, fetch % json.dumps([H] * (limits.FETCH + 1)).encode(), fetch % b"[]")


class Fuzz(SynchronousTestCase):
    def judged(self, payload: bytes) -> None:
        """A message or a Refusal: anything else is a crash of the node."""
        try:
            message = decode(payload)
        except Refusal as refusal:
            self.assertIsInstance(refusal.code, ErrorCode)
        else:
            self.assertEqual(decode(encode(message)), message)

    @settings(max_examples=100 * FUZZ)
    @given(st.binary(max_size=200))
    @example(b'{"type":"\xff')
    @example(b'"' * 50)
    @example(b"\\" * 50)
    def test_any_bytes(self, payload: bytes) -> None:
        """Random bytes."""
        self.judged(payload)

    @settings(max_examples=100 * FUZZ)
    @given(st.dictionaries(st.sampled_from(["type", "id", "tx", "outpoints"]) | st.text(max_size=5), JSON, max_size=4))
    def test_any_object(self, value: Any) -> None:
        """Random JSON objects, some of which nearly say something."""
        self.judged(json.dumps(value).encode())
        self.judged(json.dumps({"type": "UTXOStateQuery"} | value).encode())

    @settings(max_examples=100 * FUZZ)
    @given(messages(), st.data())
    def test_nearly_a_message(self, message: Any, data: st.DataObject) -> None:
        """A good message with one byte changed, added or taken away, or cut anywhere."""
        payload = encode(message)
        at = data.draw(st.integers(0, len(payload) - 1))
        byte = data.draw(st.binary(min_size=1, max_size=1) | st.sampled_from([bytes([each]) for each in b'"{[-.e0']))
        self.judged(payload[:at] + byte + payload[at + 1 :])
        self.judged(payload[:at] + byte + payload[at:])
        self.judged(payload[:at] + payload[at + 1 :])
        self.judged(payload[:at])
        self.judged(payload + byte)


class AnyJson(SynchronousTestCase):
    @given(JSON)
    def test_reads_what_the_standard_library_writes(self, value: Any) -> None:
        """Any value inside the profile is read as itself, plain or escaped."""
        self.assertEqual(parse_json(json.dumps(value).encode()), value)
        self.assertEqual(parse_json(json.dumps(value, ensure_ascii=False, indent=1).encode()), value)

    @given(st.text(max_size=100))
    def test_nesting_of_any_text(self, text: str) -> None:
        """Counting brackets ends on any bytes, and sees none in a JSON string."""
        self.assertGreaterEqual(nesting(text.encode()), 0)
        self.assertEqual(nesting(json.dumps(text).encode()), 0)


class Documents(SynchronousTestCase):
    def test_a_document_is_for_people(self) -> None:
        """Indented, with a final new line, and read back as it was."""
        text = codec.dump_document(GENESIS)
        self.assertTrue(text.endswith(b"}\n"))
        self.assertGreater(text.count(b"\n"), 10)
        self.assertEqual(codec.load_document(text, Genesis, "g"), GENESIS)

    def test_a_wrong_document_is_named(self) -> None:
        """Which file, and what is wrong with it."""
        for text in (b"", b"{", b"[]", b'{"version":1}', b"\xff"):
            error = self.assertRaises(ConfigurationError, codec.load_document, text, Genesis, "the file g.json")
            self.assertTrue(str(error).startswith("the file g.json cannot be read: "))

    def test_records_are_read_back(self) -> None:
        """What the store keeps is what it was given."""
        for record in (PAYMENT, PAYMENT.outputs[0], TransactionRecord(PAYMENT, "pending"), OwnVotes(lock=3)):
            self.assertEqual(codec.unpacker(type(record)).decode(codec.pack(record)), record)
