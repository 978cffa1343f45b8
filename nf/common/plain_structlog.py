"""structlog, loaded without rich: an eighth of what a stack loads, for coloured tracebacks that are never printed.

structlog takes rich where it finds it, whether or not it will write to a terminal. ``castcore ls`` and its like, which
draw tables, load rich themselves when they do.
"""

from __future__ import annotations

import sys

if "rich" in sys.modules or "structlog" in sys.modules:
    import structlog
else:
    # An import of what is None here fails like that of what is not installed.
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog
    finally:
        del sys.modules["rich"]

__all__ = ["structlog"]
