"""Files that are there whole or not at all: written under another name, and renamed when all is in them."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import Self

from upf.errors import UpfError


class PendingFile:
    """A file in the making; a context manager.

    What is written goes to ``working_path``, beside the file and hidden; leaving the context without an error gives it
    its name (replacing what bore it), an error or an interrupt removes it. A pipe or a device is written as it stands.

    Raises UpfError, one line that names the file, where its directory does not take it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            direct = path.exists() and not S_ISREG(path.stat().st_mode)
            # Through a link to the file itself, so that the link stays one.
            self._target = path if direct else Path(os.path.realpath(path))
            self.working_path = path if direct else self._target.with_name(f".{self._target.name}.{os.getpid()}.part")
            if path.is_dir():
                raise IsADirectoryError(21, "Is a directory")
            if not direct:
                self.working_path.open("wb").close()
        except OSError as error:
            raise self.failed(error) from None

    def failed(self, error: OSError) -> UpfError:
        """What to raise where writing fails."""
        return UpfError(f"{self.path}: cannot be written: {error.strerror}")

    def keep(self) -> None:
        """Gives the file its name."""
        if self.working_path != self.path:
            try:
                self.working_path.replace(self._target)
            except OSError as error:
                raise self.failed(error) from None

    def discard(self) -> None:
        """Leaves nothing behind."""
        if self.working_path != self.path:
            self.working_path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.keep()
        else:
            self.discard()
