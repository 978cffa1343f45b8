"""Writes the generated parts of the documentation: `make docs`.

docs/lifecycles.md and docs/openapi.json are written whole. Elsewhere, in the README too, what stands between
``<!-- generated: WHAT … -->`` and ``<!-- end -->`` is replaced; WHAT is one of SECTIONS.
`tests/golden/test_docs_current.py` fails at a stale page.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import re
import tempfile
import types
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeGuard, cast, get_args, get_origin

import typer.main
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet, MethodOptions
from grpc_tools import protoc
from pydantic.fields import FieldInfo
from sqlalchemy import Table

import nf.af.compose
import nf.af.machine
import nf.client.machine
import nf.mbsf.compose
import nf.mbsf.machine
import nf.mbstf.compose
import nf.mbstf.machine
import nf.netapi.access_machine
import nf.netapi.compose
import nf.netapi.machine
import nf.netapi.membership
import nf.netapi.qod_machine
import nf.pcf.machine
import nf.pcf.mbs_machine
import nf.smf.compose
import nf.smf.machine
import nf.smf.mbs_machine
from nf.af.config import AfSection, ProviderSection
from nf.cli.configuration import Configuration
from nf.cli.main import app
from nf.common.channels import Channels
from nf.common.clock import SystemClock
from nf.common.config import Address, Section, TlsSection
from nf.common.errors import CastcoreError
from nf.common.function import Context, Function
from nf.common.machine import Machine
from nf.common.openapi import document
from nf.common.rest import Door
from nf.common.store import Store, url_for
from nf.common.telemetry import Telemetry
from nf.mbsf.config import MbsfSection
from nf.mbstf.config import MbstfSection
from nf.netapi.config import NetapiSection
from nf.smf.config import SmfSection

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"

_SECTION: Final = re.compile(r"(<!-- generated: (\w+)((?: [\w./-]+)*) -->\n).*?(<!-- end -->)", re.DOTALL)
_IDEMPOTENCY: Final = {
    MethodOptions.IDEMPOTENCY_UNKNOWN: "no",
    MethodOptions.NO_SIDE_EFFECTS: "reads only",
    MethodOptions.IDEMPOTENT: "yes",
}
# Keys whose meaning is plain to the reader of the code, but not to that of the table.
_MEANINGS: Final = {
    "log.level": "What is logged: this and what is worse.",
    "log.format": "For eyes, or one JSON object a line.",
    "grpc_address": "Where its gRPC server listens; port 0: a free one.",
    "grace_s": "How long calls under way may take to end when it stops.",
    "tls": "In place of the common section [tls].",
    "peers.pcf": "Where the PCF is reached, if not at `[pcf]` `grpc_address`.",
    "peers.smf": "Where the SMF is reached, if not at `[smf]` `grpc_address`.",
    "peers.mbstf": "Where the MBSTF is reached, if not at `[mbstf]` `grpc_address`.",
    "peers.upf": "Where the UPF is reached, if not at `[upf]` `grpc_address`.",
}
_MACHINES: Final = (
    (
        "policy-template",
        "Policy template",
        "af",
        nf.af.machine.POLICY_TEMPLATE,
        "The provider's template at the AF (TS 26.512 §7.9.3). GONE stands for a resource that no longer exists.",
    ),
    (
        "dynamic-policy",
        "Dynamic policy",
        "af",
        nf.af.machine.DYNAMIC_POLICY,
        "A template at work on a media session, at the AF (TS 26.512 §11.5). REAUTHORISE and RELEASE are owed to the "
        "PCF: they are stored with a due time and tried until they are done.",
    ),
    (
        "application-session",
        "Application session",
        "pcf",
        nf.pcf.machine.APP_SESSION,
        "What the AF asked the PCF for (TS 29.514 §4.2). ABSENT stands for a session that the PCF does not keep.",
    ),
    (
        "mbs-grant",
        "MBS grant",
        "pcf",
        nf.pcf.mbs_machine.MBS_GRANT,
        "What the operator grants an MBS session at the PCF: a context of Nmb12 and a policy of N7mb alike "
        "(TS 29.537 §4). ABSENT stands for one that the PCF does not keep.",
    ),
    (
        "pdu-session",
        "PDU session",
        "smf",
        nf.smf.machine.PDU_SESSION,
        "A UE's connection at the SMF (TS 23.502 §4.3). ABSENT stands for a session that the SMF does not keep.",
    ),
    (
        "mbs-session",
        "MBS session",
        "smf",
        nf.smf.mbs_machine.MBS_SESSION,
        "Multicast or broadcast at the MB-SMF (TS 23.247 §7.1.1). ABSENT stands for a session that the SMF does not "
        "keep.",
    ),
    (
        "consumption-reporting",
        "Consumption reporting",
        "client",
        nf.client.machine.CONSUMPTION_REPORTING,
        "Of one media session, at the Media Session Handler (TS 26.501 §5.6). OFF and READY: nothing is consumed yet; "
        "SILENT and OFF: it may not be reported.",
    ),
    (
        "mbs-distribution-session",
        "Distribution session at the MBSF",
        "mbsf",
        nf.mbsf.machine.DISTRIBUTION_SESSION,
        "An MBS distribution session from its provisioning to its end (TS 26.502 §4.6.1, steps 1 to 5). A state is a "
        "step of the clause, stored before its calls are made. To the provider it is INACTIVE up to ESTABLISHING and "
        "while it is undone, DEACTIVATING from DEACTIVATING to FREEING_TMGI. GONE: no longer provisioned.",
    ),
    (
        "mbstf-distribution-session",
        "Distribution session at the MBSTF",
        "mbstf",
        nf.mbstf.machine.DIST_SESSION,
        "The MBSTF's replica of an MBS distribution session (TS 26.502 §4.6.1). ABSENT: not kept. "
        "The MBSF asks for states, not events: where it asks for one further on, those in between are walked through.",
    ),
    (
        "booking",
        "Booking of network capabilities",
        "netapi",
        nf.netapi.machine.BOOKING,
        "A booking at the network API platform (5G-MAG live media distribution, phases B and D). ABSENT: not there.",
    ),
    (
        "geofence-membership",
        "A device at a geofence",
        "netapi",
        nf.netapi.membership.MEMBERSHIP,
        "Where a device was seen last for certain, at the network API platform. UNCERTAIN: a position that is partly "
        "inside, or says nothing of the area. UNKNOWN: not seen yet; what is told then are initial events.",
    ),
    (
        "device-access",
        "Device access",
        "netapi",
        nf.netapi.access_machine.DEVICE_ACCESS,
        "A device that uses a network access ID (5G-MAG live media distribution, phase C). The events are found by "
        "comparing what it is to have with what the PCF has confirmed. ABSENT: not there.",
    ),
    (
        "quality-on-demand-session",
        "CAMARA Quality-On-Demand session",
        "netapi",
        nf.netapi.qod_machine.QOD_SESSION,
        "A session at the CAMARA door quality-on-demand: a booking of one device with its access, requested and "
        "accepted at once. ABSENT stands for a session that consumers cannot read.",
    ),
)

_MODULES: Final = {
    "mbs-grant": "mbs_machine.py",
    "mbs-session": "mbs_machine.py",
    "device-access": "access_machine.py",
    "quality-on-demand-session": "qod_machine.py",
}


def table(*rows: tuple[str, ...]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body]) + "\n"


# --- life cycles --------------------------------------------------------------------------------------------------


def lifecycles() -> str:
    """docs/lifecycles.md: every machine as a drawing and as a table."""
    parts = [
        "# Life cycles",
        "Every life cycle is a table (state, event) → (state, effects) in the function's `machine.py`, and is drawn"
        " here from\nthat table by `make docs`. What the table does not have is refused: `INVALID_TRANSITION`,"
        " gRPC code `FAILED_PRECONDITION`.\nAn arrow reads *event / effects*.",
    ]
    for anchor, title, function, machine, about in _MACHINES:
        module = _MODULES.get(anchor, "machine.py")
        source = f"../nf/{function}/{module}"
        parts += [
            f'<a id="{anchor}"></a>\n\n## {title}',
            f"{about} Source: [nf/{function}/{module}]({source}).",
            f"```mermaid\n{machine.mermaid()}```",
            _transitions(machine).rstrip(),
        ]
    return "\n\n".join(parts) + "\n"


def _transitions(machine: Machine) -> str:
    rows = [("state", "event", "next state", "effects")]
    for (state, event), transition in machine.table.items():
        effects = ", ".join(effect.name for effect in transition.effects)
        rows.append((_name(state), _name(event), _name(transition.state), effects or "–"))
    return table(*rows)


def _name(member: object) -> str:
    assert isinstance(member, Enum)
    return member.name


# --- configuration ------------------------------------------------------------------------------------------------


def configuration(names: str) -> str:
    """The keys of the named sections (none: of all)."""
    rows = [("key", "type", "default", "meaning")]
    for name, field in Configuration.model_fields.items():
        if names and name not in names.split():
            continue
        section = _section_of(field)
        assert section is not None
        if not field.is_required() and field.get_default(call_default_factory=True) is None:
            rows.append((f"`[{name}]`", "table", "none", _comments(Configuration)[name]))
        rows += _keys(name, section)
    return table(*rows)


def _keys(name: str, section: type[Section]) -> Iterator[tuple[str, str, str, str]]:
    comments = _comments(section)
    for key, value in section.model_fields.items():
        meaning = comments.get(key) or _MEANINGS.get(f"{name}.{key}") or _MEANINGS[key]
        inner = _section_of(value)
        if inner is TlsSection:
            yield f"`[{name}.{key}]`", "table", "none", meaning
            continue
        if inner is not None:
            several = get_origin(value.annotation) is tuple
            if not isinstance(value.default, Section):
                yield (
                    f"`[[{name}.{key}]]`" if several else f"`[{name}.{key}]`",
                    "tables" if several else "table",
                    "none",
                    meaning,
                )
            yield from _keys(f"{name}.{key}", inner)
            continue
        default = "required" if value.is_required() else _value(value.get_default(call_default_factory=True))
        yield f"`{name}.{key}`", _type(value), default, meaning


def _section_of(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, by itself, optionally or several times."""
    return next((each for each in (field.annotation, *get_args(field.annotation)) if _is_section(each)), None)


