"""The file in which reports wait: one JSON object per line, added and removed; a torn last line is no report."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from nf.common.errors import FailedPrecondition

# A journal is written anew when it has so many lines more than reports that wait.
_WORN_LINES: Final = 1000


@dataclass(frozen=True, slots=True)
class Kept:
    """A report as it is kept."""

    provisioning_session_id: str
    body: bytes
    server_addresses: tuple[str, ...]


class Journal:
    """The journal at ``path``. Raises FailedPrecondition when it cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = 0
        self._file: IO[str] | None = None

    def recover(self) -> list[Kept]:
        """The reports that waited when it was written last, in their order."""
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise FailedPrecondition(f"reports kept in {self._path}: cannot be read: {error}") from error
        found: dict[int, Kept] = {}
        for at, line in enumerate(lines, start=1):
            try:
                said = json.loads(line)
                if "removed" in said:
                    found.pop(int(said["removed"]), None)
                    continue
                found[int(said["added"])] = Kept(
                    str(said["provisioningSessionId"]),
                    base64.b64decode(said["report"], validate=True),
                    tuple(map(str, said["serverAddresses"])),
                )
            except (ValueError, KeyError, TypeError, binascii.Error) as error:
                if at == len(lines):
                    break
                raise FailedPrecondition(
                    f"reports kept in {self._path}: line {at} is none of this file's: {line[:80]!r}"
                ) from error
        return list(found.values())

    def added(self, number: int, kept: Kept) -> None:
        """A report waits."""
        self._write(_line(number, kept))

    def removed(self, number: int) -> None:
        """A report waits no longer."""
        self._write(json.dumps({"removed": number}))

    def worn(self, waiting: int) -> bool:
        """Whether the file is much longer than what waits."""
        return self._lines > waiting + _WORN_LINES

    def rewrite(self, waiting: Mapping[int, Kept]) -> None:
        """Writes the file anew: these wait, and nothing else. Whoever reads it finds the old or the new one."""
        self.close()
        beside = self._path.with_name(f".{self._path.name}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("w", encoding="utf-8") as file:
                file.writelines(f"{_line(number, kept)}\n" for number, kept in waiting.items())
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
            # What is written from now on goes to the end.
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise FailedPrecondition(f"reports kept in {self._path}: cannot be written: {error}") from error
        self._lines = len(waiting)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(f"{line}\n")
            self._file.flush()
        except OSError as error:
            raise FailedPrecondition(f"reports kept in {self._path}: cannot be written: {error}") from error
        self._lines += 1


def _line(number: int, kept: Kept) -> str:
    return json.dumps(
        {
            "added": number,
            "provisioningSessionId": kept.provisioning_session_id,
            "serverAddresses": kept.server_addresses,
            "report": base64.b64encode(kept.body).decode(),
        }
    )
