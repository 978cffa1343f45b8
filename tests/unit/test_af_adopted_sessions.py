"""Sessions that were made before the AF knew its providers."""

from __future__ import annotations

from nf.af.providers import Provider
from nf.af.provisioning import adopt_sessions, list_sessions
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.clock import SystemClock
from nf.common.store import Store, url_for


async def test_a_provider_finds_its_sessions_of_before(tmp_path):
    store = Store.open(url_for(tmp_path, "af"), clock=SystemClock())
    try:
        for name, asp_id in (("s-1", "alpha"), ("s-2", "beta"), ("s-3", "")):
            session = m1.ProvisioningSession(provisioning_session_id=name, asp_id=asp_id)
            await store.write(lambda tx, name=name, session=session: tx.insert(session, name))

        async def names(provider: Provider) -> list[str]:
            request = m1.ListProvisioningSessionsRequest()
            page = await store.read(lambda reader: list_sessions(reader, request, provider))
            return [each.provisioning_session_id for each in page.items]

        assert await names(Provider("alpha")) == []
        for _ in range(2):
            await store.write(adopt_sessions)
            assert await names(Provider("alpha")) == ["s-1"]
            assert await names(Provider("beta")) == ["s-2"]
            assert await names(Provider("net", operator=True)) == ["s-1", "s-2", "s-3"]
    finally:
        await store.close()
