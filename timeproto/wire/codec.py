"""The one place that knows JSON (protocol §7).

Strict: UTF-8 without BOM, no NaN, no floats, no ``-0``, no lone surrogates, nesting at most 16, unknown fields
and out-of-range integers refused; of a duplicate key the last value counts. The fast path is one typed decode
by msgspec; only a payload that fails is looked at again, to name what is wrong with it.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from timeproto import limits
from timeproto.errors import ConfigurationError, ErrorCode, Refusal
from timeproto.model.block import BlockVote
from timeproto.model.genesis import Genesis
from timeproto.wire import messages
from timeproto.wire.messages import (
    CATALOGUE,
    AnyMessage,
    UTXOStateQuery,
    UTXOSubscribe,
)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyMessage)
# Possessive, so that a string costs one step and not one for each character (measured: 0.3 instead of 2 ms for 60 kB).
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_STRING_OR_MINUS_ZERO = re.compile(_STRING + rb"|(-0(?![0-9.eE]))", re.DOTALL)
_STRING_OR_BRACKET = re.compile(_STRING + rb"|([\[{])|([\]}])", re.DOTALL)

_LARGEST: dict[Any, int] = dict.fromkeys(
    (
        messages.Handshake,
        messages.HandshakeAck,
        messages.Ping,
        messages.Pong,
        messages.TransactionAccepted,
        messages.TransactionCancel,
        messages.CancelAccepted,
        messages.UTXOUnsubscribe,
        messages.UTXOUnsubscribed,
        messages.UTXOWatermark,
        messages.UTXOSubscriptionNotice,
        messages.GetAddressUTXOs,
        messages.GetTransaction,
        messages.GetTrace,
        messages.GetFinalityProof,
        messages.GetEvidence,
        messages.GetGenesis,
        messages.GetInfo,
        messages.GetBudget,
        messages.Budget,
        messages.GetFinalized,
        messages.GetBlocks,
        messages.GetPeers,
        BlockVote,
    ),
    limits.FRAME_SMALL,
) | dict.fromkeys((messages.GetTransactions, messages.GetVotes, messages.Error), limits.FRAME_WALLET)
"""Bytes of JSON by type; of any other the frame's. All of them say what they say in less."""

_OPEN = (UTXOStateQuery, UTXOSubscribe)
"""The only messages with fields that take any JSON value, so the only ones that the schema does not bound."""

T = TypeVar("T")


def encode(message: Any) -> bytes:
    """The payload of a frame for ``message`` (any noun or message), without its length."""
    return _encoder.encode(message)


def extend(payload: bytes, name: str, noun: Any) -> bytes:
    """An encoded message with one more field behind the others: what is sent need not be encoded twice."""
    return b'%b,"%b":%b}' % (payload[:-1], name.encode("ascii"), _encoder.encode(noun))


def decode(payload: bytes) -> AnyMessage:
    """The message in a frame's payload, or :class:`Refusal` saying what is wrong with it."""
    try:
        if not payload.isascii():
            payload.decode("utf-8")
        message: AnyMessage = _decoder.decode(payload)
    except (ValueError, RecursionError) as error:
        raise _diagnose(payload, error) from None
    if len(payload) > limits.FRAME_SMALL and len(payload) > _LARGEST.get(type(message), limits.FRAME_PEER):
        raise _too_large(message, len(payload))
    if b"-" in payload and b"-0" in payload:  # the one byte is looked for 30 times as fast, and almost never there
        _refuse_minus_zero(payload)
    if isinstance(message, _OPEN):
        _require_depth(payload)
        _refuse_numbers(message.outpoints)
    return message


def _too_large(message: AnyMessage, size: int) -> Refusal:
    largest, name = _LARGEST[type(message)], type(message).__name__
    limit = "frame_small" if largest == limits.FRAME_SMALL else "frame_wallet"
    return Refusal(ErrorCode.FRAME_TOO_LARGE, f"{size} bytes are too long for a {name}", limit=limit, value=largest)


def _refuse_minus_zero(payload: bytes) -> None:
    if any(match[1] for match in _STRING_OR_MINUS_ZERO.finditer(payload)):
        raise Refusal(ErrorCode.BAD_NUMBER, "-0 is not an integer of this protocol")


