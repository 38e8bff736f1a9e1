"""Components chosen by name: those that ship, and those that plug-ins bring (see ``plugins``)."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, ClassVar, Optional, TypeVar, Union

from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import BaseModel, StrictModel
from dglke_distill.base.spelling import near_words
from dglke_distill.config.names import fold, published
from dglke_distill.config.plugins import (
    Offer,
    Origin,
    load_environment,
    loading,
    offered,
    plugin_errors,
    registered,
)
from dglke_distill.config.validation import validate_options

_NAME = re.compile("[A-Za-z][A-Za-z0-9_-]{0,63}")
T = TypeVar("T")


class NoOptions(StrictModel):
    """The options of a component that has none; base of those that have."""


class Component:
    """Base of what is chosen by name: ``options`` is a validated instance of ``Options``."""

    name: ClassVar[str] = ""
    Options: ClassVar[type[BaseModel]] = NoOptions

    def __init__(self, options: Any) -> None:
        """Keep the validated options."""
        self.options = options


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return a hint for who wrote an unknown name: the nearest known ones, or all of them.

    Args:
        name: what was written.
        known: the right names.
        count: most names to return.
    """
    spelled = {fold(one): one for one in known}
    near = near_words(fold(name), spelled, count)
    if near:
        return f"did you mean {' or '.join(repr(spelled[one]) for one in near)}?"
    return f"known: {', '.join(spelled.values())}" if spelled else "there are none"


