"""Everything that can be refused, by a closed set of codes.

A :class:`Refusal` says what was wrong in words a person can act on, under a code a program can act on.
``POLICY`` says, for each code, whether the connection survives it and how heavily it counts against an
*authenticated* sender. Framing errors close and never ban: a torn stream is nobody's crime.
"""

from __future__ import annotations

from enum import StrEnum

import attrs


class ErrorCode(StrEnum):
    """The codes an ``Error`` message may carry (protocol §7). Wallet authors may rely on this list."""

    # the bytes
    BAD_FRAME = "bad_frame"
    FRAME_TOO_LARGE = "frame_too_large"
    BAD_ENCODING = "bad_encoding"
    BAD_JSON = "bad_json"
    BAD_NUMBER = "bad_number"
    TOO_DEEP = "too_deep"
    BAD_FIELD = "bad_field"
    UNSUPPORTED = "unsupported"
    # the conversation
    NOT_AUTHORISED = "not_authorised"
    BAD_HANDSHAKE = "bad_handshake"
    WRONG_VERSION = "wrong_version"
    WRONG_NETWORK = "wrong_network"
    WRONG_GENESIS = "wrong_genesis"
    NOT_A_MASTERNODE = "not_a_masternode"
    DUPLICATE_LINK = "duplicate_link"
    IDENTITY_CONFLICT = "identity_conflict"
    TIMEOUT = "timeout"
    OVER_LIMIT = "over_limit"
    BUSY = "busy"
    GOING_AWAY = "going_away"
    INTERNAL = "internal"
    NOT_FOUND = "not_found"
    # the transaction
    TXID_MISMATCH = "txid_mismatch"
    BAD_SIGNATURE = "bad_signature"
    BAD_ADDRESS = "bad_address"
    INVALID_TRANSACTION = "invalid_transaction"
    DUST = "dust"
    FEE_TOO_LOW = "fee_too_low"
    VALUE_MISMATCH = "value_mismatch"
    UNKNOWN_INPUT = "unknown_input"
    NOT_OWNER = "not_owner"
    DOUBLE_SPEND = "double_spend"
    ABORTED = "aborted"
    ALREADY_FINAL = "already_final"
    # the node
    NOT_VOTING = "not_voting"
    NOT_SYNCED = "not_synced"
    # the votes
    BAD_VOTE = "bad_vote"
    BAD_PROOF = "bad_proof"


@attrs.frozen
class Policy:
    """What a code costs: ``closes`` the connection, ``penalty`` points against an authenticated sender."""

    closes: bool = False
    penalty: int = 0


_CLOSE = Policy(closes=True)
_FAULT = Policy(penalty=10)

POLICY: dict[ErrorCode, Policy] = {code: Policy() for code in ErrorCode} | {
    ErrorCode.BAD_FRAME: _CLOSE,
    ErrorCode.FRAME_TOO_LARGE: _CLOSE,
    ErrorCode.BAD_ENCODING: _CLOSE,
    ErrorCode.BAD_JSON: _CLOSE,
    ErrorCode.BAD_NUMBER: _CLOSE,
    ErrorCode.TOO_DEEP: _CLOSE,
    ErrorCode.BAD_FIELD: _CLOSE,
    ErrorCode.NOT_AUTHORISED: _CLOSE,
    ErrorCode.BAD_HANDSHAKE: _CLOSE,
    ErrorCode.WRONG_VERSION: _CLOSE,
    ErrorCode.WRONG_NETWORK: _CLOSE,
    ErrorCode.WRONG_GENESIS: _CLOSE,
    ErrorCode.NOT_A_MASTERNODE: _CLOSE,
    ErrorCode.DUPLICATE_LINK: _CLOSE,
    ErrorCode.IDENTITY_CONFLICT: _CLOSE,
    ErrorCode.TIMEOUT: _CLOSE,
    ErrorCode.GOING_AWAY: _CLOSE,
    ErrorCode.INTERNAL: _CLOSE,
    # Only what the sender itself must have known to be false counts against it.
    ErrorCode.BAD_VOTE: _FAULT,
    ErrorCode.BAD_PROOF: _FAULT,
    ErrorCode.BAD_SIGNATURE: _FAULT,
    ErrorCode.TXID_MISMATCH: _FAULT,
}


class Refusal(Exception):
    """The other side asked for something we do not do: goes out as one ``Error`` message.

    ``details`` holds what a program needs to act (``conflicting_txid``, ``outpoint``, ``limit`` …): flat,
    strings and integers only.
    """

    def __init__(self, code: ErrorCode, message: str, /, **details: str | int) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details = details

    @property
    def policy(self) -> Policy:
        return POLICY[self.code]


class ConfigurationError(Exception):
    """The operator asked for something that cannot be: one plain sentence, exit status 2."""


class StorageError(Exception):
    """The disk did not keep its promise: the node stops voting at once, exit status 3."""


class IdentityConflict(Exception):
    """Somebody else signs with this node's key, or this node forgot what it signed: exit status 4."""


class ExitStatus:
    """Exit statuses of every command (documented in docs/operators.md)."""

    OK = 0
    REFUSED = 1
    CONFIGURATION = 2
    STORAGE = 3
    IDENTITY = 4