def _is_section(annotation: object) -> TypeGuard[type[Section]]:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _comments(section: type[Section]) -> dict[str, str]:
    """What the comment above each key says; keys that follow each other without one share it."""
    found: dict[str, str] = {}
    for each in reversed(section.__mro__):
        if not issubclass(each, Section):
            continue
        comment, fresh = "", False
        for line in inspect.getsource(each).splitlines()[1:]:
            text = line.strip()
            if text.startswith("#"):
                comment, fresh = (text[2:] if not fresh else f"{comment} {text[2:]}"), True
            elif match := re.match(r"(\w+): ", text):
                found[match[1]], fresh = comment, False
            elif text.startswith(("def ", "@")):
                break
    return found


def _type(field: FieldInfo) -> str:
    said = _annotation(field.annotation, field.metadata)
    bounds = [
        f"{sign} {getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"))
        if getattr(limit, name, None) is not None
    ]
    return " ".join([said, *([", ".join(bounds)] if bounds else [])])


def _annotation(annotation: object, metadata: list[object]) -> str:
    if get_origin(annotation) in (types.UnionType,) or type(None) in get_args(annotation):
        return _annotation(next(each for each in get_args(annotation) if each is not type(None)), metadata)
    if get_origin(annotation) is Annotated:
        inner, *validators = get_args(annotation)
        return _annotation(inner, list(validators))
    if get_origin(annotation) is Literal:
        return " or ".join(f'`"{each}"`' for each in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"list of {_annotation(get_args(annotation)[0], [])}s"
    if annotation is str:
        return "HOST:PORT" if any(each in get_args(Address) for each in metadata) else "string"
    return {int: "integer", float: "number", bool: "boolean"}[annotation]  # type: ignore[index]


def _value(default: object) -> str:
    if default is None:
        return "none"
    if isinstance(default, tuple):
        return f"`{json.dumps(default)}`"
    return f"`{json.dumps(default, ensure_ascii=False)}`"


# --- contracts ----------------------------------------------------------------------------------------------------


def calls(packages: str) -> str:
    """The services of the named protobuf packages, their calls, and what the contract says of them."""
    rows = [("service", "call", "may be repeated", "what it does")]
    for file in _contracts():
        if file.package not in packages.split():
            continue
        comments = {tuple(each.path): each.leading_comments for each in file.source_code_info.location}
        for number, service in enumerate(file.service):
            for at, method in enumerate(service.method):
                said = " ".join(comments.get((6, number, 2, at), "").split())
                shape = {(True, False): "stream → ", (False, True): "→ stream: "}.get(
                    (method.client_streaming, method.server_streaming), ""
                )
                repeat = _IDEMPOTENCY[method.options.idempotency_level]
                rows.append((f"`{service.name}`", f"`{method.name}`", repeat, f"{shape}{said}"))
    return table(*rows)


def _contracts() -> list[FileDescriptorProto]:
    protos, bundled = ROOT / "protos", Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "set"
        sources = sorted(map(str, protos.rglob("*.proto")))
        arguments = [f"-I{protos}", f"-I{bundled}", f"--descriptor_set_out={target}", "--include_source_info", *sources]
        if protoc.main(["protoc", *arguments]) != 0:
            raise RuntimeError("protoc failed")
        return list(FileDescriptorSet.FromString(target.read_bytes()).file)


# --- errors -------------------------------------------------------------------------------------------------------


def errors(modules: str) -> str:
    """The errors that the named modules define: reason, gRPC code, HTTP status, 3GPP cause, when."""
    rows = [("reason", "gRPC code", "HTTP", "cause", "when")]
    for error in _errors(modules.split()):
        cause = f"`{error.cause}`" if error.cause else "–"
        when = " ".join((inspect.getdoc(error) or "").split("\n\n")[0].split())
        rows.append((f"`{error.reason}`", f"`{error.code}`", str(error.http_status), cause, when))
    return table(*rows)


def _errors(modules: list[str]) -> Iterator[type[CastcoreError]]:
    for name in modules:
        module = importlib.import_module(name)
        for value in vars(module).values():
            if not isinstance(value, type) or not issubclass(value, CastcoreError) or value is CastcoreError:
                continue
            if value.__module__ == name and "reason" in vars(value):
                yield value


# --- the command --------------------------------------------------------------------------------------------------


def options(command: str) -> str:
    """The options of a command as `--help` has them."""
    rows = [("option", "meaning")]
    found: object = typer.main.get_command(app)
    for word in command.split():
        found = found.commands[word]  # type: ignore[attr-defined]
    for parameter in found.params:  # type: ignore[attr-defined]
        if parameter.param_type_name != "option":
            continue
        names = ", ".join(f"`{name}`" for name in parameter.opts)
        value = "" if parameter.is_flag else f" `{parameter.metavar or parameter.type.name.upper()}`"
        default = parameter.default
        plain = isinstance(default, int | str) and not isinstance(default, bool)
        rows.append((names + value, (parameter.help or "") + (f" [default: {default}]" if plain else "")))
    return table(*rows)


# --- HTTP ---------------------------------------------------------------------------------------------------------


@cache
def openapi() -> dict[str, object]:
    """The OpenAPI document of a stack whose configuration names providers."""
    provider = ProviderSection(asp_id="provider", token="0" * 32)
    af = AfSection(grpc_address="127.0.0.1:50051", providers=(provider,))
    functions: dict[str, tuple[Section, Sequence[Table], Callable[[Context[Any]], Function]]] = {
        "af": (af, nf.af.compose.TABLES, nf.af.compose.build),
        "smf": (SmfSection(), nf.smf.compose.TABLES, nf.smf.compose.build),
        "mbsf": (MbsfSection(), nf.mbsf.compose.TABLES, nf.mbsf.compose.build),
        "mbstf": (MbstfSection(), nf.mbstf.compose.TABLES, nf.mbstf.compose.build),
        "netapi": (NetapiSection(), nf.netapi.compose.TABLES, nf.netapi.compose.build),
    }

    async def doors() -> dict[str, object]:
        found: list[Door[object]] = []
        for name, (config, tables, build) in functions.items():
            with tempfile.TemporaryDirectory() as directory:
                store = Store.open(url_for(Path(directory), name), clock=SystemClock(), tables=tables)
                context = Context(
                    name, config, SystemClock(), store, Channels({}), Telemetry(), "http://127.0.0.1:9090"
                )
                try:
                    found += [each for each in build(context).routes if isinstance(each, Door)]
                finally:
                    await context.channels.close()
                    await store.close()
        return document(found)

    return asyncio.run(doors())


def operations(prefix: str) -> str:
    """What is served below a path: method, path, what it answers, what it does."""
    rows = [("method", "path", "answers", "what it does")]
    for path, item in cast("dict[str, dict[str, dict[str, object]]]", openapi()["paths"]).items():
        if not path.startswith(prefix):
            continue
        for method, told in item.items():
            if method != "parameters":
                answers = [each for each in cast("dict[str, object]", told["responses"]) if each < "300"]
                rows.append(
                    (method.upper(), f"`{path.removeprefix(prefix)}`", ", ".join(answers), str(told["summary"]))
                )
    return table(*rows)


# --- decisions ----------------------------------------------------------------------------------------------------


def decisions(_: str) -> str:
    """The pages of docs/decisions, by number."""
    rows = [("", "decision")]
    for page in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        title = page.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        number, _, said = title.partition(". ")
        rows.append((number, f"[{said}]({page.name})"))
    return table(*rows)


# --- figures ------------------------------------------------------------------------------------------------------


def policing_speed(_: str) -> str:
    """The headline of benchmarks/results/policing.json, as it was measured last, with its machine."""
    said = json.loads((ROOT / "benchmarks" / "results" / "policing.json").read_text(encoding="utf-8"))
    subjects = ("castcore", "DPDK rte_hash + rte_meter", "read-only floor")
    rows = [("flows", *(f"{subject}: ns per packet" for subject in subjects), "castcore is faster")]
    figures = {(row["flows"], row["subject"]): row for row in said["results"]}
    for flows in sorted({flows for flows, _ in figures}):
        found = [figures.get((flows, subject), {}) for subject in subjects]
        ratio = found[0].get("times_as_fast_as_dpdk")
        rows.append(
            (
                f"{flows:,}",
                *(f"{each['ns_per_packet']:.1f}" if each else "–" for each in found),
                f"{ratio:.2f} ×" if ratio else "–",
            )
        )
    machine = said["machine"]
    return f"{table(*rows)}\nOne core of an {_where(machine)}, load average {machine['load_average']}.\n"


def live_speed(_: str) -> str:
    """The headline of benchmarks/results/tun.json, likewise."""
    said = json.loads((ROOT / "benchmarks" / "results" / "tun.json").read_text(encoding="utf-8"))
    rows = [("TCP through", "Gbit/s, median", "slowest", "fastest")]
    for row in said["results"]:
        if row["of"] == "gbit_per_s":
            rows.append((row["subject"], *(f"{row[key]:.1f}" for key in ("median", "slowest", "fastest"))))
    machine = said["machine"]
    return f"{table(*rows)}\nBoth hosts and what joins them on one {_where(machine)}.\n"


def _where(machine: dict[str, object]) -> str:
    return f"{machine['cpu']} ({machine['cores']} cores, {machine['instructions']}), {machine['date']}"


SECTIONS: Final[dict[str, Callable[[str], str]]] = {
    "calls": calls,
    "configuration": configuration,
    "decisions": decisions,
    "errors": errors,
    "live_speed": live_speed,
    "operations": operations,
    "options": options,
    "policing_speed": policing_speed,
}


def generated() -> dict[Path, str]:
    """Every page with generated parts, as it should be."""
    pages = {
        DOCS / "lifecycles.md": lifecycles(),
        DOCS / "openapi.json": json.dumps(openapi(), indent=1, ensure_ascii=False) + "\n",
    }
    for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        if page not in pages and _SECTION.search(text):
            pages[page] = _SECTION.sub(
                lambda match: f"{match[1]}\n{SECTIONS[match[2]](match[3].strip())}\n{match[4]}", text
            )
    return pages


if __name__ == "__main__":
    for path, content in generated().items():
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
