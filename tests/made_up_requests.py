"""Requests made up from an OpenAPI document, right and wrong, and answers held to it (schemathesis)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

EXAMPLES = 3
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
METHODS = {"get", "put", "post", "patch", "delete"}


@dataclass
class Served:
    """Where it is served, the document, and values of path parameters that there are."""

    url: str
    document: dict
    known: dict[str, str]


def ask_everything(
    served: Served, mode: GenerationMode, headers: Mapping[str, str], examples: int = EXAMPLES
) -> tuple[list[str], dict[str, int]]:
    """Every operation asked some times: what was answered otherwise than told, and the last status of each."""
    schema = schemathesis.openapi.from_dict(without_conditions(served.document))
    checks = [*CHECKS, negative_data_rejection] if mode is GenerationMode.NEGATIVE else CHECKS
    failures: list[str] = []
    asked: dict[str, int] = {}
    with requests.Session() as session:
        session.headers.update(headers)
        for result in schema.get_all_operations():
            operation = result.ok()
            has_schema = operation.query or any("json" in each.media_type for each in operation.body)
            if mode is GenerationMode.NEGATIVE and not has_schema:
                # Nothing can be wrong with it.
                continue

            @seed(512)
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode), own=st.booleans())
            def ask(case: Case, own: bool) -> None:
                # What is known stays for those that follow.
                if own and case.path_parameters and case.method != "DELETE":
                    case.path_parameters = {
                        name: served.known.get(name, value) for name, value in case.path_parameters.items()
                    }
                response = case.call(base_url=served.url, session=session)
                asked[case.operation.label] = response.status_code
                try:
                    case.validate_response(response, checks=checks)
                except* Failure as group:
                    failures.append(
                        f"{case.as_curl_command()}\n{response.status_code} {response.text}\n{group.exceptions}"
                    )

            ask()
    return failures, asked


def without_conditions(document: dict) -> dict:
    """The document without the conditions of requests: made up ones would answer 412 before anything else is seen."""
    paths = {}
    for path, item in document["paths"].items():
        paths[path] = dict(item)
        for method in METHODS & set(item):
            kept = [each for each in item[method].get("parameters", ()) if each["in"] != "header"]
            paths[path][method] = {**item[method], "parameters": kept}
    return {**document, "paths": paths}
