"""What a process tells about itself: structured logs on standard error, and Prometheus counters and latencies."""

from __future__ import annotations

import logging
import sys
from typing import Final, Literal, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.process_collector import ProcessCollector

from nf.common import call
from nf.common.plain_structlog import structlog

_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

LogFormat = Literal["json", "console"]

# Of this process; everything, before it has been configured.
_threshold = logging.NOTSET


class Telemetry:
    """The metrics of one process; every function in it shares them, told apart by the label "function"."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.server_calls = Counter(
            "castcore_rpc_server_calls",
            "Calls served, by outcome.",
            ("function", "method", "code"),
            registry=self.registry,
        )
        self.server_latency_s = Histogram(
            "castcore_rpc_server_latency_seconds",
            "From the arrival of a call to its end; a stream lasts as long as it is open.",
            ("function", "method"),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.server_messages = Counter(
            "castcore_rpc_server_stream_messages",
            "Messages sent on streams.",
            ("function", "method"),
            registry=self.registry,
        )
        self.server_open = Gauge(
            "castcore_rpc_server_open_calls",
            "Calls being served.",
            ("function", "method"),
            registry=self.registry,
        )
        self.client_calls = Counter(
            "castcore_rpc_client_calls",
            "Calls made, by outcome, each retry for itself.",
            ("function", "peer", "method", "code"),
            registry=self.registry,
        )
        self.client_latency_s = Histogram(
            "castcore_rpc_client_latency_seconds",
            "From a call to its answer, each retry for itself.",
            ("function", "peer", "method"),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )

    def exposition(self) -> tuple[bytes, str]:
        """All metrics in Prometheus' text form, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


def configure_logging(level: str = "info", log_format: LogFormat = "console", stream: TextIO | None = None) -> None:
    """Sends the logs of the process to ``stream`` (standard error), one line each, with the correlation ID in force.

    Standard output stays free for what a command prints. Raises ValueError for an unknown level.
    """
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise ValueError(f"log level: expected debug, info, warning, error or critical, got {level!r}")
    global _threshold
    _threshold = threshold
    target = stream if stream is not None else sys.stderr
    render: list[structlog.typing.Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(sort_keys=True)]
        if log_format == "json"
        else [structlog.dev.ConsoleRenderer(colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[
            _add_correlation_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    # The libraries' own logs: what is worth a warning only.
    logging.basicConfig(level=max(threshold, logging.WARNING), stream=target, force=True)


def _add_correlation_id(
    _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """The correlation ID in force, beside what is told."""
    if correlation_id := call.correlation_id():
        event.setdefault("correlation_id", correlation_id)
    return event


_LEVELS: Final = logging.getLevelNamesMapping()


def tells(level: str) -> bool:
    """Whether the process logs what is of that level: who would have to make it first can leave that."""
    return _LEVELS[level.upper()] >= _threshold


def logger(function: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a function."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(function=function)
    return bound
