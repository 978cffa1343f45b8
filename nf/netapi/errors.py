"""The network API platform's refusals."""

from __future__ import annotations
