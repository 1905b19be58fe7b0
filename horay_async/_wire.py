"""
What stands in a request or a reply as a JSON object: kept whole, and dumped again.
"""

from __future__ import annotations

import json

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Literal

import attrs


Mode = Literal["python", "json"]
"""
pydantic's two ways to dump. All values here stand in JSON as they are: it is the same.
"""


class Record(dict[str, Any]):
    """
    A JSON object whose members also read as attributes, the absent ones as None.

    For what servers send in too many shapes to be spelled out (`choice.logprobs`), and
    ported code reads as openai's values (`choice.logprobs.content[0].token`).
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        # Also asked by copy and pickle, for methods that a dict has not.
        if name.startswith("__"):
            raise AttributeError(name)
        return _read(self.get(name))


def _read(item: Any) -> Any:
    if isinstance(item, dict):
        return Record(item)
    return [_read(one) for one in item] if isinstance(item, list) else item


class JsonObject:
    """
    What `Wire` and `Piece` share.
    """

    __slots__ = ()

    extra: Mapping[str, Any]

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            # Also asked by copy and pickle on an instance that has no fields yet.
            if not name.startswith("_") and name != "extra" and name in self.extra:
                return self.extra[name]
            msg = f"{type(self).__name__!r} has no field {name!r}"
            raise AttributeError(msg, name=name, obj=self)

    # Written once for all: attrs would compile these three for each of some thirty classes,
    # which is a quarter of our import.

    def __repr__(self) -> str:
        shown = (each for each in attrs.fields(_kind(self)) if each.repr)
        fields = ", ".join(
            f"{each.name}={getattr(self, each.name)!r}" for each in shown
        )
        return f"{type(self).__name__}({fields})"

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(
            getattr(self, each.name) == getattr(other, each.name)
            for each in attrs.fields(_kind(self))
            if each.eq
        )

    def __hash__(self) -> int:
        compared = (each for each in attrs.fields(_kind(self)) if each.eq)
        values = (
            getattr(self, each.name) for each in compared if each.hash is not False
        )
        return hash((type(self), *values))

    def _body(self, *, keep_null: bool) -> dict[str, Any]:
        """
        The fields as plain values: with all the absent ones as None, or as on the wire.
        """
        return _fields(self, keep_null=keep_null)

    def to_dict(
        self,
        *,
        mode: Mode = "python",  # noqa: ARG002 -- the same in both
        exclude_none: bool = False,
    ) -> dict[str, Any]:
        """
        The JSON object as it stands on the wire: unknown fields included, absent ones not.

        Args:
            exclude_none: Leave out what the server sent as null, too.
        """
        return _chosen(self._body(keep_null=False), None, exclude_none=exclude_none)

    def to_json(self, *, indent: int | None = 2, exclude_none: bool = False) -> str:
        """
        `to_dict()` as JSON text; without indent it is one line without spaces.
        """
        return _text(self.to_dict(exclude_none=exclude_none), indent)

    def model_dump(
        self,
        *,
        mode: Mode = "python",  # noqa: ARG002 -- the same in both
        exclude: AbstractSet[str] | None = None,
        exclude_unset: bool = False,
        exclude_none: bool = False,
    ) -> dict[str, Any]:
        """
        Every field, the absent ones as None: for code that was written for pydantic.

        Args:
            exclude: Names to leave out.
            exclude_unset: Only what the server sent, as in `to_dict()`.
            exclude_none: Leave out every null.
        """
        body = self._body(keep_null=not exclude_unset)
        return _chosen(body, exclude, exclude_none=exclude_none)

    def model_dump_json(
        self,
        *,
        indent: int | None = None,
        exclude: AbstractSet[str] | None = None,
        exclude_unset: bool = False,
        exclude_none: bool = False,
    ) -> str:
        """
        `model_dump()` as JSON text; without indent it is one line without spaces.
        """
        body = self.model_dump(
            exclude=exclude, exclude_unset=exclude_unset, exclude_none=exclude_none
        )
        return _text(body, indent)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Wire(JsonObject):
    """
    Something that stands in a request or a reply as a JSON object.

    Fields that the server sends and we do not know are kept in `extra`; they also read as
    attributes (`message.reasoning_content`).
    """

    extra: Mapping[str, Any] = attrs.field(
        factory=dict, metadata={"wire": False}, repr=False, hash=False
    )
    """
    What else the object held, by its name on the wire.
    """


@attrs.define(kw_only=True, eq=False, repr=False)
class Piece(JsonObject):
    """
    A `Wire` that may be changed: part of a chunk, which belongs to whoever was given it.

    OpenAI's guide to function calls keeps the first piece and adds the others' arguments to
    it. And it is quicker to build: a stream has one for each token.
    """

    extra: Mapping[str, Any] = attrs.field(
        factory=dict, metadata={"wire": False}, repr=False, hash=False
    )
    """
    What else the object held, by its name on the wire.
    """

    __hash__ = None  # type: ignore[assignment]  # it may be changed


def _kind(value: JsonObject) -> type[Any]:
    return type(value)


def _fields(value: JsonObject, *, keep_null: bool) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for field in attrs.fields(_kind(value)):
        if not field.metadata.get("wire", True):
            continue
        item = getattr(value, field.name)
        if item is not None or keep_null or field.metadata.get("null", False):
            known[field.name] = _plain(item, keep_null=keep_null)
    return {**known, **value.extra}


def _plain(item: Any, *, keep_null: bool) -> Any:
    if isinstance(item, JsonObject):
        return item._body(keep_null=keep_null)
    if isinstance(item, (list, tuple)):
        return [_plain(one, keep_null=keep_null) for one in item]
    return item


def _chosen(
    body: dict[str, Any], exclude: AbstractSet[str] | None, *, exclude_none: bool
) -> dict[str, Any]:
    if exclude is not None:
        if not isinstance(exclude, AbstractSet):
            # pydantic also takes nested mappings: better none than one half understood.
            msg = f"exclude is {exclude!r}, expected a set of names"
            raise TypeError(msg)
        body = {name: item for name, item in body.items() if name not in exclude}
    if not exclude_none:
        return body
    without: dict[str, Any] = _without_none(body)
    return without


def _without_none(item: Any) -> Any:
    if isinstance(item, dict):
        return {
            name: _without_none(one) for name, one in item.items() if one is not None
        }
    if isinstance(item, list):
        return [_without_none(one) for one in item]
    return item


def _text(body: dict[str, Any], indent: int | None) -> str:
    separators = (",", ":") if indent is None else None
    return json.dumps(body, indent=indent, separators=separators, ensure_ascii=False)
