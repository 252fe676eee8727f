"""Hypothesis strategies for every noun and message, read off the schema the codec itself is built from."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from timeproto.model.block import BlockVote, BlockVoteKind
from timeproto.model.utxo_state import STATES, TaggedState, Unspent, to_wire
from timeproto.model.vote import VoteBatch
from timeproto.wire.messages import CATALOGUE

TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
HEX = "0123456789abcdef"


def _pattern(pattern: str) -> st.SearchStrategy[str]:
    """Texts of one of our three kinds of pattern; lengths are kept short where they may be."""
    body = pattern.removeprefix(r"\A").removesuffix(r"\Z")
    if body.startswith("[0-9a-f]"):
        size = int(body.split("{")[1].rstrip("}")) // 2
        return st.binary(min_size=size, max_size=size).map(bytes.hex)
    return st.from_regex(pattern, fullmatch=True)


def _number(given: inspect.IntType) -> st.SearchStrategy[int]:
    low = -(2**63) if given.ge is None else int(given.ge)
    return st.integers(low, 2**64 - 1 if given.le is None else int(given.le))


def _of(given: inspect.Type) -> st.SearchStrategy[Any]:
    match given:
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return _number(given)
        case inspect.StrType(pattern=str(pattern)):
            return _pattern(pattern)
        case inspect.StrType():
            least = given.min_length or 0
            return st.text(min_size=least, max_size=min(given.max_length or 20, least + 20))
        case inspect.LiteralType():
            return st.sampled_from(given.values)
        case inspect.VarTupleType():
            least = given.min_length or 0
            most = min(least + 3, least + 3 if given.max_length is None else given.max_length)
            return st.lists(_of(given.item_type), min_size=least, max_size=most).map(tuple)
        case inspect.DictType():
            return st.dictionaries(_of(given.key_type), _of(given.value_type), max_size=3)
        case inspect.UnionType():
            return st.one_of([_of(each) for each in given.types])
        case inspect.Metadata(extra_json_schema={"pattern": str(pattern)}):
            return _pattern(pattern)
        case inspect.Metadata():
            return _of(given.type)
        case inspect.AnyType():
            return JSON
        case inspect.StructType():
            return noun(given.cls)
        case inspect.EnumType():
            return st.sampled_from(list(given.cls))
    raise TypeError(f"no strategy for {given}")


@cache
def noun(cls: type) -> st.SearchStrategy[Any]:
    """Instances of a noun or message class."""
    if cls is TaggedState:
        return st.one_of([noun(state) for state in STATES if state is not Unspent]).map(to_wire)
    shape = msgspec.inspect.type_info(cls)
    assert isinstance(shape, inspect.StructType)
    fields = {field.name: _of(field.type) for field in shape.fields}
    if cls is VoteBatch:
        txids = st.sets(fields["voter"], max_size=4).map(lambda chosen: tuple(sorted(chosen)))
        fields |= {"lock": txids.filter(bool), "commit": txids, "abort": txids}
    if cls is BlockVote:
        fields |= {"kind": st.sampled_from(["prevote", "precommit"]).map(BlockVoteKind), "valid_round": st.none()}
    return st.builds(cls, **fields)


def messages() -> st.SearchStrategy[Any]:
    """Messages of every type."""
    return st.sampled_from(sorted(CATALOGUE)).flatmap(lambda name: noun(CATALOGUE[name]))
