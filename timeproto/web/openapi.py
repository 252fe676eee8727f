"""The OpenAPI 3.1 document, made from the table of routes and the declared types: it cannot say what is not so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from timeproto.errors import ErrorCode, Refusal
from timeproto.web.refusals import STATUS, status_of
from timeproto.web.routes import Route, allowed_methods
from timeproto.wire import messages

_EVERYWHERE = (ErrorCode.BAD_FIELD, ErrorCode.OVER_LIMIT, ErrorCode.BUSY, ErrorCode.INTERNAL, ErrorCode.GOING_AWAY)
_BY_HTTP = {
    400: "the request is malformed",
    401: "the key is none of this node's",
    403: "pages of that origin may not ask this",
    408: "the request did not arrive in time",
    413: "the body is too large",
    414: "the request target is too long",
    421: "this port does not go by the name in the Host header",
    431: "the headers are too many or too long",
}
_PRICE = {
    "RateLimit-Policy": "what may be asked at once (q), and the seconds in which as much comes in again (w)",
    "RateLimit": "what is left of it (r), and the seconds until it is whole (t)",
    "Timeproto-Cost": "what this request cost",
}
_TEXTS: dict[str, Any] = {
    "application/json": {"type": "object"},
    "text/event-stream": {
        "type": "object",
        "description": "each event of the stream, by its fields",
        "properties": {
            "id": {"type": "string", "pattern": "^[0-9a-f]{64}:(0|[1-9][0-9]{0,17})$"},
            "event": {"enum": ["transition", "watermark", "gap"]},
            "data": {"type": "string", "contentMediaType": "application/json"},
        },
        "required": ["id", "event", "data"],
    },
}
"""What is inside answers that no declared type describes, by their media type; any other is text."""


def document(routes: Sequence[Route], version: str) -> bytes:
    """The document as JSON."""
    types = [route.answer for route in routes if not isinstance(route.answer, str)]
    types += [route.body for route in routes if route.body is not None]
    types += [parameter.shape for route in routes for parameter in route.parameters]
    types.append(messages.Error)
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    for path, operations in paths.items():
        fitting = [route for route in routes if route.path == path]
        if "HEAD" in allowed_methods(fitting) and "text/event-stream" not in {route.answer for route in fitting}:
            operations["head"] = _head(operations["get"])
    components["Error"]["properties"]["code"]["enum"] = [str(code) for code in ErrorCode]
    found = {
        "openapi": "3.1.0",
        "info": {
            "title": "timeproto node",
            "version": version,
            "description": "Read a node of the UTXO State Protocol, and send it payments.",
        },
        "paths": paths,
        "security": [{}, {"key": []}],
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "from the node's operator"}},
            "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in _PRICE.items()},
        },
    }
    return json.dumps(_mend(found), ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _operation(route: Route, by_type: dict[int, Any]) -> dict[str, Any]:
    name = route.path.strip("/").replace("{", "").replace("}", "").replace("/", "_").replace(".", "_") or "page"
    operation: dict[str, Any] = {"operationId": f"{route.method.lower()}_{name}", "summary": route.summary}
    if route.parameters:
        operation["parameters"] = [_parameter(each, by_type[id(each.shape)]) for each in route.parameters]
    if route.body is not None:
        schema = by_type[id(route.body)]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    content: dict[str, Any] = {}
    if not isinstance(route.answer, str):
        content = {"application/json": {"schema": by_type[id(route.answer)]}}
    elif route.status != 101:
        content = {route.answer: {"schema": _TEXTS.get(route.answer, {"type": "string"})}}
    good: dict[str, Any] = {"description": route.summary}
    good["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in _PRICE}
    if content:
        good["content"] = content
    operation["responses"] = {str(route.status): good} | _refusals(route)
    if route.path == "/ready":
        operation["responses"]["503"] = good | {"description": "not ready, or the node cannot say"}
        either = [good["content"]["application/json"]["schema"], {"$ref": "#/components/schemas/Error"}]
        operation["responses"]["503"]["content"] = {"application/json": {"schema": {"oneOf": either}}}
    return operation


def _parameter(parameter: Any, schema: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path",
        "description": parameter.meaning,
        "schema": {"type": "array", "items": schema} if parameter.many else dict(schema),
    }
    if parameter.default is not None:
        described["schema"]["default"] = parameter.default
    return described


def _refusals(route: Route) -> dict[str, Any]:
    codes: dict[int, list[str]] = {}
    for code in dict.fromkeys((*_EVERYWHERE, *route.refuses)):
        codes.setdefault(status_of(Refusal(code, "")), []).append(str(code))
    statuses = set(codes) | set(_BY_HTTP) | ({415} if route.body is not None else set())
    statuses |= {426} if route.status == 101 else set()
    statuses.discard(403 if route.method == "GET" and route.status != 101 else 0)
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    described = {}
    for status in sorted(statuses):
        text = ", ".join(filter(None, [_BY_HTTP.get(status), ", ".join(codes.get(status, []))])) or "refused"
        described[str(status)] = {"description": text, "content": content}
    return described


def _head(get: dict[str, Any]) -> dict[str, Any]:
    answers = {status: {"description": each["description"]} for status, each in get["responses"].items()}
    return get | {"operationId": get["operationId"].replace("get_", "head_", 1), "responses": answers}


def _mend(value: Any) -> Any:
    """Python's spelling of patterns in JSON Schema's, and bounds that msgspec cannot declare."""
    if isinstance(value, list):
        return [_mend(each) for each in value]
    if not isinstance(value, dict):
        return value
    mended = {key: _mend(each) for key, each in value.items()}
    if isinstance(mended.get("pattern"), str):
        mended["pattern"] = mended["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    if mended.get("type") == "integer" and mended.get("minimum") == 0:
        mended.setdefault("maximum", 2**64 - 1)  # U64: the classes that hold one check it themselves
    if mended.get("title") == "TaggedState":
        mended |= {"minProperties": 1, "maxProperties": 1}
    return mended


assert set(STATUS) == set(ErrorCode)
