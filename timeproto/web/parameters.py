"""The values that requests carry, and how a payment may be refused: declared once, for the server and its document."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from timeproto.errors import ErrorCode
from timeproto.model.canonical import Hex32
from timeproto.model.transaction import AddressText
from timeproto.web import bounds
from timeproto.web.routes import Parameter
from timeproto.wire.messages import Count

OutpointText = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}:(0|[1-9][0-9]{0,8})\Z")]
"""No transaction, and no genesis, has so many outputs that a tenth digit of ``vout`` could name a coin."""
CursorText = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}:(0|[1-9][0-9]{0,17})\Z")]
Height = Annotated[int, Meta(ge=1, le=2**63 - 1)]
_CoinsLimit = Annotated[int, Meta(ge=1, le=bounds.WEB_COINS_PAGE)]
_BlocksLimit = Annotated[int, Meta(ge=1, le=bounds.WEB_BLOCKS_PAGE)]

OUTPOINT = Parameter("outpoint", OutpointText, "a coin, as txid:vout")
ADDRESS = Parameter("address", AddressText, "an address of this network")
TXID = Parameter("txid", Hex32, "a transaction's id, 64 digits of lower-case hex")
HEIGHT = Parameter("height", Height, "the height of a decided block, from 1")

PAGE = (
    Parameter("after", OutpointText, "the last coin of the page before, as txid:vout", "query"),
    Parameter("limit", _CoinsLimit, f"1 to {bounds.WEB_COINS_PAGE} coins", "query", 50),
    Parameter("spent", bool, "true to see those spent for ever too, after the others, or false", "query", False),
)
BLOCKS_PAGE = (
    Parameter("before", Height, "the height below which to begin", "query"),
    Parameter("limit", _BlocksLimit, f"1 to {bounds.WEB_BLOCKS_PAGE} blocks", "query", 20),
)
SINCE = Parameter("since", Count, "the number to begin with, from 0", "query", 0)
STREAM_FILTER = (
    Parameter("address", AddressText, "an address whose coins to watch", "query", many=True),
    Parameter("outpoint", OutpointText, "a coin to watch, as txid:vout", "query", many=True),
    Parameter("txid", Hex32, "a transaction whose steps to watch", "query", many=True),
    Parameter("since", CursorText, "the event id after which to begin, as NODE_KEY:POSITION", "query"),
    Parameter("proofs", bool, "true to have the finality proofs in the events, or false", "query", True),
)
_BODY_REFUSES = (ErrorCode.BAD_JSON, ErrorCode.BAD_NUMBER, ErrorCode.BAD_ENCODING, ErrorCode.TOO_DEEP)
WEBHOOK_REFUSES = (
    *_BODY_REFUSES, ErrorCode.BAD_ADDRESS, ErrorCode.BAD_SIGNATURE, ErrorCode.NOT_OWNER, ErrorCode.NOT_AUTHORISED,
    ErrorCode.NOT_FOUND, ErrorCode.BUSY,
)
SUBMIT_REFUSES = (
    *_BODY_REFUSES, ErrorCode.TXID_MISMATCH,
    ErrorCode.BAD_SIGNATURE, ErrorCode.BAD_ADDRESS, ErrorCode.INVALID_TRANSACTION, ErrorCode.DUST,
    ErrorCode.FEE_TOO_LOW, ErrorCode.VALUE_MISMATCH, ErrorCode.UNKNOWN_INPUT, ErrorCode.NOT_OWNER,
    ErrorCode.DOUBLE_SPEND, ErrorCode.ABORTED, ErrorCode.ALREADY_FINAL, ErrorCode.NOT_VOTING, ErrorCode.NOT_SYNCED,
    ErrorCode.BUSY, ErrorCode.GOING_AWAY,
)
