"""A refusal as an HTTP answer: the same closed codes as on the wire (errors.ErrorCode), with a status that fits."""

from __future__ import annotations

from http import HTTPStatus

from timeproto.errors import ErrorCode, Refusal

STATUS: dict[ErrorCode, int] = dict.fromkeys(ErrorCode, 400) | {
    ErrorCode.FRAME_TOO_LARGE: 413,
    ErrorCode.UNSUPPORTED: 404,
    ErrorCode.NOT_AUTHORISED: 403,
    ErrorCode.TIMEOUT: 408,
    ErrorCode.OVER_LIMIT: 429,
    ErrorCode.BUSY: 503,
    ErrorCode.GOING_AWAY: 503,
    ErrorCode.NOT_VOTING: 503,
    ErrorCode.NOT_SYNCED: 503,
    ErrorCode.INTERNAL: 500,
    ErrorCode.NOT_FOUND: 404,
    # it was understood, and cannot be taken: no schema says what a checksum or a signature is, or forbids 1.0 …
    ErrorCode.BAD_ADDRESS: 422,
    ErrorCode.BAD_NUMBER: 422,
    ErrorCode.TXID_MISMATCH: 422,
    ErrorCode.BAD_SIGNATURE: 422,
    ErrorCode.INVALID_TRANSACTION: 422,
    ErrorCode.DUST: 422,
    ErrorCode.FEE_TOO_LOW: 422,
    ErrorCode.VALUE_MISMATCH: 422,
    ErrorCode.UNKNOWN_INPUT: 422,
    ErrorCode.NOT_OWNER: 422,
    ErrorCode.BAD_PROOF: 422,
    ErrorCode.BAD_VOTE: 422,
    # … or cannot be taken any more
    ErrorCode.DOUBLE_SPEND: 409,
    ErrorCode.ABORTED: 409,
    ErrorCode.ALREADY_FINAL: 409,
}
"""Status by code; what is not listed is a mistake in the request."""


class HttpRefusal(Refusal):
    """A refusal whose status HTTP itself knows better than the code does: 405, 413, 414, 415, 421, 426, 431."""

    def __init__(self, status: int, code: ErrorCode, message: str, /, **details: str | int) -> None:
        super().__init__(code, message, **details)
        self.status = status


def status_of(refusal: Refusal) -> int:
    return refusal.status if isinstance(refusal, HttpRefusal) else STATUS[refusal.code]


def phrase(status: int) -> str:
    """The reason phrase of a status line."""
    return HTTPStatus(status).phrase


def too_long(status: int, limit: str, value: int, what: str) -> HttpRefusal:
    return HttpRefusal(status, ErrorCode.OVER_LIMIT, f"{what}: at most {value}", limit=limit, value=value)
