"""Every unary call of the platform with what nobody should send: it is refused or done, and never a fault of ours."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Awaitable, Iterator
from importlib import import_module

import pytest
import pytest_asyncio
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from netapi_platform import START, Platform

from nf.common.errors import CastcoreError
from nf.netapi.v1 import coverage_pb2 as coverage

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES = ("access", "agreement", "booking", "coverage", "location", "monitoring")
CASES = 4
# Names of things that there are, so that calls get beyond the first look.
KNOWN = {
    "agreement_id": "radio",
    "area_id": "vienna",
    "area_ids": "vienna",
    "profile_id": "audio",
    "profile_ids": "audio",
    "application_id": "player",
    "phone_number": "+4917012345",
    "repetition_rule": "FREQ=DAILY;COUNT=3",
    "time_zone": "Europe/Vienna",
    "url": "http://127.0.0.1:9/sink",
    "ipv4_address": "10.45.0.7",
    "mcc": "232",
    "mnc": "01",
    "nr_cell_id": "00000ABCD",
    "flow_descriptions": "permit out 17 from 198.51.100.7 443 to assigned",
    "domain_names": "*.example.com",
}
TEXTS = (
    "",
    " ",
    "\0",
    "x" * 5000,
    "../..",
    "'; drop table",
    "\u202e\U0001f4a5",
    "+1",
    "*",
    "%s%n",
    "999.1.1.1",
    "FREQ=SECONDLY",
)
NUMBERS = (0, 1, -1, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63), 2**64 - 1)
FLOATS = (0.0, -0.0, 1.0, 48.2, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf)
NOW_S = int(START.timestamp())
SECONDS = (
    0,
    -1,
    NOW_S - 60,
    NOW_S + 60,
    NOW_S + 3600,
    253_402_300_799,
    253_402_300_800,
    -62_135_596_801,
    2**63 - 1,
    -(2**63),
)
NANOS = (0, 0, 0, 1, 999_999_999, 2**31 - 1, -(2**31))
_FD = FieldDescriptor


def bounds(field: FieldDescriptor) -> tuple[int, int]:
    return {
        _FD.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
        _FD.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
        _FD.CPPTYPE_UINT32: (0, 2**32 - 1),
        _FD.CPPTYPE_UINT64: (0, 2**64 - 1),
    }[field.cpp_type]


def scalar(draw: random.Random, field: FieldDescriptor) -> object:
    if field.type == _FD.TYPE_BYTES:
        return draw.choice(TEXTS).encode()
    if field.cpp_type == _FD.CPPTYPE_STRING:
        return KNOWN[field.name] if field.name in KNOWN and draw.random() < 0.8 else draw.choice(TEXTS)
    if field.cpp_type == _FD.CPPTYPE_BOOL:
        return draw.random() < 0.5
    if field.cpp_type in (_FD.CPPTYPE_DOUBLE, _FD.CPPTYPE_FLOAT):
        return draw.choice(FLOATS)
    if field.cpp_type == _FD.CPPTYPE_ENUM:
        return draw.choice([*(each.number for each in field.enum_type.values), 99, -1])
    least, most = bounds(field)
    return draw.choice([each for each in NUMBERS if least <= each <= most])


def fill(draw: random.Random, message: Message, depth: int = 0) -> Message:
    descriptor: Descriptor = message.DESCRIPTOR
    if descriptor.full_name == "google.protobuf.Timestamp":
        message.seconds, message.nanos = draw.choice(SECONDS), draw.choice(NANOS)
        return message
    for field in descriptor.fields:
        if draw.random() > (0.85 if depth < 4 else 0.3):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        is_message = field.cpp_type == _FD.CPPTYPE_MESSAGE
        if field.is_repeated:
            items = getattr(message, field.name)
            for _ in range(draw.choice((1, 1, 2, 3))):
                if is_message:
                    fill(draw, items.add(), depth + 1)
                else:
                    items.append(scalar(draw, field))
        elif is_message:
            part = getattr(message, field.name)
            part.SetInParent()
            fill(draw, part, depth + 1)
        else:
            setattr(message, field.name, scalar(draw, field))
    return message


def moment(seconds: int) -> dict[str, object]:
    return {"seconds": NOW_S + seconds}


CIRCLE = {"circle": {"center": {"latitude": 48.2, "longitude": 16.37}, "radius_m": 1000}}
# What is right, for calls that look at much before they look at the rest.
RIGHT: dict[str, dict[str, object]] = {
    "RequestBooking": {
        "request": {
            "population": {"application_id": "player", "devices": 2},
            "traffic": {"domain_names": ["*.example.com"]},
            "periods": [
                {
                    "start_time": moment(60),
                    "stop_time": moment(120),
                    "repetition_rule": "FREQ=DAILY;COUNT=3",
                    "time_zone": "Europe/Vienna",
                }
            ],
            "area_capabilities": [{"area_id": "vienna", "profile_id": "audio", "devices": 1}],
            "outside": 1,
        }
    },
    "CreateAgreement": {"agreement": {"agreement_id": "new", "area_ids": ["vienna"], "limits": {"advance_days": 3}}},
    "CreateCredential": {"credential": {"agreement_id": "radio", "scopes": ["netapi"], "expire_time": moment(60)}},
    "CreateAccessToken": {"scopes": ["netapi"], "device": {"phone_number": "+4917012345"}, "expires_in_s": 60},
    "PutServiceArea": {"service_area": {"area_id": "new", "geometry": CIRCLE, "capacity": {"devices": 3}}},
    "PutCapabilityProfile": {
        "capability_profile": {
            "profile_id": "new",
            "capability": 1,
            "qos": {"five_qi": 4, "guaranteed_downlink_bps": 1000, "max_downlink_bps": 2000},
            "s_nssai": {"sst": 1, "sd": "00ABCD"},
            "dnn": "internet",
        }
    },
    "ListServiceAreas": {"touching": CIRCLE, "page_size": 10},
    "ReportPositions": {
        "positions": [
            {
                "device": {"phone_number": "+4917012345"},
                "point": {"latitude": 48.2, "longitude": 16.37},
                "uncertainty_m": 10,
                "position_time": moment(-1),
            }
        ]
    },
    "CreateGeofence": {
        "geofence": {
            "device": {"phone_number": "+4917012345"},
            "area": CIRCLE,
            "entered": True,
            "expire_time": moment(60),
            "max_events": 3,
        }
    },
    "CreateEventSink": {
        "event_sink": {"url": "http://127.0.0.1:9/sink", "access_token": "abc", "expire_time": moment(60)}
    },
}


def spoil(draw: random.Random, message: Message) -> Message:
    """The message with something wrong in one place, or two."""
    for _ in range(draw.choice((1, 1, 2))):
        part, inner = None, message
        while inner is not None:
            part, inner = inner, None
            set_ones = [field for field, _ in part.ListFields()]
            field = draw.choice(set_ones if set_ones and draw.random() < 0.9 else list(part.DESCRIPTOR.fields))
            value = getattr(part, field.name)
            if field.cpp_type == _FD.CPPTYPE_MESSAGE and draw.random() < 0.9:
                inner = (draw.choice(list(value)) if value else value.add()) if field.is_repeated else value
            elif field.cpp_type == _FD.CPPTYPE_MESSAGE:
                part.ClearField(field.name)
            elif field.is_repeated:
                value.append(scalar(draw, field))
            else:
                setattr(part, field.name, scalar(draw, field))
            if inner is not None and not inner.DESCRIPTOR.fields:
                break
    return message


def made_up(draw: random.Random, method: MethodDescriptor) -> Message:
    request = GetMessageClass(method.input_type)()
    right = RIGHT.get(method.name)
    if right is None or draw.random() < 0.3:
        return fill(draw, request)
    return spoil(draw, type(request)(**right))


def methods() -> Iterator[tuple[str, MethodDescriptor]]:
    for file in FILES:
        descriptor = import_module(f"nf.netapi.v1.{file}_pb2").DESCRIPTOR
        for service in descriptor.services_by_name.values():
            yield from ((file, method) for method in service.methods if not method.server_streaming)


async def answer(call: Awaitable[object]) -> tuple[str, str]:
    try:
        return "OK", type(await call).__name__
    except CastcoreError as error:
        return error.code, error.message


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with Platform(tmp_path_factory.mktemp("netapi")) as running:
        center = coverage.Point(latitude=48.2, longitude=16.37)
        circle = coverage.Geometry(circle=coverage.Circle(center=center, radius_m=5000))
        await running.area(coverage.ServiceArea(area_id="vienna", geometry=circle))
        qos = coverage.QosProfile(five_qi=4, guaranteed_downlink_bps=1_000_000)
        await running.profile(
            coverage.CapabilityProfile(profile_id="audio", capability=coverage.CAPABILITY_QUALITY_ON_DEMAND, qos=qos)
        )
        yield running


@pytest.mark.parametrize(("file", "method"), list(methods()), ids=lambda each: getattr(each, "full_name", ""))
async def test_no_request_is_a_fault_of_ours(lab: Platform, file: str, method: MethodDescriptor) -> None:
    stubs = import_module(f"nf.netapi.v1.{file}_pb2_grpc")
    service = method.containing_service.name
    draw = random.Random(f"{method.full_name} 7")
    provider = await lab.provider("radio")
    for case in range(4 * CASES if method.name in RIGHT else CASES):
        face = (provider, lab.face())[case % 2]
        stub = getattr(stubs, f"{service}Stub")(face.channels.get("netapi"))
        request = made_up(draw, method)
        code, told = await answer(getattr(stub, method.name)(request))
        assert code not in ("INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED"), f"{told}\n{request}"
        assert told
