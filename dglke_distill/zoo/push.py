"""A model of the zoo, put on the Hugging Face hub."""

from __future__ import annotations

from typing import Optional

from dglke_distill.base.arguments import checked
from dglke_distill.zoo.fetch import fetch_files
from dglke_distill.zoo.hub import upload
from dglke_distill.zoo.index import Place, find


@checked
def push(
    name: str,
    hub: str,
    *,
    private: bool = False,
    token: Optional[str] = None,
    store: Place = None,
) -> str:
    """Upload a model of the zoo as a repository of the Hugging Face hub.

    Args:
        name: its name in the zoo, or ``name@version``.
        hub: ``user/model``; made if it is not there.
        private: whether a new repository is seen by its owner alone.
        token: of the hub; None: that of ``hf auth login`` or ``HF_TOKEN``.
        store: the only store to look the name up in.

    Returns:
        What ``zoo.load`` takes: ``hf://user/model``.

    Raises:
        UserError: no such model, no such name for a repository, huggingface_hub is not installed,
            or the hub refuses.
    """
    found = find(name, store=store)
    return upload(found.entry, fetch_files(found), hub, private=private, token=token)
