"""What a component declares that it can do, and what becomes of that in a class made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class Declares:
    """Base of components with shortcuts: quicker ways to what a formula of theirs says.

    A shortcut holds for the formula that it was declared for. A class that writes the formula anew,
    or gets another one from a mixin, loses the shortcuts that it inherits, unless it declares its
    own.
    """

    shortcuts: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Names of attributes, each with the methods whose formula it stands for; the value that takes
    no shortcut is the one of the class that is furthest up."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Take back what does not hold for the class."""
        super().__init_subclass__(**arguments)
        order = cls.__mro__

        def declared(name: str) -> list[int]:
            return [place for place, each in enumerate(order) if name in vars(each)]

        for name, formulas in cls.shortcuts.items():
            places = declared(name)
            if any(min(declared(formula)) < places[0] for formula in formulas):
                setattr(cls, name, vars(order[places[-1]])[name])
