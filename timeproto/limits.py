"""Every bound of the system, in one place, with the relations between them asserted.

Sizes are bytes, times are seconds, unless a name says otherwise. ``GetInfo`` publishes this module
(:func:`published`), and an ``over_limit`` error names the limit by its name here.
"""

from __future__ import annotations

# -- frames ------------------------------------------------------------------------------------------
FRAME_WALLET = 64 * 1024
"""Largest frame before the handshake, and from a wallet ever."""
FRAME_PEER = 4 * 1024 * 1024
"""Largest frame between masternodes, and from a node to a wallet."""
FRAME_SMALL = 4 * 1024
"""Largest JSON of a message that names one thing, or none (wire.codec)."""
SQUEEZE = 1_400
"""Shortest frame that is worth compressing: what is shorter goes in one segment of TCP either way."""
NESTING = 16
"""Deepest nesting of a JSON text."""

# -- transactions ------------------------------------------------------------------------------------
TRANSACTION_SIZE = 100_000
"""Largest canonical encoding of a transaction."""
INPUTS = 1_000
OUTPUTS = 1_000
INPUTS_WALLET = 115
"""Coins in one payment of our wallet: spelled as JSON, each with a key of its own, they fit ``FRAME_WALLET``."""

# -- masternodes and votes ---------------------------------------------------------------------------
MASTERNODES = 256
BATCH_VOTES = 4_096
"""Most votes of one kind in one vote batch."""
PROOF_PATH = 14
"""Longest Merkle path of one vote: three kinds of ``BATCH_VOTES`` leaves."""

# -- blocks ------------------------------------------------------------------------------------------
BLOCK_TRANSACTIONS = 2_000
BLOCK_WORTH, BLOCK_HASTE = 500, 5.0
"""Transactions in line for which a block does not wait, if they came within so many seconds of the last one: all have
its work at the same moment, and payments wait. Where they come more slowly a block is in no hurry."""
CONFIRMED_AT_ONCE = 100
"""Transactions of decided blocks that are marked Confirmed in one step, at least …"""
CONFIRM_PARTS = 20
"""… and into how many parts what is to be marked is cut after a block …"""
CONFIRM_BLOCKS = 3
"""… of so many blocks at most: what older ones contain is marked with the next …"""
CONFIRM_PAUSE = 0.05
"""… with so many seconds between two: every masternode has the same to do at the same moment, and payments wait."""
BLOCK_VERDICTS = 2_000
BLOCK_BYTES = 2 * 1024 * 1024
"""JSON of one block, its verdicts' certificates counted: a proposer leaves the rest to the next block."""
BLOCK_PATH = 12
"""Longest Merkle path in a block: a coinbase, its transactions, its verdicts."""
BLOCKS_PAGE = 50
"""Decided blocks in one page of ``Blocks``, if they fit a frame."""
BACKLOG = 200_000
"""Final transactions that are in no block yet; beyond it wallets are told ``busy``."""
CLOCK_AHEAD = 10.0
"""How far a block's time may be ahead of a voter's clock."""
BLOCK_LAG = 2.0
"""By how much less than the interval a replica waits after a block: what passes from its time to its decision."""
PROPOSE_TIME = 2.0
"""How long a replica waits for a proposal and what it names, in round 0 …"""
VOTE_TIME = 1.0
"""… for the rest of the votes once a quorum has voted, but not for one block …"""
ROUND_TIME = 0.5
"""… and by how much both grow with each round …"""
ROUND_TIME_MAX = 60.0
"""… up to this."""
ROUNDS_KEPT = 64
"""Rounds of one height whose votes are kept …"""
WORDS_PAGE = 3 * ROUNDS_KEPT
"""Words about blocks in one answer."""
BODIES_KEPT = 16
"""… and blocks of it whose bodies are: this round's, what binds this replica, and the newest others."""
CONTEST_DELAY = 2.0
"""From the contest of a transaction to the abort vote of a replica that holds no lock certificate for it."""
CERTIFIED_WAIT = 8.0
"""From the arrival of a transaction that nobody contests to a verdict by its lock certificate, if it is not final."""

