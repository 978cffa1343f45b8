"""Identifiers, entity tags, field masks."""

from __future__ import annotations

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from nf.af.v1.provisioning_pb2 import M1QosSpecification, MediaEntryPoint, PolicyTemplate, ProvisioningSession
from nf.common.errors import InvalidArgument
from nf.common.resources import apply_mask, etag_of, new_id, page_limit

ALLOWED = ("external_reference", "qos_specification", "service_description_id")


def test_identifiers_are_random_and_hexadecimal() -> None:
    first, second = new_id(), new_id()
    assert first != second
    assert len(first) == 32
    assert int(first, 16) >= 0


def test_the_etag_is_of_the_content_without_itself() -> None:
    template = PolicyTemplate(external_reference="a", etag="old")
    assert etag_of(template) == etag_of(PolicyTemplate(external_reference="a"))
    assert etag_of(template) != etag_of(PolicyTemplate(external_reference="b"))
    assert template.etag == "old"


def test_only_masked_fields_change() -> None:
    current = PolicyTemplate(external_reference="a", service_description_id="sd", policy_template_id="t")
    changes = PolicyTemplate(external_reference="b", service_description_id="other", policy_template_id="x")
    updated = apply_mask(current, changes, FieldMask(paths=["external_reference"]), ALLOWED)
    assert updated == PolicyTemplate(external_reference="b", service_description_id="sd", policy_template_id="t")
    assert current.external_reference == "a"


def test_an_empty_mask_means_every_allowed_field() -> None:
    current = PolicyTemplate(external_reference="a", service_description_id="sd", policy_template_id="t")
    changes = PolicyTemplate(external_reference="b", policy_template_id="x")
    updated = apply_mask(current, changes, FieldMask(), ALLOWED)
    assert updated == PolicyTemplate(external_reference="b", policy_template_id="t")


def test_a_message_is_replaced_not_merged_and_cleared_when_it_is_not_set() -> None:
    qos = M1QosSpecification(max_btr_dl_bps=1, max_btr_ul_bps=2)
    current = PolicyTemplate(qos_specification=qos)
    mask = FieldMask(paths=["qos_specification"])
    changes = PolicyTemplate(qos_specification=M1QosSpecification(max_btr_dl_bps=0))
    updated = apply_mask(current, changes, mask, ALLOWED)
    assert updated.qos_specification.HasField("max_btr_dl_bps")
    assert updated.qos_specification.max_btr_dl_bps == 0
    assert not updated.qos_specification.HasField("max_btr_ul_bps")
    assert not apply_mask(current, PolicyTemplate(), mask, ALLOWED).HasField("qos_specification")


def test_a_list_is_replaced() -> None:
    current = ProvisioningSession(entry_points=[MediaEntryPoint(locator="a"), MediaEntryPoint(locator="b")])
    changes = ProvisioningSession(entry_points=[MediaEntryPoint(locator="c")])
    updated = apply_mask(current, changes, FieldMask(paths=["entry_points"]), ("entry_points",))
    assert [each.locator for each in updated.entry_points] == ["c"]


def test_paths_that_are_unknown_or_not_allowed_are_refused_by_name() -> None:
    with pytest.raises(InvalidArgument) as caught:
        apply_mask(PolicyTemplate(), PolicyTemplate(), FieldMask(paths=["state", "colour"]), ALLOWED)
    told = [each.description for each in caught.value.violations]
    assert told[0].startswith("'state': may not be changed; expected any of external_reference")
    assert told[1].startswith("'colour': unknown field")


def test_a_page_has_a_hundred_items_by_default_and_a_thousand_at_most() -> None:
    assert [page_limit(size) for size in (0, 1, 1000, 1001)] == [100, 1, 1000, 1000]
    with pytest.raises(InvalidArgument, match="page_size: expected 0 or more, got -1"):
        page_limit(-1)
