"""Models that say how probable an answer is; the curves are those of ``calibration``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

import torch
from torch import Tensor

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.arguments import checked, number
from dglke_distill.base.errors import UserError
from dglke_distill.calibration import Calibration
from dglke_distill.data.identity import Lookup
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.predict.knowing import Knowing, NamedTriples
from dglke_distill.predict.top_k import TopK

if TYPE_CHECKING:
    from dglke_distill.calibration.settings import CalibrationSettings


_NO_FILE = "--negatives '@': names no file; give @FILE, lines head<TAB>relation<TAB>tail"


class Calibrated(Knowing):
    """What makes a model give probabilities."""

    @property
    def calibration(self) -> Optional[Calibration]:
        """The curves that make probabilities of scores; None before ``calibrate``."""
        return self.loaded.calibration

    @checked
    def calibrate(
        self,
        dataset: Union[str, Path, Dataset, None] = None,
        *,
        method: str = "platt",
        negatives: Union[str, NamedTriples] = "uniform",
        negatives_per_positive: Optional[float] = None,
        drawn: int = 10,
        fewest: Optional[int] = None,
        seed: int = 0,
        data_root: Optional[Path] = None,
        allow_other_data: bool = False,
        offline: bool = False,
    ) -> Calibration:
        """Fit probabilities to the scores, a curve per relation; the model keeps them.

        Curves are fitted on the validation facts, and measured on facts of the test split (without
        one, on a fifth of the validation facts that is held out). Sampled negatives are drawn by
        replacing either side, and are no known facts. A relation with too few facts has the curve
        of all relations together.

        A probability depends on how many wrong triples there are for each true one where it is
        used: say so by ``negatives_per_positive``.

        Args:
            dataset: the model's own dataset: name, path, or in memory; None: found by its name.
            method: ``platt`` or ``isotonic``.
            negatives: a negative sampler (``uniform``, ``bernoulli``, ``degree``, ``typed``);
                ``dataset`` for the known-false triples that ship with the data; ``@FILE``, lines
                head, relation, tail; or triples.
            negatives_per_positive: how many negatives there are for each fact; the positive base
                rate is 1 / (1 + negatives_per_positive). None: 1 of sampled negatives, otherwise
                as many as are given.
            drawn: negatives that are drawn per fact and side; they are weighted.
            fewest: facts, and negatives, that a relation needs for a curve of its own; None: 20 for
                ``platt``, 100 for ``isotonic``.
            seed: of what is drawn.
            data_root: folder of datasets already there.
            allow_other_data: whether the triples may be others than those trained on.
            offline: whether to refuse to download the dataset.

        Returns:
            The calibration; ``about`` has its figures.

        Raises:
            UserError: no such method, sampler or dataset, other triples, too few facts, or a
                negative that is a fact.
            NonFiniteScores: a score is NaN or infinite.
        """
        from dglke_distill.calibration.settings import DATASET_NEGATIVES, CalibrationSettings

        given: Optional[Triples] = None
        kind = "given"
        if isinstance(negatives, str) and negatives.startswith("@"):
            if negatives == "@":
                raise UserError(_NO_FILE)
            given = read_negatives(Path(negatives[1:]), self.entities, self.relations)
        elif isinstance(negatives, str):
            kind = DATASET_NEGATIVES if negatives.lower() == DATASET_NEGATIVES else negatives
        else:
            given = self._triples(negatives)
        settings = CalibrationSettings(
            method, kind, negatives_per_positive, drawn, fewest, seed
        ).checked()
        here = dataset if isinstance(dataset, Dataset) else None
        named = None if dataset is None or here is not None else str(dataset)
        lookup = Lookup(named, data_root, offline, allow_other_data)
        found = calibrate_loaded(self.loaded, settings, given, lookup=lookup, here=here)
        self.loaded = replace(self.loaded, calibration=found)
        return found

    def probability(self, triples: NamedTriples) -> Tensor:
        """Return how probable triples are: names or ids in the order head, relation, tail.

        Args:
            triples: as for ``score``, whose scores they are made of.

        Returns:
            (n,) float64 between 0 and 1.

        Raises:
            UserError: an unknown name, or the model is not calibrated.
            NonFiniteScores: a score is NaN or infinite.
        """
        self.checked_probability(0.0)
        calibration = self.calibration
        assert calibration is not None
        ids = self._triples(triples)
        return calibration.probability(
            self.score(ids), torch.from_numpy(ids.relation.astype("int64"))
        )

    def checked_probability(self, at_least: Optional[float] = None) -> bool:
        """Return whether the model is calibrated.

        Args:
            at_least: the least probability asked for, if any.

        Raises:
            UserError: it is no probability, or one is asked for and the model has none.
        """
        if at_least is None:
            return self.calibration is not None
        if not 0 <= number(at_least, "min_probability") <= 1:
            raise UserError(f"min_probability is {at_least}: give a probability, from 0 to 1")
        if self.calibration is None:
            raise UserError(
                "the model is not calibrated, so that its scores have no probabilities; run "
                "`dglke-distill calibrate MODEL --out DIR`, or call model.calibrate()"
            )
        return True

    def answer_probabilities(
        self, found: TopK, asked: str, relation: Optional[Tensor] = None
    ) -> Optional[Tensor]:
        """Return how probable answers are.

        Args:
            found: answers (b, k) to b questions.
            asked: ``head``, ``relation`` or ``tail``.
            relation: (b,) the relations of the questions; of those for a relation, the answers are.

        Returns:
            (b, k) float64, NaN where there is no answer; None where the model is not calibrated.
        """
        calibration = self.calibration
        if calibration is None:
            return None
        if asked == "relation":
            rows = found.ids.clamp(min=0)
        else:
            assert relation is not None
            rows = relation.cpu()[:, None].expand(found.ids.shape)
        return calibration.probability(
            found.scores, rows.contiguous(), "head" if asked == "head" else "tail"
        )


def calibrate_loaded(
    loaded: LoadedModel,
    settings: CalibrationSettings,
    given: Optional[Triples] = None,
    *,
    lookup: Lookup,
    here: Optional[Dataset] = None,
) -> Calibration:
    """Fit the curves of a model on its dataset; see ``Calibrated.calibrate``.

    Args:
        loaded: the model, which is not changed.
        settings: how.
        given: negatives, where the settings say so.
        lookup: where the model's own dataset is looked for.
        here: that dataset, where it is at hand.

    Raises:
        UserError: as ``Calibrated.calibrate``.
    """
    from dglke_distill.calibration.fitting import calibrated

    if here is None:
        data, told = loaded.find_dataset("the model", lookup)
    else:
        data, told = loaded.check_dataset(
            here,
            "the model",
            fix="give the dataset that it was trained on",
            allow_other_data=lookup.allow_other_data,
        )
    found = calibrated(loaded.model, data, settings, given)
    if told:
        found.about["warnings"] = told
    return found


def settings_of(calibration: Calibration) -> Optional[CalibrationSettings]:
    """Return how a calibration was made; None where that is not known well enough to repeat it.

    Args:
        calibration: perhaps from a file that anyone may have written.
    """
    from dglke_distill.calibration.settings import CalibrationSettings

    about = calibration.about
    kind, rate = about.get("negatives"), about.get("asked_per_positive")
    fewest, drawn, seed = (about.get(key) for key in ("fewest", "drawn", "seed"))
    sound = (
        isinstance(kind, str)
        and kind != "given"
        and (rate is None or isinstance(rate, (int, float)))
        and (fewest is None or isinstance(fewest, int))
        and isinstance(drawn, int)
        and isinstance(seed, int)
        and seed >= 0
    )
    if not sound:
        return None
    try:
        return CalibrationSettings(
            calibration.method, str(kind), rate, int(drawn or 0), fewest, int(seed or 0)
        ).checked()
    except UserError:
        return None


def read_negatives(path: Path, entities: Vocabulary, relations: Vocabulary) -> Triples:
    """Read a file of false triples, lines ``head<TAB>relation<TAB>tail``.

    Args:
        path: the file.
        entities: the model's.
        relations: the model's.

    Raises:
        UserError: it cannot be read, is empty, or a line has not three known names.
    """
    from dglke_distill.data.text import triple_lines

    rows = []
    for line, (head, relation, tail) in triple_lines(path, "negative"):
        try:
            rows.append((entities.id(head), relations.id(relation), entities.id(tail)))
        except UserError as error:
            raise UserError(f"{path}, line {line}: {error}") from None
    return Triples.from_array(torch.tensor(rows).numpy())
