"""Captures out: pcap, or pcapng where the name or several link types ask for it; packed as the name says."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import Final, Self

from upf.captures import pcap, pcapng
from upf.captures.compression import packer
from upf.captures.formats import CaptureError
from upf.errors import UpfError
from upf.pending import PendingFile

_ETHERNET: Final = 1


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """How the packets that passed are laid out, in this machine's byte order: what `Engine.begin_output` is told.

    link_types: the one of a pcap; of a pcapng those of the interfaces that its beginning describes. nanoseconds: of a
    pcap; a pcapng always has them.
    """

    pcapng: bool
    nanoseconds: bool
    link_types: Sequence[int]

    @classmethod
    def of(cls, link_types: Sequence[int], *, nanoseconds: bool, pcapng: bool = False) -> Self:
        """For packets of these link types: a pcap where that can be and nothing else is asked for."""
        distinct = list(dict.fromkeys(link_types))
        if pcapng or len(distinct) > 1:
            return cls(pcapng=True, nanoseconds=True, link_types=distinct)
        return cls(pcapng=False, nanoseconds=nanoseconds, link_types=distinct or [_ETHERNET])

    def beginning(self) -> bytes:
        """What stands before the first packet."""
        if self.pcapng:
            interfaces = [pcapng.Interface(link_type, resolution=9) for link_type in self.link_types]
            return pcapng.beginning(pcapng.Section(interfaces=interfaces))
        return pcap.beginning(link_type=self.link_types[0], nanoseconds=self.nanoseconds)


def asks_for_pcapng(path: Path) -> bool:
    """Whether the name of a file does, packed or not."""
    return path.name.removesuffix(".gz").removesuffix(".zst").endswith(".pcapng")


class CaptureWriter:
    """A file for the packets that passed; a context manager. ``.gz`` and ``.zst`` are packed.

    It is there when the context is left without an error; until then what was there before is.

    inputs: (device, inode) of files, none of which may be written. Raises CaptureError where the file is one of them,
    cannot be written, or has a name that asks for a compression that is not installed.
    """

    def __init__(self, path: Path, output_format: OutputFormat, *, inputs: Collection[tuple[int, int]] = ()) -> None:
        self.path = path
        if str(path) == "-":
            raise CaptureError("-: cannot be written: standard output is for the report")
        self._packer = packer(str(path))
        try:
            if path.exists() and S_ISREG((state := path.stat()).st_mode) and (state.st_dev, state.st_ino) in inputs:
                raise CaptureError(f"{path}: cannot be written: it is an input too")
            self._pending = PendingFile(path)
            self._file = io.FileIO(self._pending.working_path, "w")
        except CaptureError:
            raise
        except UpfError as error:
            raise CaptureError(str(error)) from None
        except OSError as error:
            raise self._failed(error) from None
        try:
            self.write_records(output_format.beginning())
        except BaseException:
            self._file.close()
            self._pending.discard()
            raise

    def write_records(self, records: bytes | bytearray | memoryview) -> None:
        """Append packets that are laid out as the format of the file says."""
        if self._packer is None:
            self._write(records)
        else:
            self._write(self._packer.compress(records))

    def close(self) -> None:
        """Write what is due at the end."""
        try:
            if self._packer is not None and not self._file.closed:
                self._write(self._packer.flush())
        finally:
            try:
                self._file.close()
            except OSError as error:
                raise self._failed(error) from None

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[self._file.write(left) :]
            except OSError as error:
                raise self._failed(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except BaseException:
            self._pending.discard()
            raise
        self._pending.__exit__(kind, error, trace)

    def _failed(self, error: OSError) -> CaptureError:
        return CaptureError(f"{self.path}: cannot be written: {error.strerror}")
