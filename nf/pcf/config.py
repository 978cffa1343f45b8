"""The PCF's section of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from nf.common.config import FunctionSection, Section
from nf.common.v1.mbs_pb2 import MbsServiceType
from nf.pcf.policies import MAX_RATE_BPS, MAX_SESSION_PRECEDENCE
from nf.pcf.v1.operator_policies_pb2 import MbsLimits, QosReference


class QosReferenceSection(Section):
    """``[[pcf.qos_references]]``: a QoS that is arranged with providers under a name."""

    # The name by which policy templates ask for it (qosReference).
    name: str = Field(min_length=1, max_length=256)
    # Its maximum bit rates, one at least; none: no bound.
    max_dl_bps: int | None = Field(default=None, ge=1, le=MAX_RATE_BPS)
    max_ul_bps: int | None = Field(default=None, ge=1, le=MAX_RATE_BPS)
    # Its guaranteed bit rates, each with a maximum; none: nothing is guaranteed.
    guaranteed_dl_bps: int | None = Field(default=None, ge=1, le=MAX_RATE_BPS)
    guaranteed_ul_bps: int | None = Field(default=None, ge=1, le=MAX_RATE_BPS)
    # Order in which its PCC rules are evaluated, lower first; 0: as the operator policy says.
    precedence: int = Field(default=0, ge=0, le=MAX_SESSION_PRECEDENCE)

    @model_validator(mode="after")
    def _check_guarantees(self) -> Self:
        if self.max_dl_bps is None and self.max_ul_bps is None:
            raise ValueError("max_dl_bps or max_ul_bps")
        for way, guaranteed_bps, max_bps in (
            ("dl", self.guaranteed_dl_bps, self.max_dl_bps),
            ("ul", self.guaranteed_ul_bps, self.max_ul_bps),
        ):
            if guaranteed_bps is not None and (max_bps is None or guaranteed_bps > max_bps):
                raise ValueError(f"guaranteed_{way}_bps at most max_{way}_bps")
        return self

    @property
    def resource(self) -> QosReference:
        """The reference as the PCF works with it."""
        return QosReference(
            qos_reference=self.name,
            max_br_dl_bps=self.max_dl_bps,
            max_br_ul_bps=self.max_ul_bps,
            gbr_dl_bps=self.guaranteed_dl_bps,
            gbr_ul_bps=self.guaranteed_ul_bps,
            precedence=self.precedence,
        )


class MbsLimitsSection(Section):
    """``[pcf.mbs]``: what MBS sessions are granted where no operator policy says it."""

    # No MBS session at all; operator policies grant the exceptions.
    denied: bool = False
    # The services that are granted; none: both.
    service_types: tuple[Literal["MULTICAST", "BROADCAST"], ...] = ()
    # The most for one session; none: no bound.
    max_session_bps: int | None = Field(default=None, ge=1, le=MAX_RATE_BPS)
    # The most for all sessions together; none: no bound.
    max_total_bps: int | None = Field(default=None, ge=1, le=MAX_RATE_BPS)
    # The 5G QoS identifiers that are granted; none: any.
    five_qis: tuple[Annotated[int, Field(ge=1, le=255)], ...] = ()
    # The highest allocation and retention priority that is granted, 1 (the highest) to 15; 0: any.
    highest_arp_priority_level: int = Field(default=0, ge=0, le=15)

    @property
    def resource(self) -> MbsLimits:
        """The limits as the PCF works with them."""
        return MbsLimits(
            service_types=[MbsServiceType.Value(f"MBS_SERVICE_TYPE_{each}") for each in self.service_types],
            max_session_bit_rate_bps=self.max_session_bps,
            max_total_bit_rate_bps=self.max_total_bps,
            five_qis=self.five_qis,
            highest_arp_priority_level=self.highest_arp_priority_level,
            denied=self.denied,
        )


def _check_names(value: tuple[QosReferenceSection, ...]) -> tuple[QosReferenceSection, ...]:
    if len({each.name for each in value}) != len(value):
        raise ValueError("a name of its own for each QoS reference")
    return value


class PcfSection(FunctionSection):
    """``[pcf]``."""

    # What is arranged with providers under a name.
    qos_references: Annotated[tuple[QosReferenceSection, ...], AfterValidator(_check_names)] = ()
    # What MBS sessions are granted where no operator policy says it.
    mbs: MbsLimitsSection = Field(default_factory=MbsLimitsSection)

    @property
    def arranged(self) -> dict[str, QosReference]:
        """The QoS references by their names."""
        return {each.name: each.resource for each in self.qos_references}
