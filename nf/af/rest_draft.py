"""The draft consumption reporting API at M5: reporting sessions of a provider (TS 26.512 CR, §5.4.3).

Each PUT makes a session, bound to the provider's provisioning session that has a configuration. What the draft calls
forbidden or not supported is 405. The draft's misspelt names are read and never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from nf.af.reports import ConsumptionReports
from nf.af.v1.consumption_reporting_pb2 import ConsumptionReport
from nf.af.v1.provisioning_pb2 import ConsumptionReportingConfiguration
from nf.common.codec import from_json
from nf.common.errors import InvalidArgument
from nf.common.json_text import decode
from nf.common.rest import Answer, Door, Media, Query, RestCall

PREFIX: Final = "/3gpp-5gms-consumption-reporting/v1"

_UNITS: Final = "consumptionReportingUnits"
# As the draft spells them, in its tables 5.4.2.1.3-1 and 5.4.2.1.4-1.
_UNITS_MISSPELT: Final = ("cConsumptionReportingUnit", "consumptionReportingUnit")
_MEDIA: Final = "mediaConsumed"
_MEDIA_MISSPELT: Final = ("mediaConsummed",)

# Read by the handler, which knows the misspelt names too.
_REPORT: Final = Media(("application/json",), {"$ref": "#/components/schemas/ConsumptionReport"})

Call = RestCall[None]


def build_door(reports: ConsumptionReports) -> Door[None]:
    """The door at ``PREFIX``, open to UEs."""
    made: Door[None] = Door(
        PREFIX,
        title="Consumption reporting (draft)",
        version="1.0.0",
        identify=_anyone,
        description="The reporting sessions of the draft change request to TS 26.512.",
    )
    _Sessions(reports).join(made)
    return made


def _anyone(_: Mapping[str, str]) -> None:
    return


class _Sessions:
    """Reporting sessions, the configuration in force for each, and what is reported in it."""

    def __init__(self, reports: ConsumptionReports) -> None:
        self._reports = reports

    def join(self, door: Door[None]) -> None:
        door.operation(
            "PUT",
            "/{aspId}/session",
            self.create,
            operation_id="createConsumptionReportingSession",
            summary="Makes a reporting session, and tells the configuration in force.",
            answers={201: ConsumptionReportingConfiguration},
            errors=(404, 409),
            query=(
                Query("provisioningSessionId", "Chooses among several provisioning sessions with a configuration."),
            ),
            conditional=False,
        )
        door.operation(
            "GET",
            "/{aspId}/session/{sessionId}/acquire",
            self.acquire,
            operation_id="acquireConsumptionReportingConfiguration",
            summary="The configuration in force for a reporting session.",
            answers={200: ConsumptionReportingConfiguration},
            errors=(404,),
        )
        door.operation(
            "POST",
            "/{aspId}/session/{sessionId}",
            self.report,
            operation_id="reportConsumption",
            summary="Takes a consumption report, and answers when it is stored.",
            request=_REPORT,
            answers={200: None},
            errors=(404,),
            conditional=False,
            # A report that is taken is written, whoever still waits for the answer.
            detached=False,
        )

    async def create(self, call: Call) -> Answer:
        asp_id = call.path["aspId"]
        session, configuration = await self._reports.create_session(asp_id, call.query("provisioningSessionId"))
        location = f"{PREFIX}/{quote(asp_id, safe='')}/session/{quote(session.session_id, safe='')}"
        return Answer(201, configuration, location=location)

    async def acquire(self, call: Call) -> Answer:
        configuration = await self._reports.acquire(call.path["aspId"], call.path["sessionId"])
        return Answer(200, configuration, etag=configuration.etag)

    async def report(self, call: Call) -> Answer:
        report = report_of(call.body)
        await self._reports.report_in_session(call.path["aspId"], call.path["sessionId"], report)
        return Answer(200)


def report_of(body: bytes) -> ConsumptionReport:
    """The report in a JSON text, whichever way it spells its properties. Raises InvalidArgument."""
    tree = decode(body)
    if isinstance(tree, dict):
        tree = _spelt(tree, _UNITS, _UNITS_MISSPELT, "")
        units = tree.get(_UNITS)
        if isinstance(units, list):
            tree[_UNITS] = [
                _spelt(each, _MEDIA, _MEDIA_MISSPELT, f"{_UNITS}[{index}].") if isinstance(each, dict) else each
                for index, each in enumerate(units)
            ]
    return from_json(ConsumptionReport, tree)


def _spelt(tree: dict[str, object], name: str, misspelt: tuple[str, ...], where: str) -> dict[str, object]:
    """The object with a property by its proper name. Raises InvalidArgument for one that is there by two names."""
    found = [each for each in (name, *misspelt) if each in tree]
    if len(found) > 1:
        raise InvalidArgument.of(f"{where}{found[1]}", f"expected {name} once, found {' and '.join(found)}")
    if not found or found == [name]:
        return dict(tree)
    return {name if each == found[0] else each: value for each, value in tree.items()}