# -- what a replica keeps in memory ------------------------------------------------------------------
IN_FLIGHT = 50_000
"""Undecided transactions; beyond it wallets are told ``busy`` …"""
IN_FLIGHT_PEER = 100_000
"""… and beyond this one those of peers are left to be fetched again later. The n-th part of it is what wallets may have
brought of which the other masternodes do not know."""
IN_FLIGHT_BYTES, IN_FLIGHT_PEER_BYTES = 32 * 1024 * 1024, 64 * 1024 * 1024
"""The same in bytes, canonical and of signatures; usual payments, about 300 bytes, reach the numbers first. In memory
they are three times that if they have many outputs, and eleven times if they have many inputs: 350 and 700 MB."""
RIVALS_PER_OUTPOINT = 16
"""Transactions kept that want one coin, beside those that bring the lock vote of one who locked none of them."""
ORPHANS_PEER = 1_000
"""Transactions of one masternode that wait for a parent."""
ORPHANS_WALLET = 512
"""Transactions of wallets that wait for a parent: more than one step takes in, so that a chain can be sent at once."""
ORPHANS_BYTES = 4_000_000
"""Bytes of the transactions that wait for a parent, of one masternode or of all wallets: seven times that in memory."""
ORPHAN_WAIT_WALLET = 5.0
"""How long a wallet's transaction waits for its parent before the wallet is told ``unknown_input``."""
ORPHAN_WAIT_PEER = 1_200.0
VOTES_KEPT = 300_000
"""Votes in the batches that are kept of one voter, since a vote of each counts for an undecided payment."""
EARLY_VOTES = 10_000
"""Votes kept, of one voter, for transactions this replica has not seen."""
EARLY_WAIT = 1_200.0
"""How long votes are kept for a transaction that nobody can show."""
RECENTLY_FINAL = 20_000
"""Final transactions remembered in memory, so that a late vote costs nothing."""
RECORDS_AT_HAND = 8_000
"""Records of what is final and in no block yet that are kept in memory: several blocks' worth. The others are read."""
COINS_AT_HAND = 100_000
"""Coins kept in memory since a payment came to them or made them, but none that a block has confirmed as spent; of 360
bytes each. To read one that is not there costs 6 µs on a young store and 17 on an older one, of 300 to 350 that a
payment costs in all.
"""
TICK = 1.0
"""Pause between two rounds of asking peers for what is missing …"""
LATE = 3.0
"""… and how long one that is here is undecided before others are asked for votes: a busy network takes a second."""
VOTE_LEAVES = 8_192
"""Hashes of votes for one transaction, kept for those who vote alike."""
VERIFIED_WORDS = 8_192
"""Verified words about blocks that are remembered, and as many batches of votes and cancels of owners, so that a second
copy, which comes after ``LATE``, costs no check of its signature."""
REFUSED_CACHE = 10_000
"""Refused transactions remembered, so that the same bytes are not verified again."""
EVIDENCE_PER_VOTER = 8
"""Pieces of evidence of each kind kept against one masternode: one may hold two whole transactions."""
EVIDENCE = 2 * MASTERNODES * EVIDENCE_PER_VOTER
"""Pieces of evidence kept in all."""
EVIDENCE_PAGE = 2
"""Pieces of evidence in one answer: each may hold two transactions of the largest size."""

