"""Refusals of the platform in the words of a CAMARA API: the paths of its own requests as the paths of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from nf.common.errors import CastcoreError, FieldViolation


@contextmanager
def in_words(words: Mapping[str, str]) -> Iterator[None]:
    """What is refused within is told with these paths ("periods[0].stop_time": "serviceTime.end")."""
    try:
        yield
    except CastcoreError as error:
        told = []
        for each in error.violations:
            field = words.get(each.field, each.field)
            error.message = error.message.replace(f"{each.field}:", f"{field}:")
            told.append(FieldViolation(field, each.description))
        error.violations = tuple(told)
        raise
