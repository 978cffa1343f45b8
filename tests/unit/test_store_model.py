"""The store against a model: whatever jobs are written, alone or in one group, all of each or nothing is there."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from nf.common.clock import ManualClock
from nf.common.errors import AlreadyExists, CastcoreError, NotFound
from nf.common.resources import etag_of
from nf.common.store import Reader, Store, Transaction, url_for
from nf.common.v1.types_pb2 import Volume
from nf.pcf.v1.operator_policies_pb2 import OperatorPolicy

NAMES = ["a", "b", "c"]
VALUES = ["", "x", "y"]


@dataclass(frozen=True)
class Step:
    verb: str
    name: str
    value: str


class Abandoned(Exception):
    """The job thinks better of it."""


@dataclass
class Model:
    """What should be there: name → (value, lookup), in order of creation, and the subjects of the events."""

    resources: dict[str, tuple[str, str]] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)

    def copy(self) -> Model:
        return Model(dict(self.resources), list(self.events))

    def do(self, step: Step) -> None:
        known = step.name in self.resources
        match step.verb:
            case "insert":
                if known:
                    raise AlreadyExists(step.name)
                self.resources[step.name] = (step.value, step.value)
            case "put":
                self.resources[step.name] = (step.value, step.value)
            case "update":
                if not known:
                    raise NotFound(step.name)
                self.resources[step.name] = (step.value, self.resources[step.name][1])
            case "delete":
                self.resources.pop(step.name, None)
            case "emit":
                self.events.append(step.name)
            case "abandon":
                raise Abandoned


def do(tx: Transaction, step: Step) -> None:
    message = OperatorPolicy(operator_policy_id=step.name, dnn=step.value)
    match step.verb:
        case "insert":
            tx.insert(message, step.name, lookups={"value": step.value})
        case "put":
            tx.put(message, step.name, lookups={"value": step.value})
        case "update":
            tx.update(message, step.name)
        case "delete":
            tx.delete(OperatorPolicy, step.name)
        case "emit":
            tx.emit("HAPPENED", step.name, Volume(), source="pcf")
        case "abandon":
            raise Abandoned


def do_all(job: list[Step], tx: Transaction) -> None:
    for step in job:
        do(tx, step)


def check(reader: Reader, model: Model) -> None:
    everything = reader.all(OperatorPolicy)
    assert [(each.operator_policy_id, each.dnn) for each in everything] == [
        (name, value) for name, (value, _) in model.resources.items()
    ]
    assert all(each.etag == etag_of(each) for each in everything)
    for value in VALUES:
        found = [each.operator_policy_id for each in reader.find(OperatorPolicy, "value", value)]
        assert found == [name for name, (_, lookup) in model.resources.items() if lookup == value and value]
    events = reader.events(0)
    assert [each.sequence for each in events] == list(range(1, len(model.events) + 1))
    assert [each.subject for each in events] == model.events
    assert reader.last_sequence() == len(model.events)


steps = st.builds(
    Step,
    st.sampled_from(["insert", "put", "update", "delete", "emit", "emit", "abandon"]),
    st.sampled_from(NAMES),
    st.sampled_from(VALUES),
)
jobs = st.lists(st.lists(steps, max_size=5), max_size=12)


@settings(max_examples=60, deadline=None)
@given(groups=st.lists(jobs, max_size=4))
def test_the_store_does_what_the_model_does(groups: list[list[list[Step]]]) -> None:
    async def run(url: str) -> None:
        store, model = Store.open(url, clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC))), Model()
        for group in groups:
            expected: list[type[Exception] | None] = []
            for job in group:
                tried = model.copy()
                try:
                    for step in job:
                        tried.do(step)
                except (CastcoreError, Abandoned) as error:
                    expected.append(type(error))
                else:
                    expected.append(None)
                    model = tried
            outcomes = await asyncio.gather(
                *(store.write(partial(do_all, job)) for job in group),
                return_exceptions=True,
            )
            assert [None if each is None else type(each) for each in outcomes] == expected
            await store.read(lambda reader, model=model: check(reader, model))
        await store.close()
        again = Store.open(url, clock=store.clock)
        await again.read(lambda reader: check(reader, model))
        await again.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(run(url_for(Path(directory), "pcf")))
