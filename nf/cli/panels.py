"""Help in groups: every option under the heading that it names as its ``rich_help_panel``, as plain text."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

DEFAULT_PANEL = "Options"


class PanelCommand(TyperCommand):
    """A command whose help has a section for every panel, in the order in which its options name them."""

    # The classes of these two have moved between releases of typer and click.
    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes arguments and options; called by the command's help."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            told = parameter.get_help_record(ctx)
            if told is not None:
                argument = parameter.param_type_name == "argument"
                panel = "Arguments" if argument else getattr(parameter, "rich_help_panel", None) or DEFAULT_PANEL
                panels.setdefault(panel, []).append(told)
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)