# -- requests ----------------------------------------------------------------------------------------
QUERY = 1_000
"""Outpoints in one query; coins in one page of an address."""
SUBSCRIPTIONS = 16
"""Subscriptions of one connection."""
FILTER = 1_000
"""Outpoints and addresses, together, in one subscribe request."""
FILTERS_CONNECTION = 20_000
"""Outpoints and addresses watched by one connection, the inputs of its own undecided payments among them."""
SUBSCRIPTIONS_NODE = 50_000
"""Subscriptions of one node, over all connections …"""
FILTERS_BLOCK = 60_000
"""The same of all connections of one address block, and its leases that wait, but for those with an operator's key …"""
FILTERS_NODE = 300_000
"""… and what they watch: outpoints and addresses, about half a kilobyte each."""
LEASE = 3_600.0
"""Longest time for which a subscription is granted, and kept while nobody is connected …"""
LEASE_LEAST = 10.0
"""… and the shortest …"""
LEASE_NOTICE = 0.25
"""… and the share of it that is left when its end is announced."""
PARKED = 10_000
"""Subscriptions kept for wallets that are not connected; the oldest goes first …"""
PARKED_BLOCK = 2_000
"""… and those of one address block, of which the same is true."""
LEASES_KEY = SUBSCRIPTIONS
"""Leases of one key; those that wait for their wallet go before one is refused."""
HANDOVERS = 64
"""Leases that are being asked for at other masternodes."""
HANDOVER_TIME = 2.0
"""How long that may take: a wallet waits for it, and can name its items instead."""
WATERMARK = 15.0
"""Pause between two watermarks of a feed that has nothing to tell."""
REPLAY = 50_000
"""Entries of the log that are read again for a cursor; a longer way is a ``reset``."""
REPLAY_PAGE = 128
"""Entries read from the log at once …"""
REPLAY_PAGES = 64
"""… pages of them that are kept …"""
REPLAY_BYTES = 16 * 1024 * 1024
"""… and bytes of their notifications …"""
REPLAY_TURN = 32
"""… how many of those one feed is sent before all others have their turn …"""
REPLAY_RATE = 20_000
"""… and how many entries a second are read for all feeds together, on the average."""
FEED_QUEUE = 1024 * 1024
"""Bytes waiting for a reader at which its live feed stops, to go on from the log as it reads …"""
FEED_PAUSE = 0.1
"""… which is looked after so often."""
INCOMING = 50_000
"""Inputs and outputs of the payments on their way that are remembered because somebody was told of them."""
INCOMING_SCAN = 4_000
"""Inputs and outputs that are looked at to show those who begin to listen what is on its way …"""
INCOMING_PAUSE = 0.1
"""… at most so often …"""
INCOMING_FEEDS = 32
"""… for so many of them at once …"""
INCOMING_SHOWN = 100
"""… and the most payments that each is shown."""
TRACE_RIVALS = 32
"""Rivals told of one transaction …"""
TRACE_COINS = 32
"""… and how many of its coins, and of the verdicts that came with its own, are looked at for them."""
FETCH = 500
"""Transaction ids in one ``GetTransactions`` or ``GetVotes``."""
ANSWER = 16 * 1024 * 1024
"""Bytes of JSON at which one answer with transactions or votes ends: less than may wait for a masternode."""
BATCHES_PAGE = 1_000
"""Vote batches in one ``Votes``."""
CATCH_UP_PAGE = 2_000
"""Transaction ids in one page of ``Finalized``."""
PEERS_PAGE = 256

# -- connections -------------------------------------------------------------------------------------
CONNECTIONS = 4_096
"""Connections that are served: about 100 kB each, with TLS. Where so many files may not be open, fewer."""
CONNECTIONS_PER_BLOCK = 512
"""Of one IPv4 address, or one IPv6 /64; the loopback is exempt."""
STRANGERS = 1_024
"""Connections that have no place yet (network.house); past that one of the address block with most of them goes."""
LISTEN_QUEUE = 1_024
"""Connections that the system keeps until they are accepted: many wallets may come back in one moment."""
HANDSHAKE = 10.0
"""From connection to the end of the (TLS and) handshake."""
FRAME_TIME = 30.0
"""From the first to the last byte of a frame."""
IDLE = 60.0
"""Silence after which we send a ping."""
PONG = 15.0
"""Silence after our ping until the connection is aborted."""
CLOSE = 5.0
"""From ``loseConnection`` to ``abortConnection``."""
ANSWERS_QUEUE = 64 * 1024
"""Bytes waiting for a wallet beyond which it is asked nothing more, until it has read them …"""
OUT_QUEUE_WALLET = 4 * 1024 * 1024
"""… and beyond which its connection is aborted."""
OUT_QUEUE_PEER = 64 * 1024 * 1024
COST_PER_SECOND = 4_000
"""What a wallet's connection may cost (network.costs); what is above it is served later, not refused …"""
COST_BURST = 8_000
COST_BLOCK_PER_SECOND = 5_000
"""… and what all connections of one address block may, over TCP, WebSocket and HTTP together …"""
COST_BLOCK_BURST = 16_000
COST_NODE_PER_SECOND = 5_000
"""… and all wallets together, about an eighth of a core: when they ask for more, each one's share shrinks."""
HELD_ON_END = 20.0
"""Seconds that a connection may be held back on end while more of it waits: then it waits for no answers, and goes."""
COST_NEWCOMERS_PER_SECOND = 5_000
"""What those who connect may cost all together, TLS handshakes and first garbage: past it newcomers wait …"""
COST_NEWCOMERS_BURST = 60_000
"""… but not when a thousand wallets come back in one moment …"""
WELCOME = 3.0
"""… and never longer than this: whoever it is may be a masternode."""
FRAMES_IN_A_ROW = 64
"""Frames of one wallet that are handed on in a row: then others have their turn."""
DEBT = 10.0
"""Seconds of its rate that somebody may owe; past it requests are refused, past twice as much the connection closes."""
BLOCKS_KNOWN = 4_096
"""Address blocks without a connection whose debts are remembered."""
KEYS = 1_000
"""Keys that an operator may give out …"""
KEY_COST_PER_SECOND = 10_000_000
"""… the largest quota of one …"""
KEY_BURST = 2
"""… and the seconds of it that may be spent at once."""
REQUESTS = 10_000
"""Requests of one connection that await their reply."""
STEP_INPUTS = 400
"""Inputs taken into one step, by weight (masternode.inbox): a step is the longest the reactor is kept. Less than that,
with no more signatures, is checked in the reactor: to pass it to a thread cost a sixteenth of what a busy node does."""
READ_TIME = 0.002
"""Seconds of wallets' questions that are answered in a row, before a step and whatever else waits has its turn."""
FAN_OUT = 128
"""Connections that one of many messages is written to before the reactor has its turn: about a millisecond …"""
FAN_OUT_BYTES = 1024 * 1024
"""… and the bytes of them, for the same reason."""
COMMIT_AT_ONCE = 1_000
"""Transitions, of about two hundred payments, that are committed in the reactor. The store lets no other thread run
while it writes, so one could take off the reactor some milliseconds of packing, and waits for its turn twice."""
INBOX = 100_000
"""Inputs that wait for the replica, by weight: of wallets, and as much of masternodes, of one at most a quarter …"""
INBOX_SHARE = 200
"""… and so much of each, whatever others send."""
REQUEST_TIME = 20.0
"""How long we wait for a reply of ours before the request fails with ``timeout``."""
CERTIFICATE_LOOK = 30.0
"""Pause between two looks at the files of the TLS certificate."""
DISK_LOOK = 10.0
"""Pause between two looks at the room on the disk …"""
DISK_LOW = 512 * 1024 * 1024
"""… and the bytes below which it is almost full."""
RECONNECT_MAX = 60.0
"""Longest pause between two dials of one peer."""
MISBEHAVIOUR = 100
"""Penalty points (see errors.POLICY) at which an authenticated peer is shut out …"""
BAN = 600.0
"""… and for how long."""

