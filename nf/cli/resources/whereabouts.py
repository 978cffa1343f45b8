"""Where the functions of a running stack are: as told, as configured, or as the stack has left it in its directory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nf.cli.running import found
from nf.common.errors import InvalidArgument, Unavailable

if TYPE_CHECKING:
    from nf.cli.configuration import Configuration

# Where a stack keeps its state unless it is told otherwise, and how it is told.
_DIRECTORY: Final = "castcore-state"
_DIRECTORY_VARIABLE: Final = "CASTCORE_STATE__DIRECTORY"


def addresses(
    functions: Iterable[str], told: Sequence[str], config: Path | None, directory: Path | None
) -> dict[str, str]:
    """The gRPC addresses of ``functions``. ``told``: "af=HOST:PORT"; it goes before what is found.

    Raises InvalidArgument for what is told in another form, Unavailable for a function that is not found, naming how to
    tell where it is.
    """
    wanted = list(functions)
    if config is None and not told:
        # The configuration takes long to load, and is not needed for a stack that runs where it is looked for.
        place = directory if directory is not None else Path(os.environ.get(_DIRECTORY_VARIABLE) or _DIRECTORY)
        running = found(place)
        if all(each in running for each in wanted):
            return {each: running[each] for each in wanted}
    from nf.cli.configuration import read

    chosen = _parsed(told)
    configuration = read(config)
    place = directory if directory is not None else Path(configuration.state.directory)
    running = found(place)
    whereabouts = {}
    for function in wanted:
        address = chosen.get(function) or running.get(function) or _configured(configuration, function)
        if not address:
            raise Unavailable(
                f"no {function} runs on the state directory {str(place)!r}: expected --dir of a running stack, or"
                f" --grpc {function}=HOST:PORT"
            )
        whereabouts[function] = address
    return whereabouts


def _parsed(told: Sequence[str]) -> dict[str, str]:
    from nf.cli.configuration import PEERS

    parsed = {}
    for each in told:
        function, equals, address = each.partition("=")
        host, colon, port = address.rpartition(":")
        if not equals or function not in PEERS or not (host and colon and port.isdecimal()):
            raise InvalidArgument(
                f"option '--grpc': found {each!r}, expected NF=HOST:PORT with NF one of {', '.join(PEERS)}"
            )
        parsed[function] = address
    return parsed


def _configured(configuration: Configuration, function: str) -> str:
    address = configuration.section(function).grpc_address
    return "" if address.endswith(":0") else address
