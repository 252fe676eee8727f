"""The bounds of the web port, with their relations. Sizes are bytes, times are seconds, unless a name says otherwise.

An ``over_limit`` error of the web port names its limit by its name here, in lower case.
"""

from __future__ import annotations

from timeproto import limits

# -- requests ----------------------------------------------------------------------------------------
WEB_TARGET = 2 * 1024
"""Longest request target; beyond it 414."""
WEB_HEADERS = 100
"""Header lines of one request …"""
WEB_HEADER_BYTES = 12 * 1024
"""… and their bytes, with the request line; beyond either 431."""
WEB_BODY = 1024 * 1024
"""Largest request body; beyond it 413. A transaction of the largest size fits."""
WEB_QUERY_FIELDS = 128
"""Fields of one query string."""
WEB_HEAD_TIME = 10.0
"""From the connection, or the first byte of a later request, to the end of its headers; TLS counts in."""
WEB_BODY_TIME = 30.0
"""From the end of the headers to the end of the body."""
WEB_IDLE = 60.0
"""Silence between two requests of one connection."""
WEB_STALL = 30.0
"""How long a reader may take to make room for more of an answer."""
WEB_LINGER = 2.0
"""How long bytes are thrown away after a refusal in the middle of a request, so that the refusal is read."""

# -- who asks ----------------------------------------------------------------------------------------
WEB_CONNECTIONS = 512
WEB_CONNECTIONS_PER_BLOCK = 64
"""Connections of one address block (an IPv4 address, an IPv6 /64); loopback is exempt: a proxy is many people."""
WEB_COST_PER_SECOND = 200.0
"""Cost of the requests of one address block; those above it are answered later, not refused."""
WEB_COST_BURST = 400.0
WEB_COST_DEBT = 2_000.0
"""Cost that may wait for its turn; beyond it requests are refused with ``over_limit``."""
WEB_BLOCKS_KNOWN = 4_096
"""Address blocks whose cost is remembered."""

# -- answers -----------------------------------------------------------------------------------------
WEB_COINS_PAGE = 200
"""Coins in one page of an address."""
WEB_BALANCE_COINS = 1_000
"""Coins summed for one balance; of a richer address the sum is marked incomplete."""
WEB_BLOCKS_PAGE = 50
WEB_LINES_KEPT = 2_000
"""Decided blocks whose line in the list is remembered."""
WEB_CONTESTED = 200
"""Contested transactions listed."""

# -- server-sent events ------------------------------------------------------------------------------
WEB_STREAMS = 128
"""Event streams over all connections."""
WEB_STREAM_FILTER = 100
"""Addresses, outpoints and txids one stream may ask for."""
WEB_STREAM_PAGE = 100
"""Transitions read from the log, or written to one reader, at a time."""
WEB_STREAM_BEAT = 15.0
"""Pause between two watermarks of a silent stream."""
FEED_KEPT = 2_048
"""Newest transitions kept encoded, so that each is encoded once for all streams …"""
FEED_BYTES = 16 * 1024 * 1024
"""… and their bytes; streams further behind read the log."""
STEPS_KEPT = 20_000
"""Transactions whose steps, with their times, are remembered."""
FINALS_KEPT = 500
"""Newest final payments whose time to finality is remembered."""
PROOFS_COUNTED = 1_000
"""Newest finality proofs over which a masternode's part is counted."""

# -- WebSocket ---------------------------------------------------------------------------------------
SOCKET_MESSAGE = limits.FRAME_WALLET
"""Largest message, over all its fragments: what a wallet's frame may hold over TCP."""
SOCKET_FRAGMENTS = 1_024
"""Frames in one message."""
SOCKETS = 256
"""WebSocket connections, among ``WEB_CONNECTIONS``."""

_RELATIONS = (
    limits.TRANSACTION_SIZE * 6 < WEB_BODY,
    WEB_TARGET < WEB_HEADER_BYTES,
    WEB_STREAMS + SOCKETS < WEB_CONNECTIONS,
    WEB_CONNECTIONS_PER_BLOCK < WEB_CONNECTIONS,
    WEB_COINS_PAGE <= WEB_BALANCE_COINS,
    WEB_BALANCE_COINS <= limits.QUERY,
    WEB_BLOCKS_PAGE <= WEB_LINES_KEPT,
    WEB_STREAM_PAGE < FEED_KEPT,
    # a filter of outpoints fits the request target with room for its names
    WEB_STREAM_FILTER <= WEB_QUERY_FIELDS,
    WEB_COST_BURST < WEB_COST_DEBT,
    WEB_STREAM_BEAT < WEB_STALL,
    FEED_BYTES > limits.FRAME_PEER,
)
assert all(_RELATIONS), _RELATIONS
