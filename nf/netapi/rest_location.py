"""The CAMARA doors location-verification 3.0.0 and location-retrieval 0.5.0."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from nf.common.rest import Answer, Door, RestCall
from nf.netapi.callers import Caller, Callers
from nf.netapi.camara_areas import circle_of, fit_within, place_of, surface_m2
from nf.netapi.camara_checks import checked
from nf.netapi.camara_devices import subject_names
from nf.netapi.errors import PositionUnknown, Unprocessable
from nf.netapi.geometry import Fit
from nf.netapi.locating import Locating
from nf.netapi.location_rights import Right
from nf.netapi.rest_camara import camara_door
from nf.netapi.v1.camara_location_pb2 import (
    RetrievedLocation,
    RetrieveLocationRequest,
    VerifyLocationAnswer,
    VerifyLocationRequest,
)

VERIFICATION: Final = "/location-verification/v3"
RETRIEVAL: Final = "/location-retrieval/v0.5"

Call = RestCall[Caller]

_RESULTS: Final = {Fit.INSIDE: "TRUE", Fit.OUTSIDE: "FALSE", Fit.PARTIAL: "PARTIAL"}
# Longer than anything is known.
_MOST_AGE_S: Final = 10**12
_VERIFICATION: Final = "LOCATION_VERIFICATION"
_RETRIEVAL: Final = "LOCATION_RETRIEVAL"
_IN_COMMON: Final = {"AMBIGUOUS_DEVICE": (422, "SERVICE_NOT_APPLICABLE")}


def _age(asked: VerifyLocationRequest | RetrieveLocationRequest) -> timedelta | None:
    return timedelta(seconds=min(asked.max_age_s, _MOST_AGE_S)) if asked.HasField("max_age_s") else None


def build_verification_door(callers: Callers, locating: Locating, *, least_radius_m: float) -> Door[Caller]:
    """The door at ``VERIFICATION``; ``least_radius_m``: of the areas that are served."""
    door = camara_door(
        VERIFICATION,
        title="CAMARA: Device Location Verification",
        version="3.0.0",
        callers=callers,
        description="Whether a device is in an area.",
        codes={
            **_IN_COMMON,
            "POSITION_UNKNOWN": (422, f"{_VERIFICATION}.UNABLE_TO_LOCATE"),
            "POSITION_TOO_OLD": (422, f"{_VERIFICATION}.UNABLE_TO_FULFILL_MAX_AGE"),
            "AREA_NOT_COVERED": (422, f"{_VERIFICATION}.AREA_NOT_COVERED"),
            "INVALID_AREA": (422, f"{_VERIFICATION}.INVALID_AREA"),
        },
    )

    async def verify(call: Call) -> Answer:
        asked = checked(call.message(VerifyLocationRequest))
        names = subject_names(call.caller.device, asked.device if asked.HasField("device") else None)
        area = circle_of(asked.area, "area", least_radius_m)
        found = await locating.by_agreement(call.caller, names, Right.VERIFY, _age(asked), area)
        fit, percent = fit_within(area, found.position, found.covered)
        if fit is Fit.UNKNOWN:
            raise PositionUnknown("device: its cell is known, and not where that is")
        told = VerifyLocationAnswer(verification_result=_RESULTS[fit], last_location_time=found.position.position_time)
        if fit is Fit.PARTIAL:
            told.match_rate_percent = percent
        if found.name.view is not None:
            told.device.CopyFrom(found.name.view)
        return Answer(200, told)

    door.operation(
        "POST",
        "/verify",
        verify,
        operation_id="verifyLocation",
        summary="Verifies a location",
        request=VerifyLocationRequest,
        answers={200: VerifyLocationAnswer},
        errors=(404, 422),
        conditional=False,
        scope="location-verification:verify",
    )
    return door


def build_retrieval_door(callers: Callers, locating: Locating) -> Door[Caller]:
    """The door at ``RETRIEVAL``."""
    door = camara_door(
        RETRIEVAL,
        title="CAMARA: Device Location Retrieval",
        version="0.5.0",
        callers=callers,
        description="Where a device is.",
        codes={
            **_IN_COMMON,
            "OUT_OF_RANGE": (400, "INVALID_ARGUMENT"),
            "POSITION_UNKNOWN": (422, f"{_RETRIEVAL}.UNABLE_TO_LOCATE"),
            "POSITION_TOO_OLD": (422, f"{_RETRIEVAL}.UNABLE_TO_FULFILL_MAX_AGE"),
        },
    )

    async def retrieve(call: Call) -> Answer:
        asked = checked(call.message(RetrieveLocationRequest))
        names = subject_names(call.caller.device, asked.device if asked.HasField("device") else None)
        found = await locating.by_agreement(call.caller, names, Right.RETRIEVE, _age(asked))
        area = place_of(found.position, found.covered)
        if area is None:
            raise PositionUnknown("device: its cell is known, and not where that is")
        surface = surface_m2(area)
        if asked.HasField("max_surface") and surface > asked.max_surface:
            raise Unprocessable(
                f"maxSurface: expected {asked.max_surface} square metres at the most, found {surface:.0f}",
                reason=f"{_RETRIEVAL}.UNABLE_TO_FULFILL_MAX_SURFACE",
            )
        told = RetrievedLocation(area=area, last_location_time=found.position.position_time)
        if found.name.view is not None:
            told.device.CopyFrom(found.name.view)
        return Answer(200, told)

    door.operation(
        "POST",
        "/retrieve",
        retrieve,
        operation_id="retrieveLocation",
        summary="Retrieves a location",
        request=RetrieveLocationRequest,
        answers={200: RetrievedLocation},
        errors=(404, 422),
        conditional=False,
        scope="location-retrieval:read",
    )
    return door
