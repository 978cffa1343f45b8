"""The schemas of 3GPP's OpenAPI files, where there are such files, as JSON Schema: references across files resolved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

Schema = Any
# Of hundreds of kilobytes the one in C is ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def of_openapi_3_0(node: Schema) -> Schema:
    """The schema with what OpenAPI 3.0 says in its own way said as JSON Schema draft 7 does."""
    if isinstance(node, list):
        return [of_openapi_3_0(each) for each in node]
    if not isinstance(node, dict):
        return node
    # Beside a reference nothing counts.
    if "$ref" in node:
        return {"$ref": node["$ref"]}
    made = {name: of_openapi_3_0(value) for name, value in node.items() if name != "nullable"}
    if isinstance(node.get("required"), list):
        # What is only to be set is not in answers.
        hidden = {name for name, told in node.get("properties", {}).items() if told.get("writeOnly")}
        made["required"] = [name for name in node["required"] if name not in hidden]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if made.get(exclusive) is True:
            made[exclusive] = made.pop(bound)
        elif made.get(exclusive) is False:
            del made[exclusive]
    if node.get("nullable") is True:
        return {"anyOf": [made, {"type": "null"}]}
    return made


class OfficialSchemas:
    """The files of one directory."""

    def __init__(self, directory: Path) -> None:
        self.files = {path.name: yaml.load(path.read_text(), _LOADER) for path in sorted(directory.glob("*.yaml"))}
        self._registry: Registry[Schema] = Registry().with_resources(
            (name, Resource(contents=of_openapi_3_0(content), specification=DRAFT7))
            for name, content in self.files.items()
        )

    def errors(self, file: str, pointer: str, value: object) -> list[str]:
        """What is wrong with a value by the schema at a place of a file."""
        validator = Draft7Validator(
            {"$ref": f"{file}#{pointer}"}, registry=self._registry, format_checker=FormatChecker()
        )
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

    def operation(self, file: str, path: str, method: str) -> Schema:
        """What the file says of an operation; paths are told apart by their form, not by their parameters' names."""
        for template, item in self.files[file]["paths"].items():
            parts, found = template.strip("/").split("/"), path.strip("/").split("/")
            if len(parts) == len(found) and all(a[0] == "{" or a == b for a, b in zip(parts, found, strict=True)):
                return template, item[method]
        raise LookupError(f"{file}: {method} {path}")
