"""Protos of any type with any content, for properties that hold of all of them."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st

from nf.common.date_time import MAX_SECONDS, MIN_SECONDS
from nf.common.v1 import options_pb2 as options

M = TypeVar("M", bound=Message)

_FD = FieldDescriptor
_SCALARS = {
    _FD.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    _FD.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    _FD.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    _FD.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    _FD.CPPTYPE_DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
    _FD.CPPTYPE_BOOL: st.booleans(),
    _FD.CPPTYPE_STRING: st.text(st.characters(codec="utf-8"), max_size=12),
}


def messages(message_type: type[M]) -> st.SearchStrategy[M]:
    """Messages in which every field may be set; what is required in JSON is, and enums have values they know."""

    @st.composite
    def build(draw: st.DrawFn) -> M:
        message = message_type()
        choices: dict[str, str] = {}
        for field in message_type.DESCRIPTOR.fields:
            required = field.GetOptions().Extensions[options.required]
            choice = field.containing_oneof
            if choice is not None and len(choice.fields) > 1:
                picked = choices.setdefault(choice.name, draw(st.sampled_from([each.name for each in choice.fields])))
                if picked != field.name:
                    continue
            if not required and not draw(st.booleans()):
                continue
            if field.is_repeated:
                getattr(message, field.name).extend(draw(st.lists(_element(field), max_size=3)))
            elif field.message_type is not None:
                getattr(message, field.name).CopyFrom(draw(_element(field)))
            else:
                setattr(message, field.name, draw(_element(field)))
        return message

    return build()


def _element(field: FieldDescriptor) -> st.SearchStrategy[object]:
    if field.message_type is not None:
        if field.message_type.full_name == Timestamp.DESCRIPTOR.full_name:
            return st.builds(
                Timestamp, seconds=st.integers(MIN_SECONDS, MAX_SECONDS), nanos=st.integers(0, 999_999_999)
            )
        return messages(GetMessageClass(field.message_type))
    if field.enum_type is not None:
        return st.sampled_from([each.number for each in field.enum_type.values if each.number])
    if field.type == _FD.TYPE_BYTES:
        return st.binary(max_size=12)
    return _SCALARS[field.cpp_type]
