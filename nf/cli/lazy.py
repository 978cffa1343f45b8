"""Commands that are loaded when they are asked for: the tree of all of them takes longer to build than most run."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

import typer
import typer.main
from typer.core import TyperGroup


class LazyGroup(TyperGroup):
    """Stands for the group ``app`` of a module; its own help is all that is known before."""

    module: ClassVar[str]

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        """A context of the group that it stands for, which is loaded now."""
        return self.loaded().make_context(info_name, args, parent, **extra)

    def loaded(self) -> TyperGroup:
        """The group itself."""
        group = self.__dict__.get("_loaded")
        if group is None:
            group = self.__dict__["_loaded"] = typer.main.get_group(import_module(self.module).app)
            group.name = self.name
        return group

    # Whoever walks the tree of commands finds what there is.
    @property
    def commands(self) -> Any:
        """Those of the group itself."""
        return self.loaded().commands

    @commands.setter
    def commands(self, _: Any) -> None:
        """Of one that stands for another there are none."""

    @property
    def params(self) -> Any:
        """Those of the group itself."""
        return self.loaded().params

    @params.setter
    def params(self, _: Any) -> None:
        """As above."""


def lazily(module: str, about: str) -> typer.Typer:
    """What stands for ``app`` of a module in the group above."""
    group = type("LazyGroupOfModule", (LazyGroup,), {"module": module})
    stand_in = typer.Typer(cls=group, help=about, rich_markup_mode=None)

    @stand_in.callback()
    def never() -> None:
        """Contexts are the loaded group's: this is not called."""

    return stand_in
