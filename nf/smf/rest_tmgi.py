"""Nmb1 over HTTP: TMGIs (TS 29.532 §6.1, /nmbsmf-tmgi/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nf.common.codec import from_json
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.json_text import decode, type_name
from nf.common.rest import Answer, Door, Query, RestCall
from nf.common.v1.mbs_pb2 import Tmgi
from nf.smf.tmgi import MAX_TMGIS, Tmgis
from nf.smf.v1.tmgi_pb2 import AllocateTmgiRequest, AllocateTmgiResponse

PREFIX: Final = "/nmbsmf-tmgi/v1"
TMGIS: Final = "/tmgi"

_LIST: Final = "tmgi-list"
# As JSON within the query: each of them has about a hundred characters.
_SCHEMA: Final = {
    "type": "string",
    "contentMediaType": "application/json",
    "description": 'An array such as [{"mbsServiceId": "0000a1", "plmnId": {"mcc": "001", "mnc": "01"}}].',
}

Call = RestCall[None]


def build_door(tmgis: Tmgis) -> Door[None]:
    """The door at ``PREFIX``."""
    door: Door[None] = Door(
        PREFIX,
        title="Nmbsmf: TMGIs",
        version="1.0.1",
        description="Temporary mobile group identities, allocated, refreshed and released (TS 29.532).",
        function="smf",
        identify=_anyone,
        max_age_s=0,
    )
    resources = _Tmgis(tmgis)
    door.operation(
        "POST",
        TMGIS,
        resources.allocate,
        operation_id="allocateTmgi",
        summary="Allocates TMGIs, refreshes TMGIs, or both: all of it, or nothing",
        request=AllocateTmgiRequest,
        answers={200: AllocateTmgiResponse},
        errors=(403, 404),
        conditional=False,
    )
    door.operation(
        "DELETE",
        TMGIS,
        resources.release,
        operation_id="deallocateTmgi",
        summary="Releases TMGIs: all of them, or none",
        answers={204: None},
        errors=(404, 409),
        query=(Query(_LIST, "The TMGIs as a JSON array.", _SCHEMA, required=True),),
        conditional=False,
    )
    return door


def _anyone(_: Mapping[str, str]) -> None:
    return


class _Tmgis:
    def __init__(self, tmgis: Tmgis) -> None:
        self._tmgis = tmgis

    async def allocate(self, call: Call) -> Answer:
        return Answer(200, await self._tmgis.allocate(call.message(AllocateTmgiRequest)))

    async def release(self, call: Call) -> Answer:
        await self._tmgis.release(_tmgis_of(call.query(_LIST)))
        return Answer(204)


def _tmgis_of(text: str) -> list[Tmgi]:
    """The TMGIs of the query. Raises InvalidArgument, which names the one at fault."""
    if not text:
        raise InvalidArgument.of(_LIST, "expected a JSON array of TMGIs, found nothing")
    try:
        tree = decode(text.encode())
    except InvalidArgument as error:
        raise InvalidArgument.of(_LIST, error.message.removeprefix("body: ")) from None
    if not isinstance(tree, list) or not tree:
        found = "none" if tree == [] else type_name(tree)
        raise InvalidArgument.of(_LIST, f"expected a JSON array of TMGIs, found {found}")
    if len(tree) > MAX_TMGIS:
        raise InvalidArgument.of(_LIST, f"expected at most {MAX_TMGIS}, found {len(tree)}")
    tmgis, violations = [], []
    for index, each in enumerate(tree):
        try:
            tmgis.append(from_json(Tmgi, each))
        except InvalidArgument as error:
            violations += [
                FieldViolation(f"{_LIST}[{index}]{'.' if told.field else ''}{told.field}", told.description)
                for told in error.violations
            ]
    if violations:
        raise InvalidArgument.of_all(violations)
    return tmgis