def _require_depth(payload: bytes) -> None:
    if nesting(payload) > limits.NESTING:
        raise Refusal(
            ErrorCode.TOO_DEEP,
            f"JSON may nest at most {limits.NESTING} deep",
            limit="nesting",
            value=limits.NESTING,
        )


def nesting(payload: bytes) -> int:
    """How deep the brackets of a JSON text go, counted no further than is too deep; linear, no recursion."""
    depth = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(payload):
        if match[1]:
            depth += 1
            deepest = max(deepest, depth)
            if deepest > limits.NESTING:
                break
        elif match[2]:
            depth -= 1
    return deepest


def parse_json(payload: bytes) -> Any:
    """Any JSON value under the same strictness as a frame's, but with no schema; raises :class:`Refusal`."""
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(ErrorCode.BAD_ENCODING, f"the text is not UTF-8 (byte {error.start})") from None
    if payload.startswith(b"\xef\xbb\xbf"):
        raise Refusal(ErrorCode.BAD_ENCODING, "the text begins with a byte order mark")
    _require_depth(payload)
    try:
        value = msgspec.json.decode(payload)
    except msgspec.ValidationError as error:
        raise Refusal(ErrorCode.BAD_NUMBER, str(error)) from None
    except ValueError as error:
        raise Refusal(ErrorCode.BAD_JSON, str(error)) from None
    if b"-0" in payload:
        _refuse_minus_zero(payload)
    _refuse_numbers(value)
    return value


def _refuse_numbers(value: Any) -> None:
    if isinstance(value, float):
        raise Refusal(ErrorCode.BAD_NUMBER, "numbers are integers in this protocol")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise Refusal(ErrorCode.BAD_NUMBER, "an integer is out of range")
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for item in value:
        _refuse_numbers(item)


def _diagnose(payload: bytes, error: Exception) -> Refusal:
    """Why ``payload`` is no message. Linear in its length, and only ever run on one that failed."""
    try:
        value = parse_json(payload)
    except Refusal as refusal:
        return refusal
    if not isinstance(value, dict):
        return Refusal(ErrorCode.BAD_JSON, "a frame holds one JSON object")
    name = value.get("type")
    request_id = value.get("id")
    details: dict[str, str | int] = {}
    if type(request_id) is int and 0 <= request_id < 2**53:
        details["request_id"] = request_id
    if "type" not in value:
        return Refusal(ErrorCode.UNSUPPORTED, "`type` is missing", **details)
    if not isinstance(name, str):
        return Refusal(ErrorCode.UNSUPPORTED, "`type` is not a string", **details)
    if name not in CATALOGUE:
        return Refusal(ErrorCode.UNSUPPORTED, f"no message type is called {name[:64]!r}", **details)
    code = ErrorCode.BAD_NUMBER if "out of range" in str(error) else ErrorCode.BAD_FIELD
    return Refusal(code, f"{name}: {error}", **details)


# -- documents and records ---------------------------------------------------------------------------


def load_genesis(text: bytes, source: str) -> Genesis:
    """A genesis document, checked; ``source`` names it in the :class:`ConfigurationError`."""
    try:
        parse_json(text)
        return msgspec.json.decode(text, type=Genesis).check()
    except (Refusal, ValueError) as error:
        reason = error.message if isinstance(error, Refusal) else str(error)
        raise ConfigurationError(f"{source} is not a genesis document: {reason}") from None


def dump_document(noun: Any) -> bytes:
    """A noun as indented JSON with a final newline, for files that people read."""
    return msgspec.json.format(encode(noun), indent=2) + b"\n"


def load_document(text: bytes, shape: type[T], source: str) -> T:
    """A JSON document of the declared ``shape``; :class:`ConfigurationError` naming ``source`` if it is not."""
    try:
        return msgspec.json.decode(text, type=shape)
    except ValueError as error:
        raise ConfigurationError(f"{source} cannot be read: {error}") from None


_record_encoder = msgspec.msgpack.Encoder()


def pack(noun: Any) -> bytes:
    """A noun as a compact record for the store (MessagePack, fields by name, so fields may be added)."""
    return _record_encoder.encode(noun)


def unpacker(shape: type[T]) -> msgspec.msgpack.Decoder[T]:
    """A reusable reader of records of one declared shape."""
    return msgspec.msgpack.Decoder(shape)
