"""The bounds of the web port, with their relations. Sizes are bytes, times are seconds, unless a name says otherwise.

An ``over_limit`` error of the web port names its limit by its name here, in lower case.
"""

from __future__ import annotations

from timeproto import limits

# -- requests ----------------------------------------------------------------------------------------
WEB_TARGET = 7 * 1024
"""Longest request target; beyond it 414. The largest filter of an event stream fits."""
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
WEB_COMPLAINT = 60.0
"""Between two lines of the log about failures of one kind: whoever finds what is damaged may ask for it for ever."""

# -- who asks ----------------------------------------------------------------------------------------
WEB_CONNECTIONS = 512
WEB_CONNECTIONS_PER_BLOCK = 64
"""Connections of one address block (an IPv4 address, an IPv6 /64); loopback is exempt: a proxy is many people."""
WEB_COST = 20
"""What a plain question over HTTP costs (network.costs); others cost a multiple of it (routes.Route.cost)."""

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
WEB_STREAM_FILTER = 80
"""Addresses, outpoints and txids one stream may ask for."""
WEB_STREAM_PAGE = 100
"""Transitions read from the log, or written to one reader, at a time …"""
WEB_STREAM_BYTES = 1024 * 1024
"""… and the bytes past which no further one is added."""
WEB_STREAM_READ = 1
"""What an entry of the log costs that is read again, besides its bytes (network.costs)."""
WEB_STREAM_BEAT = 15.0
"""Pause between two watermarks of a silent stream."""
FEED_KEPT = 2_048
"""Newest transitions kept encoded, so that each is encoded once for all streams …"""
FEED_BYTES = 16 * 1024 * 1024
"""… and their bytes; streams further behind read the log."""
LOCKS_KEPT = 20_000
"""Payments under way whose beginning is remembered."""
FINALS_KEPT = 500
"""Newest final payments whose time to finality is remembered."""
PROOFS_COUNTED = 1_000
"""Newest finality proofs over which a masternode's part is counted …"""
PROOFS_SHOWN = 24
"""… and how many of them are told one by one."""

# -- WebSocket ---------------------------------------------------------------------------------------
SOCKET_MESSAGE = limits.FRAME_WALLET
"""Largest message, over all its fragments: what a wallet's frame may hold over TCP."""
SOCKET_FRAGMENTS = 1_024
"""Frames in one message."""
SOCKETS = 256
"""WebSocket connections, among ``WEB_CONNECTIONS``."""

# -- webhooks ----------------------------------------------------------------------------------------
WEBHOOKS = 1_000
WEBHOOKS_PER_ADDRESS = 4
WEBHOOK_LIFE = 30 * 86_400.0
"""A wallet's webhook lapses after this time, unless its wallet asks again …"""
WEBHOOK_PATIENCE = 3 * 86_400.0
"""… or when nothing but failures came of it for so long."""
WEBHOOK_CLOCK = 300.0
"""How far the time in a wallet's request may be from the node's."""
WEBHOOKS_PER_BLOCK = 200
"""Of wallets in one address block; loopback is exempt: a proxy is many people."""
WEBHOOK_WAITING = 512
"""Requests of wallets that wait until what they changed is durable."""
WEBHOOK_POSTS = 16
"""POSTs under way at once, one for each webhook; …"""
WEBHOOK_SLOW_POSTS = 8
"""… so many of them to receivers that failed or were slow the last time, or were never asked yet."""
WEBHOOK_SLOW = 1.0
"""A POST that took longer was slow."""
WEBHOOK_EVENTS = 50
"""Transitions in one POST, fewer after failures …"""
WEBHOOK_BODY = 1024 * 1024
"""… and the bytes past which no further one is added."""
WEBHOOK_PAGE = 200
"""Entries of the transition log that are looked through at a time for one webhook."""
WEBHOOK_TIME = 10.0
"""From the look-up of the name to the status of the answer."""
WEBHOOK_DIAL = 4.0
"""For a connection to one of the addresses …"""
WEBHOOK_ADDRESSES = 2
"""… of which so many are tried."""
WEBHOOK_LOOKUPS = 32
"""Names being looked up, those counted whose POST is over."""
WEBHOOK_ANSWER = 64 * 1024
"""Bytes that a receiver may answer with before it is cut off."""
WEBHOOK_GOODBYE = 2.0
"""How long a receiver may take to close a connection that is over, …"""
WEBHOOK_GOODBYES = 64
"""… unless so many do; then the first of them is cut off."""
WEBHOOK_RETRY = 1.0
"""Pause after the first failure, doubled with each, …"""
WEBHOOK_RETRY_MOST = 3_600.0
"""… up to this; each between half and once and a half of it, by chance."""
WEBHOOK_RENEWED = 30.0
"""The most that is left of a pause when its wallet asks again."""
WEBHOOK_SAVE = 5.0
"""Pause between two savings of what was delivered: so much is delivered again after a crash."""

_RELATIONS = (
    limits.TRANSACTION_SIZE * 6 < WEB_BODY,
    WEB_TARGET < WEB_HEADER_BYTES,
    WEB_STREAMS + SOCKETS < WEB_CONNECTIONS,
    WEB_CONNECTIONS_PER_BLOCK < WEB_CONNECTIONS,
    WEB_COINS_PAGE <= WEB_BALANCE_COINS,
    WEB_BALANCE_COINS <= limits.QUERY,
    WEB_BLOCKS_PAGE <= WEB_LINES_KEPT,
    WEB_STREAM_PAGE < FEED_KEPT < limits.REPLAY,
    # a filter of outpoints, as outpoint=TXID%3AVOUT& each, fits the request target
    WEB_STREAM_FILTER <= WEB_QUERY_FIELDS,
    WEB_STREAM_FILTER * 87 < WEB_TARGET,
    # the dearest route can be asked at once
    20 * WEB_COST <= limits.COST_BURST,
    WEB_STREAM_BEAT < WEB_STALL,
    FEED_BYTES > limits.FRAME_PEER,
    WEBHOOK_SLOW_POSTS < WEBHOOK_POSTS <= WEBHOOK_LOOKUPS,
    # a system gives a name up within about four times as long: dead name servers do not fill the look-ups
    WEBHOOK_SLOW_POSTS * 4 <= WEBHOOK_LOOKUPS,
    WEBHOOK_SLOW < WEBHOOK_TIME,
    WEBHOOKS_PER_ADDRESS < WEBHOOKS_PER_BLOCK < WEBHOOKS,
    WEBHOOK_DIAL * WEBHOOK_ADDRESSES < WEBHOOK_TIME,
    WEBHOOK_RETRY < WEBHOOK_RENEWED < WEBHOOK_RETRY_MOST < WEBHOOK_PATIENCE < WEBHOOK_LIFE,
    WEBHOOK_PAGE <= FEED_KEPT,
    # what is in the hands of all POSTs together
    WEBHOOK_POSTS * (WEBHOOK_BODY + limits.FRAME_PEER) < 128 * 1024 * 1024,
)
assert all(_RELATIONS), _RELATIONS
