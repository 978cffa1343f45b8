"""What a population is made of: its plan, its stopwatch, how connections are described."""

from __future__ import annotations

import random
from ipaddress import ip_network

import httpx
import pytest
from virtual_player import connection

from nf.af.v1 import media_session_pb2 as m5
from nf.client.dynamic_policy import Flow, SdfMethod, best_method
from nf.client.http_errors import error_of
from nf.client.latencies import Latencies
from nf.client.measured_m5 import Measurements
from nf.client.population import Plan
from nf.common.errors import CastcoreError, InvalidArgument, NotFound, Unavailable


def test_quantiles_are_exact_to_a_percent():
    chance, latencies = random.Random(1), Latencies()
    drawn = sorted(chance.expovariate(100) for _ in range(20_000))
    for each in drawn:
        latencies.add(each)
    for share in (0.5, 0.9, 0.99):
        assert latencies.quantile_s(share) == pytest.approx(drawn[int(share * len(drawn)) - 1], rel=0.011)
    told = latencies.to_json()
    assert told["max_ms"] == round(drawn[-1] * 1000, 3)
    assert told["mean_ms"] == pytest.approx(sum(drawn) / len(drawn) * 1000, abs=0.001)
    assert Latencies().to_json() == {"p50_ms": 0, "p90_ms": 0, "p99_ms": 0, "mean_ms": 0, "max_ms": 0}


def test_failures_are_counted_by_operation_and_reason_and_not_timed():
    measurements = Measurements()
    for error in (NotFound("x"), NotFound("x"), Unavailable("x")):
        with pytest.raises(CastcoreError), measurements.timed("report"):
            raise error
    with measurements.timed("report"):
        pass
    assert measurements.errors == {("report", "NOT_FOUND"): 2, ("report", "UNAVAILABLE"): 1}
    assert measurements.latencies["report"].count == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"clients": 0}, "clients"),
        ({"duration_s": 0}, "duration_s"),
        ({"ramp_s": -1}, "ramp_s"),
        ({"network_policy_id": "p"}, "ue_network"),
        ({"ue_network": ip_network("10.0.0.0/30"), "clients": 4}, "ue_network"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(changes: dict, field: str):
    with pytest.raises(InvalidArgument) as refused:
        Plan(**{"provisioning_session_id": "x", "clients": 1, "duration_s": 1, **changes}).check()
    assert [each.field for each in refused.value.violations] == [field]


def test_each_client_has_an_address_of_its_own():
    plan = Plan("x", clients=3, duration_s=1, ue_network=ip_network("10.45.0.0/29"))
    plan.check()
    assert [plan.ue_address(number) for number in range(3)] == ["10.45.0.1", "10.45.0.2", "10.45.0.3"]


@pytest.mark.clause("TS 26.512 §6.4.4.2")
@pytest.mark.parametrize(
    ("announced", "expected"),
    [
        ([], SdfMethod.FIVE_TUPLE),
        ([m5.SDF_METHOD_DOMAIN_NAME, m5.SDF_METHOD_FIVE_TUPLE], SdfMethod.FIVE_TUPLE),
        ([m5.SDF_METHOD_DOMAIN_NAME, m5.SDF_METHOD_TWO_TUPLE], SdfMethod.TWO_TUPLE),
        ([m5.SDF_METHOD_DOMAIN_NAME], SdfMethod.DOMAIN_NAME),
    ],
)
def test_connections_are_described_as_the_af_recommends(announced: list, expected: SdfMethod):
    assert best_method(announced) is expected


def test_a_connection_is_described_by_its_method():
    opened = connection(50000)
    assert Flow.of(opened) == Flow("198.51.100.7", 443, 50000, 6)
    assert Flow.of(opened, SdfMethod.TWO_TUPLE) == Flow("198.51.100.7")
    assert Flow.of(opened, SdfMethod.DOMAIN_NAME).description().domain_name == "cdn.test"


@pytest.mark.parametrize(
    ("status", "body", "error", "told"),
    [
        (404, b'{"detail": "no such", "cause": "C"}', NotFound, "no such (POST http://af/x: 404)"),
        (503, b"busy", Unavailable, "POST http://af/x: 503 Service Unavailable: busy"),
        (400, b'{"title": "Bad", "invalidParams": [{"param": "a.b", "reason": "r"}]}', InvalidArgument, "Bad (POST"),
        (418, b"[]", InvalidArgument, "POST http://af/x: 418"),
        (302, b"", InvalidArgument, "POST http://af/x: 302"),
    ],
)
def test_answers_of_any_af_are_errors_of_ours(status: int, body: bytes, error: type[CastcoreError], told: str):
    found = error_of(httpx.Response(status, content=body, request=httpx.Request("POST", "http://af/x")))
    assert type(found) is error
    assert str(found).startswith(told)
    assert [each.field for each in found.violations] == (["a.b"] if b"invalidParams" in body else [])
