"""The facts of a model's dataset in a small file beside it, so that they can be left out.

Facts are sorted by head, relation and tail, each once, whatever its split. The file has three
tensors: ``offsets`` (entities + 1), where the facts of each head begin and end; ``relation`` and
``tail``, of every fact, in the fewest bytes that hold the largest id.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dglke_distill.base.errors import UserError
from dglke_distill.base.groups import offsets_of
from dglke_distill.base.tensor_files import read_tensors, save_state
from dglke_distill.data.checks import triple_keys, triples_of_keys
from dglke_distill.data.triples import Dataset, Triples, Vocabulary

if TYPE_CHECKING:
    from dglke_distill.data.known_answers import KnownAnswers

KNOWN_FILE = "known.safetensors"
_KINDS = (torch.uint8, torch.int16, torch.int32, torch.int64)


def write_known(path: Path, dataset: Dataset) -> int:
    """Write the facts of all splits of a dataset.

    Args:
        path: the file.
        dataset: with the model's ids.

    Returns:
        How many facts there are, each counted once.
    """
    entities, relations = dataset.num_entities, dataset.num_relations
    keys = np.unique(
        np.concatenate(
            [
                triple_keys(split, entities, relations)
                for split in (dataset.train, dataset.valid, dataset.test)
            ]
        )
    )
    facts = triples_of_keys(keys, entities, relations)
    offsets = offsets_of(facts.head, entities)
    columns = {"offsets": offsets, "relation": facts.relation, "tail": facts.tail}
    save_state(
        path,
        {name: _narrow(torch.from_numpy(column)) for name, column in columns.items()},
        {"dataset": dataset.name, "fingerprint": dataset.fingerprint},
    )
    return len(keys)


def read_known(path: Path, entities: Vocabulary, relations: Vocabulary) -> KnownAnswers:
    """Read a file of facts, and index them.

    Args:
        path: the file.
        entities: the model's.
        relations: the model's.

    Raises:
        UserError: it is damaged, or of other entities or relations.
    """
    tensors, _ = read_tensors(path)
    wanted = {"offsets", "relation", "tail"}
    sound = set(tensors) == wanted and all(
        tensor.dtype in _KINDS and tensor.dim() == 1 for tensor in tensors.values()
    )
    if sound:
        offsets, relation, tail = (tensors[name].long() for name in ("offsets", "relation", "tail"))
        sound = (
            len(offsets) == len(entities) + 1
            and len(relation) == len(tail)
            and int(offsets[0]) == 0
            and int(offsets[-1]) == len(tail)
            and bool((offsets.diff() >= 0).all())
            and all(
                bool(((ids >= 0) & (ids < count)).all())
                for ids, count in ((relation, len(relations)), (tail, len(entities)))
            )
        )
    if not sound:
        raise UserError(
            f"{path}: no facts of {len(entities)} entities and {len(relations)} relations; fetch "
            "it again, or name the dataset by --dataset"
        )
    head = torch.repeat_interleave(torch.arange(len(entities)), offsets.diff())
    columns = [ids.numpy().astype(np.int32) for ids in (head, relation, tail)]
    from dglke_distill.data.known_answers import KnownAnswers  # compiled: only where it is asked

    return KnownAnswers.build([Triples(*columns)], len(entities))


def _narrow(column: torch.Tensor) -> torch.Tensor:
    largest = int(column.max()) if len(column) else 0
    return column.to(next(kind for kind in _KINDS if largest <= torch.iinfo(kind).max))
