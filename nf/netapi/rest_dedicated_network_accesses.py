"""The CAMARA door dedicated-network-accesses 0.2.0-alpha.1: which devices may use a dedicated network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nf.common.codec import from_json
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.json_text import decode, type_name
from nf.common.rest import Answer, Door, Media, Query, RestCall, Several
from nf.common.rest_body import JSON
from nf.netapi.callers import Caller, Callers
from nf.netapi.camara_checks import OutOfRange, checked, uuid_hex
from nf.netapi.device_header import device_text, parse_device
from nf.netapi.network_access_views import MAX_DEVICES, device_of, info_of
from nf.netapi.network_accesses import NetworkAccesses
from nf.netapi.rest_camara import camara_door
from nf.netapi.rest_dedicated_network import CODES
from nf.netapi.v1.camara_dedicated_network_pb2 import (
    CreateNetworkAccess,
    NetworkAccessDevice,
    NetworkAccessInfo,
    NetworkAccessMember,
    NetworkDeviceRefusals,
    NetworkDeviceResults,
    NetworkDeviceStatus,
)
from nf.netapi.v1.camara_types_pb2 import CamaraDevice

PREFIX: Final = "/dedicated-network-accesses/v0.2alpha1"
ACCESSES: Final = "/accesses"
ACCESS: Final = f"{ACCESSES}/{{accessId}}"
DEVICES: Final = f"{ACCESS}/devices"
DEFAULT_PER_PAGE: Final = 10
_STATUS_PREFIX: Final = "NETWORK_DEVICE_STATUS_"
_STATUSES: Final = [name.removeprefix(_STATUS_PREFIX) for name in NetworkDeviceStatus.keys()[1:]]
# The body of what adds and removes: an array.
_DEVICES: Final = Media(
    (JSON,),
    {
        "description": "Devices.",
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_DEVICES,
        "items": {"$ref": "#/components/schemas/CamaraDevice"},
    },
)

Call = RestCall[Caller]


def build_door(callers: Callers, accesses: NetworkAccesses) -> Door[Caller]:
    """The door at ``PREFIX``."""
    door = camara_door(
        PREFIX,
        title="CAMARA: Dedicated Network accesses",
        version="0.2.0-alpha.1",
        callers=callers,
        description="Which devices may use a dedicated network.",
        codes={
            **CODES,
            "AMBIGUOUS_DEVICE": (422, "SERVICE_NOT_APPLICABLE"),
            "NETWORK_ACCESS_DEVICES_EXHAUSTED": (429, "QUOTA_EXCEEDED"),
        },
    )
    handlers = _Accesses(accesses)
    door.operation(
        "GET",
        ACCESSES,
        handlers.all,
        operation_id="listAccesses",
        summary="All accesses, or those to a network or with a device",
        answers={200: Several(NetworkAccessInfo)},
        errors=(404,),
        query=(Query("networkId", "Only accesses to this network.", {"type": "string", "format": "uuid"}),),
        conditional=False,
        scope="dedicated-network-accesses:accesses:read",
    )
    door.operation(
        "POST",
        ACCESSES,
        handlers.create,
        operation_id="createAccess",
        summary="Lets devices use a network; 207: not all of them",
        request=CreateNetworkAccess,
        answers={201: NetworkAccessInfo, 207: NetworkAccessInfo},
        errors=(404, 409, 422),
        conditional=False,
        scope="dedicated-network-accesses:accesses:create",
    )
    door.operation(
        "GET",
        ACCESS,
        handlers.read,
        operation_id="readAccess",
        summary="Reads an access",
        answers={200: NetworkAccessInfo},
        conditional=False,
        scope="dedicated-network-accesses:accesses:read",
    )
    door.operation(
        "DELETE",
        ACCESS,
        handlers.delete,
        operation_id="deleteAccess",
        summary="Ends an access",
        answers={204: None},
        conditional=False,
        scope="dedicated-network-accesses:accesses:delete",
    )
    door.operation(
        "GET",
        DEVICES,
        handlers.devices,
        operation_id="listDevices",
        summary="The devices of an access, page by page; 206: there are more",
        answers={200: Several(NetworkAccessDevice), 206: Several(NetworkAccessDevice)},
        query=(
            Query(
                "perPage",
                "At most so many.",
                {"type": "integer", "minimum": 1, "maximum": MAX_DEVICES, "default": DEFAULT_PER_PAGE},
            ),
            Query("seek", "Content-Last-Key of the page before."),
            Query("deviceStatus", "Only devices of this status.", {"type": "string", "enum": _STATUSES}),
        ),
        conditional=False,
        scope="dedicated-network-accesses:devices:read",
    )
    door.operation(
        "POST",
        f"{DEVICES}/add",
        handlers.add,
        operation_id="addDevicesToAccess",
        summary="Adds devices to an access; 207: not all of them",
        request=_DEVICES,
        answers={201: Several(NetworkAccessDevice), 207: NetworkDeviceResults, 422: NetworkDeviceRefusals},
        errors=(409,),
        conditional=False,
        scope="dedicated-network-accesses:devices:add",
    )
    door.operation(
        "POST",
        f"{DEVICES}/remove",
        handlers.remove,
        operation_id="removeDevicesFromAccess",
        summary="Removes devices from an access; 207: not all of them",
        request=_DEVICES,
        answers={204: None, 207: NetworkDeviceResults, 422: NetworkDeviceRefusals},
        errors=(409,),
        conditional=False,
        scope="dedicated-network-accesses:devices:remove",
    )
    return door


class _Accesses:
    def __init__(self, accesses: NetworkAccesses) -> None:
        self._accesses = accesses

    async def all(self, call: Call) -> Answer:
        wanted = _given(call, "networkId")
        network = "" if wanted is None else uuid_hex("networkId", wanted)
        text = call.header("x-device")
        device = parse_device("x-device", text) if text else None
        found = await self._accesses.all(call.caller, network, device)
        return Answer(200, [info_of(access, members) for access, members in found])

    async def create(self, call: Call) -> Answer:
        asked = checked(call.message(CreateNetworkAccess))
        network = uuid_hex("networkId", asked.network_id)
        access, outcome = await self._accesses.create(call.caller, asked, network)
        # Of those that were not taken alone.
        info = info_of(access, outcome.taken, outcome.refused)
        return Answer(207 if outcome.refused else 201, info, location=f"{call.url}/{info.id}")

    async def read(self, call: Call) -> Answer:
        return Answer(200, info_of(*await self._accesses.get(call.caller, _id_of(call))))

    async def delete(self, call: Call) -> Answer:
        await self._accesses.delete(call.caller, _id_of(call))
        return Answer(204)

    async def devices(self, call: Call) -> Answer:
        limit, status = _per_page(call), _status(call)
        seek = _given(call, "seek")
        after = "" if seek is None else device_text(parse_device("seek", seek))
        _, members = await self._accesses.get(call.caller, _id_of(call))
        wanted = sorted(
            ((device_text(each.device), each) for each in members if status in ("", _status_text(each))),
            key=lambda each: each[0],
        )
        left = [each for each in wanted if each[0] > after]
        page = left[:limit]
        headers = {"x-total-count": str(len(wanted))}
        if len(left) > limit:
            headers["content-last-key"] = page[-1][0]
        status_code = 206 if len(left) > limit else 200
        return Answer(status_code, [device_of(each) for _, each in page], headers=headers)

    async def add(self, call: Call) -> Answer:
        outcome = await self._accesses.add(call.caller, _id_of(call), _devices_of(call))
        if not outcome.refused:
            return Answer(201, [device_of(each) for each in outcome.taken], location=call.url)
        return _mixed(outcome.taken, NetworkDeviceResults(results=outcome.results))

    async def remove(self, call: Call) -> Answer:
        outcome = await self._accesses.remove(call.caller, _id_of(call), _devices_of(call))
        if not outcome.refused:
            return Answer(204)
        return _mixed(outcome.taken, NetworkDeviceResults(results=outcome.refused))


def _mixed(taken: Sequence[NetworkAccessMember], told: NetworkDeviceResults) -> Answer:
    """The answer where some devices, or all of them, were refused."""
    if taken:
        return Answer(207, told)
    refusals = NetworkDeviceRefusals(
        status=422,
        code="DEDICATED_NETWORK_ACCESS.NO_VALID_DEVICE",
        message="None of the devices could be processed.",
        results=told.results,
    )
    return Answer(422, refusals)


def _devices_of(call: Call) -> list[CamaraDevice]:
    tree = decode(call.body)
    if not isinstance(tree, list):
        raise InvalidArgument.of("body", f"expected an array of devices, found {type_name(tree)}")
    if not 1 <= len(tree) <= MAX_DEVICES:
        raise InvalidArgument.of("body", f"expected 1 to {MAX_DEVICES} devices, found {len(tree)}")
    found, violations = [], []
    for index, each in enumerate(tree):
        try:
            found.append(from_json(CamaraDevice, each))
        except InvalidArgument as error:
            violations += [
                FieldViolation(f"[{index}]{'.' if one.field else ''}{one.field}", one.description)
                for one in error.violations
            ]
    if violations:
        raise InvalidArgument(
            "; ".join(f"{each.field}: {each.description}" for each in violations[:32]), violations=violations[:32]
        )
    return found


def _per_page(call: Call) -> int:
    text = _given(call, "perPage")
    if text is None:
        return DEFAULT_PER_PAGE
    if not (text.isascii() and text.lstrip("-").isdigit() and len(text) <= 9):
        raise InvalidArgument.of("perPage", f"expected a number, found {text[:64]!r}")
    if not 1 <= int(text) <= MAX_DEVICES:
        raise OutOfRange.of("perPage", f"expected 1 to {MAX_DEVICES}, found {text}")
    return int(text)


def _status(call: Call) -> str:
    text = _given(call, "deviceStatus")
    if text is not None and text not in _STATUSES:
        raise InvalidArgument.of("deviceStatus", f"expected one of {', '.join(_STATUSES)}, found {text[:64]!r}")
    return text or ""


def _given(call: Call, name: str) -> str | None:
    """The value of a query parameter; None: it is not there, which an empty one is."""
    return call.query(name) if call.query_list(name) else None


def _status_text(member: NetworkAccessMember) -> str:
    return NetworkDeviceStatus.Name(member.status).removeprefix(_STATUS_PREFIX)


def _id_of(call: Call) -> str:
    return uuid_hex("accessId", call.path["accessId"])
