"""The page of everything that settings choose by name, made of the registries."""

from __future__ import annotations

from typing import Any

import tables

_INTRO = """\
# Components

What settings choose by name, in any letter case. A plug-in adds more of every kind that names a
group of entry points here: see [Write a plug-in](../how-to/plug-in.md). Options are set below
`options` of the same section, for example `--set loss.options.margin=6`.
"""


def registries() -> list[Any]:
    """Return the registries in the order in which a training meets them."""
    from dglke_distill.config import components
    from dglke_distill.config.registry import Registry

    found = [each for each in vars(components).values() if isinstance(each, Registry)]
    assert len(found) >= 12
    return found


def page() -> str:
    """Return the page."""
    parts = [_INTRO]
    for registry in registries():
        title = registry.kind[0].upper() + registry.kind[1:]
        group = f", entry points `{registry.group}`" if registry.group else ""
        parts.append(f"## {title}s\n\nChosen by `{registry.setting}`{group}.\n")
        for name in registry:
            component = registry.find(name)
            parts.append(f"### `{name}` {{ #{registry.kind.replace(' ', '-')}-{name.lower()} }}\n")
            parts.append(tables.prose(component) + "\n")
            options = getattr(component, "Options", None)
            if options is not None and options.model_fields:
                parts.append(tables.fields_table(options))
    return "\n".join(parts)