class Registry(Mapping[str, T]):
    """Components of one kind by name, as a mapping from published names.

    Args:
        kind: what messages call one of them.
        setting: where users write the name, for messages.
        builtin: those that ship, or where each lies, as ``module:Class``: that is imported when it
            is asked for.
        group: of the entry points through which packages offer more; None: nobody can.
        base: class that all of them derive from, as ``module:Class``.
        reserved: further names that nobody can take.
        takes: what is wrong with an object that is no component, for kinds that are no classes.
    """

    def __init__(
        self,
        kind: str,
        setting: str,
        builtin: Mapping[str, Union[str, T]],
        *,
        group: Optional[str] = None,
        base: Optional[str] = None,
        reserved: Callable[[], Iterable[str]] = tuple,
        takes: Optional[Callable[[Any], str]] = None,
    ) -> None:
        """Import nothing."""
        self.kind, self.setting, self.group = kind, setting, group
        self._builtin: dict[str, Any] = dict(builtin)
        self._base, self._reserved, self._takes = base, reserved, takes
        self._registered: dict[str, Offer] = {}

    def names(self) -> list[str]:
        """Return all names: those that ship, then those of plug-ins, sorted."""
        taken = {fold(name) for name in self._builtin}
        more = {offer.name for offer in self._offers() if fold(offer.name) not in taken}
        return [*self._builtin, *sorted(more)]

    def spell(self, name: str) -> str:
        """Return a name in any letter case as it is published.

        Raises:
            UserError: there is no such component; near spellings, or all names, are given.
        """
        known = self.names()
        spelled: str = published(name, known)
        if spelled not in known:
            raise UserError(self.unknown(name))
        return spelled

    def knows(self, name: str) -> bool:
        """Return whether there is a component of a name, in any letter case."""
        known = self.names()
        return published(name, known) in known

    def unknown(self, name: str) -> str:
        """Return the message that there is no component of a name."""
        return f"{self.setting}: unknown {self.kind} {name!r:.200}; {self.hint(name)}"

    def hint(self, name: str) -> str:
        """Return what to write in place of an unknown name."""
        hint = nearest(name, self.names())
        if self.group is None:
            return hint
        # Also where a name is near: a run that is resumed may be of a plug-in's.
        ends = " One" if hint.endswith("?") else "; one"
        return f"{hint}{ends} of a plug-in needs its package installed, or --plugin MODULE"

    def find(self, name: str) -> T:
        """Return the component of a name, in any letter case.

        Raises:
            UserError: there is none, two packages offer one of that name or one that is built in,
                or the package that offers it is broken.
        """
        name = self.spell(name)
        offers = [offer for offer in self._offers() if fold(offer.name) == fold(name)]
        if name in self._builtin:
            for offer in offers:
                raise UserError(self._taken(offer))
            found = self._builtin[name]
            if isinstance(found, str):
                found = self._builtin[name] = _resolve(found)
            return found
        packages = {offer.origin.package: offer for offer in offers if offer.origin.package}
        if len(packages) > 1:
            first, second, *_ = packages.values()
            raise self._twice(first, second)
        loaded = [self._load(offer) for offer in offers]
        for i, other in enumerate(loaded):
            if other is not loaded[0]:
                raise self._twice(offers[0], offers[i])
        return loaded[0]

    def origin(self, name: str) -> Optional[Origin]:
        """Return who brings a component; None for those that ship and for unknown ones."""
        if published(name, self._builtin) in self._builtin:
            return None
        offers = [offer for offer in self._offers() if fold(offer.name) == fold(name)]
        origins = (offer.origin for offer in offers)
        return max(origins, key=lambda one: one.package is not None, default=None)

    def build(
        self, name: str, options: Mapping[str, Any], *sizes: Any, where: Optional[str] = None
    ) -> Any:
        """Build the component of a name.

        Args:
            name: the one wanted.
            options: its options, not validated yet.
            *sizes: what its class takes before the options.
            where: what messages call the options; by default by the setting.

        Raises:
            UserError: unknown name, unknown option or bad value.
        """
        found: Any = self.find(name)
        where = where or f"{self.setting} {self.spell(name)}: options"
        return found(*sizes, validate_options(found.Options, options, where))

    def register(self, component: T, name: Optional[str] = None) -> T:
        """Take in a component of a plug-in; a class decorator.

        Args:
            component: usually a class, whose ``name``, or else whose own name, is the name.
            name: for what has none.

        Raises:
            UserError: the name is built in or another component's, or it is no component.
        """
        name = name or str(getattr(component, "name", "") or getattr(component, "__name__", ""))
        own = str(getattr(component, "__module__", "?"))
        module = loading() or own
        origin = Origin(None, None, module)
        offer = Offer(name, origin, lambda: component)
        self._check(offer, component)
        if fold(name) in map(fold, (*self._builtin, *self._reserved())):
            raise UserError(self._taken(offer))
        before = self._registered.get(fold(name))
        if before is not None and _place(before.load()) != _place(component):
            raise self._twice(before, offer)
        self._registered[fold(name)] = offer
        registered.update((module, own))
        return component

    def unregister(self, name: str) -> None:
        """Forget what was registered under a name; what packages offer stays."""
        self._registered.pop(fold(name), None)

    def __getitem__(self, name: str) -> T:
        """Return the component of a published name; see ``find``."""
        if name not in self.names():
            raise KeyError(name)
        return self.find(name)

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self.names())

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        """Return whether a name is published."""
        return name in self.names()

    def _offers(self) -> list[Offer]:
        load_environment()
        found = list(self._registered.values())
        return found if self.group is None else found + list(offered().get(self.group, ()))

    def _load(self, offer: Offer) -> Any:
        try:
            with plugin_errors(str(offer.origin)):
                component = offer.load()
            self._check(offer, component)
        except UserError as error:
            raise UserError(f"{self.kind} {offer.name!r}: {error}") from error.__cause__
        if fold(offer.name) in map(fold, self._reserved()):
            raise UserError(self._taken(offer))
        return component

    def _check(self, offer: Offer, component: Any) -> None:
        fault = ""
        if _NAME.fullmatch(offer.name) is None:
            fault = "a name is a letter, then up to 63 letters, digits, _ or -"
        elif self._takes is not None:
            fault = self._takes(component)
        elif self._base is not None:
            base = _resolve(self._base)
            own = getattr(component, "name", "") or offer.name
            if not isinstance(component, type) or not issubclass(component, base):
                fault = f"it must be a class derived from {base.__module__}.{base.__name__}"
            elif fold(str(own)) != fold(offer.name):
                fault = f"its class calls itself {own!r}; both must be the same"
            elif not _is_schema(getattr(component, "Options", NoOptions)):
                fault = "its Options must be a pydantic model"
        if fault:
            raise UserError(f"{offer.origin} offers a {self.kind} {offer.name!r}: {fault}")

    def _taken(self, offer: Offer) -> str:
        fix = "rename its own" if offer.origin.package is None else "uninstall it or rename its own"
        return (
            f"{self.setting}: {offer.origin} offers a {self.kind} {offer.name!r}, but that name is "
            f"built in; {fix}"
        )

    def _twice(self, first: Offer, second: Offer) -> UserError:
        return UserError(
            f"{self.setting}: both {first.origin} and {second.origin} offer a {self.kind} "
            f"{first.name!r}; do without one of them"
        )


def _resolve(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _place(component: Any) -> Any:
    """Return what stays the same where a module is loaded anew."""
    if isinstance(component, type):
        return component.__module__, component.__qualname__
    return id(component)


def _is_schema(options: Any) -> bool:
    return isinstance(options, type) and issubclass(options, BaseModel)
