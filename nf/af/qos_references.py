"""What the operator has arranged under the QoS reference of a policy template: the PCF knows (TS 26.512 §7.9.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nf.af.v1.provisioning_pb2 import PolicyTemplate
from nf.common.errors import NotFound
from nf.pcf.v1.operator_policies_pb2 import GetQosReferenceRequest, QosReference

if TYPE_CHECKING:
    from nf.pcf.v1.operator_policies_pb2_grpc import OperatorPoliciesServiceAsyncStub


async def arranged_qos(
    template: PolicyTemplate, pcf: Callable[[], OperatorPoliciesServiceAsyncStub]
) -> QosReference | None:
    """The arranged QoS, its name alone where nothing is arranged under it; None for a template that names none.

    Raises CastcoreError when the PCF does not answer.
    """
    name = template.qos_specification.qos_reference
    if not name:
        return None
    try:
        return (await pcf().GetQosReference(GetQosReferenceRequest(qos_reference=name))).qos_reference
    except NotFound:
        return QosReference(qos_reference=name)