_RELATIONS = (
    FRAME_SMALL < FRAME_WALLET < FRAME_PEER,
    # the longest lists of txids fit a wallet's frame
    FETCH * 67 + 1_000 < FRAME_WALLET,
    # a whole transaction of the largest size, as JSON arrays, fits a peer's frame; so do two for each piece of evidence
    TRANSACTION_SIZE * 6 < FRAME_PEER,
    EVIDENCE_PAGE * (2 * TRANSACTION_SIZE * 6 + 10_000) < FRAME_PEER,
    # a wallet's largest payment, 279 + 256 bytes of JSON for an input and its signature, fits a wallet's frame
    INPUTS_WALLET * 535 + 1_000 < FRAME_WALLET,
    INPUTS_WALLET <= INPUTS,
    # a full vote batch and its three lists fit a peer's frame
    3 * BATCH_VOTES * 68 < FRAME_PEER,
    3 * BATCH_VOTES <= 2**PROOF_PATH,
    # a reply to the longest query fits a frame
    QUERY * 700 < FRAME_PEER,
    CATCH_UP_PAGE * 68 < FRAME_PEER,
    # so does a trace: a largest transaction, proof and place in a block, all voters three times, all rivals
    TRANSACTION_SIZE * 6 + MASTERNODES * (PROOF_PATH * 67 + 1_400) + TRACE_RIVALS * 400 < FRAME_PEER,
    # a largest proof: every masternode's signature with the longest path
    MASTERNODES * (PROOF_PATH * 67 + 400) < FRAME_PEER,
    # a block with its commit, and as a proposal with its vote, fits a peer's frame, and all its leaves a path
    BLOCK_BYTES + MASTERNODES * 500 + 4_000 < FRAME_PEER,
    BLOCK_TRANSACTIONS * 68 < BLOCK_BYTES,
    1 + BLOCK_TRANSACTIONS + BLOCK_VERDICTS <= 2**BLOCK_PATH,
    BLOCK_WORTH <= BLOCK_TRANSACTIONS < BACKLOG,
    ANSWERS_QUEUE < OUT_QUEUE_WALLET,
    FRAME_PEER <= OUT_QUEUE_WALLET <= OUT_QUEUE_PEER,
    PONG < IDLE,
    STRANGERS < CONNECTIONS,
    CONTEST_DELAY < CERTIFIED_WAIT,
    # who is held back is not taken for dead, and its wallet does not give a request up before it is read
    2 * DEBT < IDLE,
    DEBT < REQUEST_TIME,
    3 * WELCOME < HANDSHAKE,
    COST_PER_SECOND <= COST_BLOCK_PER_SECOND <= COST_NODE_PER_SECOND,
    STEP_INPUTS < ORPHANS_WALLET,
    FILTER <= FILTERS_CONNECTION < FILTERS_BLOCK < FILTERS_NODE,
    SUBSCRIPTIONS < PARKED_BLOCK < PARKED < SUBSCRIPTIONS_NODE,
    LEASE_LEAST < LEASE,
    # the longest filter of one lease fits a frame: an outpoint takes up to 98 bytes of JSON
    FILTERS_CONNECTION * 98 + 1_000 < FRAME_PEER,
    HANDOVER_TIME < REQUEST_TIME,
    # a feed stops well before its connection is cut off, and one more notification with a largest proof does no harm
    FEED_QUEUE * 2 <= OUT_QUEUE_WALLET,
    MASTERNODES * (PROOF_PATH * 67 + 400) < FEED_QUEUE,
    # whoever begins to listen is shown less than stops a feed: 450 bytes of JSON for a coin that pays one output
    INCOMING_SCAN // 2 * 450 < FEED_QUEUE,
    INPUTS + OUTPUTS < INCOMING_SCAN < INCOMING,
    REPLAY_TURN <= REPLAY_PAGE,
    REPLAY_PAGE * REPLAY_PAGES < REPLAY,
    ORPHANS_PEER <= IN_FLIGHT < IN_FLIGHT_PEER,
    600 * IN_FLIGHT < IN_FLIGHT_BYTES < IN_FLIGHT_PEER_BYTES,
    TRANSACTION_SIZE + 64 * INPUTS <= ORPHANS_BYTES,
    # the largest batch is kept, and all that is kept of one voter fits what may wait for it; so does any answer
    3 * BATCH_VOTES + 8 <= VOTES_KEPT,
    VOTES_KEPT * 67 + VOTES_KEPT // 9 * 500 < OUT_QUEUE_PEER,
    ANSWER + 2 * FRAME_PEER < OUT_QUEUE_PEER,
    ORPHAN_WAIT_WALLET < REQUEST_TIME,
)
assert all(_RELATIONS), _RELATIONS


