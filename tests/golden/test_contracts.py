"""The committed stubs are what the contracts compile to, and every contract is described and styled alike."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"


def compiled(destination: Path) -> dict[Path, bytes]:
    spec = importlib.util.spec_from_file_location("compile_protos", PROTOS / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {path.relative_to(destination): path.read_bytes() for path in module.compile_protos(destination)}


def test_the_committed_stubs_are_current(tmp_path: Path) -> None:
    fresh = compiled(tmp_path)
    committed = {
        path.relative_to(ROOT): path.read_bytes()
        for folder in {path.parent for path in fresh}
        for path in (ROOT / folder).iterdir()
        if path.is_file()
    }
    assert committed.keys() == fresh.keys()
    assert [path for path in fresh if fresh[path] != committed[path]] == []


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorSet:
    target = tmp_path_factory.mktemp("descriptors") / "set"
    bundled = Path(protoc.__file__).parent / "_proto"
    sources = sorted(map(str, PROTOS.rglob("*.proto")))
    arguments = [f"-I{PROTOS}", f"-I{bundled}", f"--descriptor_set_out={target}", "--include_source_info", *sources]
    assert protoc.main(["protoc", *arguments]) == 0
    return FileDescriptorSet.FromString(target.read_bytes())


def test_directory_package_and_python_package_are_one(descriptors: FileDescriptorSet) -> None:
    for file in descriptors.file:
        assert file.package == ".".join(Path(file.name).parent.parts), file.name


def test_every_enum_begins_with_unspecified_and_bears_its_name(descriptors: FileDescriptorSet) -> None:
    for file in descriptors.file:
        enums = list(file.enum_type)
        enums += [enum for message in file.message_type for enum in message.enum_type]
        for enum in enums:
            prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
            assert (enum.value[0].number, enum.value[0].name) == (0, f"{prefix}UNSPECIFIED")
            assert all(value.name.startswith(prefix) for value in enum.value), enum.name


def test_every_call_has_a_request_and_an_answer_of_its_own_and_lists_have_pages(
    descriptors: FileDescriptorSet,
) -> None:
    messages = {
        f".{file.package}.{message.name}": message for file in descriptors.file for message in file.message_type
    }
    for file in descriptors.file:
        for service in file.service:
            assert service.name.endswith("Service")
            for method in service.method:
                asked, answered = (name.rpartition(".")[2] for name in (method.input_type, method.output_type))
                assert (asked, answered) == (f"{method.name}Request", f"{method.name}Response"), method.name
                if method.name.startswith("List"):
                    fields = {field.name for field in messages[method.input_type].field}
                    assert {"page_size", "page_token"} <= fields, method.name
                    assert "next_page_token" in {field.name for field in messages[method.output_type].field}


def test_every_service_call_and_resource_is_described(descriptors: FileDescriptorSet) -> None:
    undescribed = []
    for file in descriptors.file:
        described = {tuple(place.path) for place in file.source_code_info.location if place.leading_comments.strip()}
        for at, service in enumerate(file.service):
            undescribed += [service.name] * ((6, at) not in described)
            undescribed += [m.name for number, m in enumerate(service.method) if (6, at, 2, number) not in described]
        for at, message in enumerate(file.message_type):
            if not message.name.endswith(("Request", "Response")):
                undescribed += [message.name] * ((4, at) not in described)
    assert undescribed == []


def test_every_call_of_every_service_is_implemented() -> None:
    # Generated base classes answer UNIMPLEMENTED for what their subclass leaves out; nothing may be left out.
    services = {
        "nf.af.v1.provisioning_pb2_grpc": "nf.af.service_m1",
        "nf.af.v1.media_session_pb2_grpc": "nf.af.service_m5",
        "nf.af.v1.consumption_reporting_pb2_grpc": "nf.af.service_reports",
        "nf.af.v1.metrics_reporting_pb2_grpc": "nf.af.service_metrics",
        "nf.af.v1.notification_subscriptions_pb2_grpc": "nf.af.service_notifications",
        "nf.mbsf.v1.user_data_ingest_pb2_grpc": "nf.mbsf.service",
        "nf.mbsf.v1.user_service_pb2_grpc": "nf.mbsf.service",
        "nf.mbstf.v1.dist_session_pb2_grpc": "nf.mbstf.service",
        "nf.netapi.v1.access_pb2_grpc": "nf.netapi.service_accesses",
        "nf.netapi.v1.agreement_pb2_grpc": "nf.netapi.service_agreements",
        "nf.netapi.v1.booking_pb2_grpc": "nf.netapi.service_bookings",
        "nf.netapi.v1.coverage_pb2_grpc": "nf.netapi.service_coverage",
        "nf.netapi.v1.location_pb2_grpc": "nf.netapi.service_location",
        "nf.netapi.v1.monitoring_pb2_grpc": "nf.netapi.service_monitoring",
        "nf.pcf.v1.policy_authorization_pb2_grpc": "nf.pcf.service",
        "nf.pcf.v1.sm_policy_control_pb2_grpc": "nf.pcf.service",
        "nf.pcf.v1.operator_policies_pb2_grpc": "nf.pcf.service",
        "nf.pcf.v1.mbs_policy_authorization_pb2_grpc": "nf.pcf.mbs_service",
        "nf.pcf.v1.mbs_policy_control_pb2_grpc": "nf.pcf.mbs_service",
        "nf.smf.v1.pdu_session_pb2_grpc": "nf.smf.service",
        "nf.smf.v1.tmgi_pb2_grpc": "nf.smf.mbs_service",
        "nf.smf.v1.mbs_session_pb2_grpc": "nf.smf.mbs_service",
        "upf.n4.v1.n4_pb2_grpc": "upf.n4.service",
        "upf.n4.v1.n4mb_pb2_grpc": "upf.mbs.service",
        "upf.traffic.v1.traffic_pb2_grpc": "upf.traffic.service",
    }
    generated = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for folder in ("nf", "upf")
        for path in (ROOT / folder).rglob("*_pb2_grpc.py")
    }
    assert services.keys() == generated
    missing = []
    for contract, module in services.items():
        implementations = vars(importlib.import_module(module)).values()
        for name, base in vars(importlib.import_module(contract)).items():
            if not name.endswith("Servicer"):
                continue
            (made,) = (each for each in implementations if inspect.isclass(each) and base in each.__bases__)
            missing += [f"{name}.{call}" for call in vars(base) if call[0].isupper() and call not in vars(made)]
    assert missing == []


def test_units_stand_in_the_names_of_fields(descriptors: FileDescriptorSet) -> None:
    telling = re.compile(r"(rate|interval|period|window|threshold|max_age)$")
    wrong = [
        f"{message.name}.{field.name}"
        for file in descriptors.file
        for message in file.message_type
        for field in message.field
        if telling.search(field.name) and field.type in (3, 4, 5, 13)
    ]
    assert wrong == []
