"""C1 as docs/ue.md shows it: its M8 document and its Python, run against a real AF."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from af_stack import UE, AfStack
from virtual_player import VirtualPlayer

from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1.consumption_reporting_pb2 import GetConsumptionStatisticsRequest
from nf.af.v1.consumption_reporting_pb2_grpc import ConsumptionReportsServiceStub
from nf.client import m8
from nf.client.c1 import MediaClient
from nf.client.m5_connect import connect
from nf.client.m8 import TitleUnknown
from nf.client.provider import Provider
from nf.common.errors import InvalidArgument

PAGE = Path(__file__).parents[2] / "docs" / "ue.md"


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path) as started:
        yield started


async def provisioned(stack: AfStack) -> str:
    provider = Provider(stack.channel)
    session_id = (await provider.provision_session("app", asp_id="asp")).provisioning_session_id
    await provider.configure_consumption_reporting(session_id, m1.ConsumptionReportingConfiguration())
    template = m1.PolicyTemplate(
        external_reference="zero-rating", qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5_000_000)
    )
    await provider.ready(await provider.create_template(session_id, template))
    return session_id


def document(access_url: str) -> m8.M8:
    tree = json.loads(block("json"))
    tree["policyDescriptions"][0]["serviceAccessInformationUrl"] = access_url
    return m8.parse(json.dumps(tree))


def test_the_document_of_the_page_is_one():
    parsed = m8.parse(block("json"))
    assert [each.title_id for each in parsed.titles(["4k"], "tv")] == ["title1"]
    assert [each.network_policy_id for each in parsed.policy_descriptions] == ["zero-rating"]


@pytest.mark.clause(*(f"TS 26.512 A.3.2 step {step}" for step in (3, 4, 5, 6, 7)))
async def test_the_example_of_the_page_runs(
    stack: AfStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    session_id = await provisioned(stack)
    players: list[EndingPlayer] = []

    def dash_player(_: MediaClient) -> EndingPlayer:
        players.append(EndingPlayer())
        return players[-1]

    # A player without media, and the UE that a phone would be by its address.
    monkeypatch.setattr(MediaClient, "_dash_player", dash_player)
    monkeypatch.setattr("nf.client.c1.connect", lambda url, *, ue_address: connect(url, ue_address=UE))
    tree = json.loads(block("json"))
    access = f"{stack.http}/3gpp-m5/v2/service-access-information/{session_id}"
    tree["policyDescriptions"][0]["serviceAccessInformationUrl"] = access
    file = tmp_path / "m8.json"
    file.write_text(json.dumps(tree))
    names: dict = {}
    exec(compile(block("python"), str(PAGE), "exec"), names)
    await names["watch"](file)
    assert "zero-rated up to 5,000,000 bit/s" in capsys.readouterr().out.splitlines()
    assert players[0].filters == [5_000_000, None]
    assert stack.pcf.sessions == {}
    request = GetConsumptionStatisticsRequest(provisioning_session_id=session_id)
    stub = ConsumptionReportsServiceStub(stack.channel)
    statistics = (await stub.GetConsumptionStatistics(request)).consumption_statistics
    assert (statistics.client_count, statistics.unit_count) == (1, 1)


class EndingPlayer(VirtualPlayer):
    """Comes to its end as soon as it has begun."""

    async def start(self, entry, listener):
        await super().start(entry, listener)
        listener.media_changed("video", "v1")
        listener.stopped()


async def test_two_titles_of_one_service_share_a_handler_and_the_client_stops_what_plays(stack: AfStack):
    session_id = await provisioned(stack)
    players: list[VirtualPlayer] = []

    def player() -> VirtualPlayer:
        players.append(VirtualPlayer(first_port=50000 + len(players)))
        return players[-1]

    client = MediaClient(
        document(f"grpc://{stack.address}/{session_id}"),
        client_id="me",
        subscription_ids=["4k"],
        device_type_id="tv",
        player=player,
        ue_address=UE,
    )
    async with client:
        assert client.network_policy_ids == ("zero-rating",)
        first = await client.play("title1", network_policy_id="zero-rating")
        second = await client.play(client.titles[0])
        assert (first.policy is not None, second.policy, second.policy_error) == (True, None, None)
        assert len(stack.pcf.sessions) == 1
    assert [each.log[-1] for each in players] == ["filter None", "stop"]
    assert stack.pcf.sessions == {}


async def test_what_the_user_may_not_see_and_what_is_not_there_is_refused(stack: AfStack):
    client = MediaClient(document(f"grpc://{stack.address}/x"), client_id="me", subscription_ids=["sd"])
    async with client:
        assert client.titles == ()
        with pytest.raises(TitleUnknown, match="'title1' is not for these subscriptions"):
            await client.play("title1")
        with pytest.raises(TitleUnknown, match="'title9' is not in the catalogue"):
            await client.play("title9")
    async with MediaClient(document(f"grpc://{stack.address}/x"), client_id="me") as everything:
        with pytest.raises(InvalidArgument, match=r"'premium' is not in the document \(known: zero-rating\)"):
            await everything.play("title1", network_policy_id="premium")