def published(connections: int | None = None) -> dict[str, int]:
    """The limits a wallet author needs, as whole numbers: name → value (times in milliseconds, ``_ms``).

    ``connections``: if a node serves fewer than it might.
    """
    sizes = {
        "frame_wallet": FRAME_WALLET,
        "frame_peer": FRAME_PEER,
        "frame_small": FRAME_SMALL,
        "nesting": NESTING,
        "transaction_size": TRANSACTION_SIZE,
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "query": QUERY,
        "subscriptions": SUBSCRIPTIONS,
        "filter": FILTER,
        "filters_connection": FILTERS_CONNECTION,
        "subscriptions_node": SUBSCRIPTIONS_NODE,
        "filters_block": FILTERS_BLOCK,
        "filters_node": FILTERS_NODE,
        "leases_key": LEASES_KEY,
        "replay": REPLAY,
        "incoming_scan": INCOMING_SCAN,
        "incoming_shown": INCOMING_SHOWN,
        "connections": CONNECTIONS if connections is None else connections,
        "connections_per_block": CONNECTIONS_PER_BLOCK,
        "cost_per_second": COST_PER_SECOND,
        "cost_burst": COST_BURST,
        "cost_block_per_second": COST_BLOCK_PER_SECOND,
        "cost_block_burst": COST_BLOCK_BURST,
        "cost_node_per_second": COST_NODE_PER_SECOND,
        "in_flight": IN_FLIGHT,
        "in_flight_bytes": IN_FLIGHT_BYTES,
        "out_queue_wallet": OUT_QUEUE_WALLET,
    }
    times = {
        "lease": LEASE,
        "watermark": WATERMARK,
        "handshake": HANDSHAKE,
        "frame_time": FRAME_TIME,
        "idle": IDLE,
        "pong": PONG,
        "debt": DEBT,
        "held_on_end": HELD_ON_END,
    }
    return sizes | {f"{name}_ms": int(seconds * 1000) for name, seconds in times.items()}
