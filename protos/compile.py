"""Compiles the contracts into the ``v1`` packages that are committed beside the code.

    python protos/compile.py [DESTINATION]

DESTINATION is the repository by default; the test that the packages are current names a temporary folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent


def compile_protos(destination: Path) -> list[Path]:
    """Writes the packages below ``destination`` and returns every file written, sorted.

    Raises RuntimeError when a contract does not compile (protoc has said why on standard error).
    """
    sources = sorted(PROTOS.rglob("*.proto"))
    folders = sorted({source.parent.relative_to(PROTOS) for source in sources})
    for folder in folders:
        (destination / folder).mkdir(parents=True, exist_ok=True)
        for stale in (destination / folder).glob("*_pb2*"):
            stale.unlink()
    bundled = Path(protoc.__file__).parent / "_proto"
    outputs = [f"--{kind}_out={destination}" for kind in ("python", "grpc_python")]
    outputs += [f"--{kind}_out=quiet:{destination}" for kind in ("mypy", "mypy_grpc")]
    plugins = [f"--plugin=protoc-gen-{kind}={Path(sys.executable).parent / f'protoc-gen-{kind}'}" for kind in ("mypy", "mypy_grpc")]
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{bundled}", *plugins, *outputs, *map(str, sources)]) != 0:
        raise RuntimeError("protoc failed")
    for folder in folders:
        for stub in (destination / folder).glob("*_pb2_grpc.py*"):
            if not any(line.startswith("service ") for line in (PROTOS / folder / stub.name.replace("_pb2_grpc", "").replace(stub.suffix, ".proto")).read_text().splitlines()):
                stub.unlink()
        package = ".".join(folder.parts)
        (destination / folder / "__init__.py").write_text(f'"""Generated from protos/{folder}; never edited. Protobuf package {package}."""\n')
    return sorted(path for folder in folders for path in (destination / folder).iterdir() if path.is_file())


if __name__ == "__main__":
    written = compile_protos(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTOS.parent)
    print(f"wrote {len(written)} files")
