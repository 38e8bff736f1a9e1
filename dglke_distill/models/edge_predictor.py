"""Our score functions where DGL's link prediction code has ``dgl.nn.EdgePredictor``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional, Union

import torch
from torch import Tensor, nn

from dglke_distill.base.errors import UserError
from dglke_distill.config import ModelConfig
from dglke_distill.models import build_score_function
from dglke_distill.models.base import KGEModel
from dglke_distill.models.rows import EntityRows

Relations = Union[int, str, Tensor]


class EdgePredictor(nn.Module):
    """Scores edges from the vectors of their ends, as ``dgl.nn.EdgePredictor`` does, by relation.

    The call is that of ``dgl.nn.TransE`` and ``dgl.nn.TransR``, whose scores TransE and TransR
    have; the result has the shape of ``dgl.nn.EdgePredictor``'s.

    Args:
        name: a score function, in any letter case.
        feats: floats per node.
        num_rels: number of relations.
        options: of the score function.
        seed: of the relations' first values.

    Attributes:
        model: the ``KGEModel`` whose score function and relations are used.

    Raises:
        UserError: there is no such score function, or it cannot have these options or floats.
    """

    def __init__(
        self,
        name: str,
        feats: int,
        num_rels: int = 1,
        *,
        options: Optional[Mapping[str, Any]] = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        config = ModelConfig(name=name, dim=feats, options=dict(options or {}))
        function = build_score_function(config)
        if function.one_sided:
            raise UserError(f"{name}: has no score of a triple alone with these options")
        self.names: Optional[Any] = None
        self.model = KGEModel(_Given(), function, num_rels)
        self.reset_parameters(seed)

    @classmethod
    def of(cls, model: Any) -> EdgePredictor:
        """Return the predictor that a trained model's score function and relations make.

        Args:
            model: a ``KGEModel``, or a ``NamedModel``, whose relations then go by names too.

        Raises:
            UserError: the model adds a number to each entity, which vectors do not tell.
        """
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.names = getattr(model, "relations", None)
        made.model = model if isinstance(model, KGEModel) else model.model
        if made.model.bias_weight is not None:
            raise UserError("the model has a bias for each entity, which vectors do not tell")
        return made

    def reset_parameters(self, seed: int = 0) -> None:
        """Draw the relations anew.

        Args:
            seed: of their values.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            function = self.model.score_function
            function.init_relation(self.model.relation_weight, None, generator)
            function.init_shared(None, generator)

    def forward(self, h_src: Tensor, h_dst: Tensor, rels: Optional[Relations] = None) -> Tensor:
        """Score edges, differentiably.

        Args:
            h_src: (e, feats), vectors of the heads, as an encoder gives them.
            h_dst: (e, feats), vectors of the tails.
            rels: (e,) int64 relation ids, one id, or a name for all edges. None: the only
                relation that there is.

        Returns:
            (e, 1), higher is more plausible.

        Raises:
            UserError: shapes do not fit, or a relation is unknown or not said.
        """
        model, dim = self.model, self.model.score_function.dim
        if h_src.dim() != 2 or h_src.shape != h_dst.shape or h_src.shape[1] != dim:
            raise UserError(
                f"ends of shape {tuple(h_src.shape)} and {tuple(h_dst.shape)}: both must be "
                f"(edges, {dim})"
            )
        count = len(h_src)
        relation = self._ids(rels, h_src)
        if not count:
            return h_src.new_zeros(0, 1)
        vectors = model.score_function.entity_view(torch.cat([h_src, h_dst]))
        entities = EntityRows(vectors, None)
        rows = torch.arange(count, device=h_src.device)
        query = model.query(entities, rows, relation, "tail")
        return model.score(query, entities, rows[:, None] + count)

    def _ids(self, rels: Optional[Relations], like: Tensor) -> Tensor:
        count = self.model.num_relations
        if rels is None:
            if count != 1:
                raise UserError(f"which of the {count} relations? give rels")
            rels = 0
        if isinstance(rels, str):
            if self.names is None:
                raise UserError(f"relations have no names here: give the id of {rels!r}")
            rels = int(self.names.id(rels))
        if not isinstance(rels, Tensor):
            rels = torch.full((len(like),), rels, device=like.device)
        if rels.shape != like.shape[:1] or rels.is_floating_point():
            raise UserError(f"rels has the shape {tuple(rels.shape)}: one id an edge is needed")
        if len(rels) and not 0 <= int(rels.min()) <= int(rels.max()) < count:
            raise UserError(
                f"rels go from {int(rels.min())} to {int(rels.max())}, relations from 0 to "
                f"{count - 1}"
            )
        return rels.long()


class _Given(nn.Module):
    """The encoder of vectors that others make: it has none of its own."""

    num_entities = 0
    bytes_per_entity = 0
    needs_blocks = False
