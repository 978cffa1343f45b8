"""The UPF's report log: what N4 subscribers have not seen yet, in memory (TS 29.244 §5.2.2.2).

Usage is cumulative, so a report that has fallen off the end of a full log is made up for by the next one of its URR.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from upf.n4.v1.n4_pb2 import ComplianceReport, SessionReport, UsageReport

KEPT_REPORTS: Final = 65_536


class ReportLog:
    """Reports numbered from 1 on since ``recovery_time``."""

    def __init__(self, recovery_time: datetime) -> None:
        self.recovery_time_stamp = Timestamp()
        self.recovery_time_stamp.FromDatetime(recovery_time)
        self._reports: deque[SessionReport] = deque(maxlen=KEPT_REPORTS)
        self._sequence = 0
        self._grown = asyncio.Event()

    def append(
        self,
        cp_seid: int,
        *,
        usage_reports: Iterable[UsageReport] = (),
        compliance_reports: Iterable[ComplianceReport] = (),
    ) -> None:
        """Adds a report on one session, and wakes those who follow."""
        self._sequence += 1
        report = SessionReport(
            sequence=self._sequence,
            recovery_time_stamp=self.recovery_time_stamp,
            cp_seid=cp_seid,
            usage_reports=usage_reports,
            compliance_reports=compliance_reports,
        )
        self._reports.append(report)
        self._grown.set()
        self._grown = asyncio.Event()

    async def follow(self, after_sequence: int, until: asyncio.Event | None) -> AsyncIterator[SessionReport]:
        """The reports after ``after_sequence`` that are kept, then those to come; ends when ``until`` is set."""
        position = after_sequence
        while until is None or not until.is_set():
            grown = self._grown
            for report in [report for report in self._reports if report.sequence > position]:
                position = report.sequence
                yield report
            if grown.is_set():
                continue
            waits = [asyncio.ensure_future(event.wait()) for event in (grown, until) if event is not None]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
