"""Compiles the contracts into the ``v1`` packages that are committed beside the code.

    python protos/compile.py [DESTINATION]

DESTINATION is the repository by default; the test that the packages are current names a temporary folder.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message
from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent


def compile_protos(destination: Path) -> list[Path]:
    """Writes the packages below ``destination`` and returns every file written, sorted.

    Files that are no longer made are removed from the packages. Raises RuntimeError when a contract does not compile
    (protoc has said why on standard error); nothing has changed then.
    """
    with tempfile.TemporaryDirectory() as scratch:
        _compile(Path(scratch))
        made = {path.relative_to(scratch): path.read_bytes() for path in Path(scratch).rglob("*") if path.is_file()}
    for folder in sorted({path.parent for path in made}):
        (destination / folder).mkdir(parents=True, exist_ok=True)
        for present in (destination / folder).iterdir():
            if present.is_file() and present.relative_to(destination) not in made:
                present.unlink()
    for path, content in made.items():
        target = destination / path
        if not target.exists() or target.read_bytes() != content:
            target.write_bytes(content)
    return sorted(destination / path for path in made)


def _compile(destination: Path) -> None:
    sources = sorted(PROTOS.rglob("*.proto"))
    bundled = Path(protoc.__file__).parent / "_proto"
    scripts = Path(sys.executable).parent
    arguments = ["protoc", f"-I{PROTOS}", f"-I{bundled}"]
    arguments += [f"--plugin=protoc-gen-{kind}={scripts / f'protoc-gen-{kind}'}" for kind in ("mypy", "mypy_grpc")]
    arguments += [f"--{kind}_out={destination}" for kind in ("python", "grpc_python")]
    arguments += [f"--{kind}_out=quiet:{destination}" for kind in ("mypy", "mypy_grpc")]
    if protoc.main([*arguments, *map(str, sources)]) != 0:
        raise RuntimeError("protoc failed")
    for source in sources:
        folder = source.parent.relative_to(PROTOS)
        if not any(line.startswith("service ") for line in source.read_text().splitlines()):
            for stub in (destination / folder).glob(f"{source.stem}_pb2_grpc.py*"):
                stub.unlink()
        about = f'"""Generated from protos/{folder}; never edited. Protobuf package {".".join(folder.parts)}."""\n'
        (destination / folder / "__init__.py").write_text(about)
    _describe(destination, [f"-I{PROTOS}", f"-I{bundled}"], sources)


def _describe(destination: Path, includes: list[str], sources: list[Path]) -> None:
    """Writes ``descriptions.json`` beside the stubs: the comments of messages, fields, enums and their values."""
    scratch = destination / "descriptors"
    arguments = [*includes, f"--descriptor_set_out={scratch}", "--include_source_info", *map(str, sources)]
    if protoc.main(["protoc", *arguments]) != 0:
        raise RuntimeError("protoc failed")
    files = FileDescriptorSet.FromString(scratch.read_bytes()).file
    scratch.unlink()
    packages: dict[str, dict[str, str]] = {}
    for file in files:
        found = packages.setdefault(file.package, {})
        for location in file.source_code_info.location:
            name = _name_at(file, list(location.path))
            if name and location.leading_comments:
                found[name] = " ".join(location.leading_comments.split())
    for package, found in packages.items():
        text = json.dumps(dict(sorted(found.items())), indent=1, ensure_ascii=False)
        (destination / package.replace(".", "/") / "descriptions.json").write_text(text + "\n")


def _name_at(file: FileDescriptorProto, path: list[int]) -> str:
    """The name below the package of what a source location is about; empty for what is no type nor part of one."""
    part: Message = file
    names = []
    while path:
        field = part.DESCRIPTOR.fields_by_number[path[0]]
        if field.name not in ("message_type", "nested_type", "enum_type", "field", "value") or len(path) < 2:
            return ""
        part = getattr(part, field.name)[path[1]]
        names.append(part.name)
        path = path[2:]
    return ".".join(names)


if __name__ == "__main__":
    written = compile_protos(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTOS.parent)
    print(f"{len(written)} files are current")
