"""A copy of some bytes in a block of the heap of just their length, so that a sanitizer sees the first byte beyond."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# A bytes object ends in a zero byte of its own, and the interpreter's allocator rounds up: neither shows a read beyond.
_LIBC: Final = ctypes.CDLL(None)
_LIBC.malloc.restype = ctypes.c_void_p
_LIBC.malloc.argtypes = (ctypes.c_size_t,)
_LIBC.free.restype = None
_LIBC.free.argtypes = (ctypes.c_void_p,)
_VIEW: Final = ctypes.pythonapi.PyMemoryView_FromMemory
_VIEW.restype = ctypes.py_object
_VIEW.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)
_READ_ONLY: Final = 0x100


@contextmanager
def exact_buffer(data: bytes) -> Iterator[memoryview]:
    """The copy as a read-only view, which is not to be used after the block."""
    block = _LIBC.malloc(len(data))
    if not block:
        raise MemoryError
    try:
        ctypes.memmove(block, data, len(data))
        view: memoryview = _VIEW(block, len(data), _READ_ONLY)
        with view:
            yield view
    finally:
        _LIBC.free(block)
