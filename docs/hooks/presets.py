"""The pages of recipes and of search spaces: the files as they ship."""

from __future__ import annotations

from pathlib import Path


def _first_comment(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _blocks(folder: Path, prefix: str = "") -> str:
    parts = []
    for path in sorted(folder.glob("*.toml")):
        text = path.read_text(encoding="utf-8").strip()
        inside = "\n".join(f"    {line}".rstrip() for line in text.splitlines())
        parts.append(f"### `{prefix}{path.stem}`\n\n{_first_comment(text)}\n")
        parts.append(f'??? note "{path.name}"\n\n    ```toml\n{inside}\n    ```\n')
    return "\n".join(parts)


def recipes_page() -> str:
    """Return the page of recipes."""
    from dglke_distill.config import RECIPES

    return (
        "# Recipes\n\nPresets that ship. `train` and `run` take the most specific one for the "
        "model, dataset and size; `--recipe NAME` asks for another, `--recipe none` for none.\n\n"
        f"## Of a training\n\n{_blocks(RECIPES)}\n## Of a chain\n\n"
        "`run --recipe best` is the best one known, `paper` the one that IterDE released.\n\n"
        f"{_blocks(RECIPES / 'chains', 'chains/')}"
    )


def spaces_page() -> str:
    """Return the page of search spaces."""
    from dglke_distill.search.space import SPACES

    return (
        "# Search spaces\n\n`tune` searches the space of the model, `student` where there is a "
        "teacher. `--space` takes a file of the same layout, described under "
        f"[Settings](settings.md#a-search-space).\n\n{_blocks(SPACES)}"
    )
