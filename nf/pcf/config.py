"""The PCF's section of the configuration."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from nf.common.config import FunctionSection, Section
from nf.pcf.policies import MAX_RATE_BPS, MAX_SESSION_PRECEDENCE
from nf.pcf.v1.operator_policies_pb2 import QosReference


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


def _check_names(value: tuple[QosReferenceSection, ...]) -> tuple[QosReferenceSection, ...]:
    if len({each.name for each in value}) != len(value):
        raise ValueError("a name of its own for each QoS reference")
    return value


class PcfSection(FunctionSection):
    """``[pcf]``."""

    # What is arranged with providers under a name.
    qos_references: Annotated[tuple[QosReferenceSection, ...], AfterValidator(_check_names)] = ()

    @property
    def arranged(self) -> dict[str, QosReference]:
        """The QoS references by their names."""
        return {each.name: each.resource for each in self.qos_references}
