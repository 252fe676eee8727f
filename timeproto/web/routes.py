"""The table of routes: what the server matches, what a handler is given, and what the OpenAPI document says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import attrs
import msgspec

from timeproto.errors import ErrorCode, Refusal
from timeproto.web import bounds
from timeproto.web.refusals import HttpRefusal, too_long
from timeproto.wire import codec

T = TypeVar("T")

_INTEGER = re.compile(r"\A(?:0|[1-9][0-9]{0,18})\Z")

TAKEN = object()
"""What a handler returns that answers by itself, over time."""


@attrs.frozen
class Parameter:
    """A value in the path or the query. ``shape`` is its declared type: str, int or bool, with bounds; ``meaning`` ends
    the sentence "it is …"."""

    name: str
    shape: Any
    meaning: str
    where: Literal["path", "query"] = "path"
    default: Any = None
    many: bool = False
    kind: str = attrs.field(init=False)

    @kind.default
    def _kind_of_shape(self) -> str:
        return str(msgspec.json.schema(self.shape).get("type"))

    def read(self, text: str) -> Any:
        """The value in ``text``; raises ``bad_field``. Every value has one spelling."""
        value: Any = text
        if self.kind == "integer":
            value = int(text) if _INTEGER.match(text) else text
        elif self.kind == "boolean":
            value = {"true": True, "false": False}.get(text, text)
        try:
            return msgspec.convert(value, self.shape)
        except msgspec.ValidationError:
            raise Refusal(ErrorCode.BAD_FIELD, f"{self.name} is {self.meaning}", parameter=self.name) from None


@attrs.frozen
class Body:
    """Bytes that are an answer as they stand."""

    data: bytes
    content_type: str
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Ask:
    """One request as its handler sees it. ``values`` holds every parameter of the route."""

    values: Mapping[str, Any]
    body: bytes
    request: Any


@attrs.frozen
class Route:
    """``answer`` is the type of the JSON answer, or the media type of one that is not JSON.

    ``cost``, in plain questions (bounds.WEB_COST), is paid by whoever asks; ``refuses`` are the codes it may answer
    with, besides those of every route.
    """

    method: Literal["GET", "POST"]
    path: str
    summary: str
    answer: Any
    handle: Callable[[Ask], Any]
    parameters: Sequence[Parameter] = ()
    body: Any = None
    status: int = 200
    cost: float = 1.0
    refuses: Sequence[ErrorCode] = ()

    @property
    def segments(self) -> list[str]:
        return self.path.split("/")[1:]


class Router:
    """Finds the route of a request."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and the raw values in its path; raises ``not_found``, or 405 naming what is allowed."""
        given = path.split("/")[1:]
        fitting = [(route, values) for route in self.routes if (values := _match(route, given)) is not None]
        if not fitting:
            raise Refusal(ErrorCode.NOT_FOUND, "there is nothing at this path")
        for route, values in fitting:
            if method in (route.method, "HEAD" if route.method == "GET" else None):
                return route, values
        allowed = ", ".join(allowed_methods(route for route, _ in fitting))
        raise HttpRefusal(405, ErrorCode.UNSUPPORTED, f"the method here is {allowed}", allow=allowed)


def allowed_methods(routes: Any) -> list[str]:
    methods = {route.method for route in routes}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def _match(route: Route, given: list[str]) -> dict[str, str] | None:
    expected = route.segments
    if len(expected) != len(given):
        return None
    values = {}
    for want, got in zip(expected, given, strict=True):
        if want.startswith("{"):
            values[want[1:-1]] = got
        elif want != got:
            return None
    return values


def read_values(route: Route, raw: Mapping[str, str], query: str) -> dict[str, Any]:
    """Every parameter of ``route``, checked; raises ``bad_field``, and for unknown or doubled names too."""
    values: dict[str, Any] = {}
    fields = _fields(query)
    for parameter in route.parameters:
        if parameter.where == "path":
            values[parameter.name] = parameter.read(_decoded(raw[parameter.name]))
            continue
        texts = fields.pop(parameter.name, [])
        if parameter.many:
            values[parameter.name] = tuple(parameter.read(text) for text in texts)
        elif len(texts) > 1:
            raise Refusal(ErrorCode.BAD_FIELD, f"{parameter.name} is given twice", parameter=parameter.name)
        else:
            values[parameter.name] = parameter.read(texts[0]) if texts else parameter.default
    for name in fields:
        raise Refusal(ErrorCode.BAD_FIELD, f"there is no parameter {name[:64]!r} here")
    return values


def read_body(ask: Ask, kind: type[T]) -> T:
    """The body as a noun of its declared type, with the strictness of a frame; raises :class:`Refusal`."""
    codec.parse_json(ask.body)
    try:
        return msgspec.json.decode(ask.body, type=kind)
    except ValueError as error:
        raise Refusal(ErrorCode.BAD_FIELD, f"the body is no {kind.__name__}: {error}") from None


def _decoded(segment: str) -> str:
    try:
        return unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal(ErrorCode.BAD_ENCODING, "the path is not UTF-8") from None


def _fields(query: str) -> dict[str, list[str]]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=bounds.WEB_QUERY_FIELDS)
    except UnicodeDecodeError:
        raise Refusal(ErrorCode.BAD_ENCODING, "the query is not UTF-8") from None
    except ValueError:
        raise too_long(400, "web_query_fields", bounds.WEB_QUERY_FIELDS, "fields of a query") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields
