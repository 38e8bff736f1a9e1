"""Answers with names: one by one, and as a table of many questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from torch import Tensor

from dglke_distill.base.tabular import Tabular
from dglke_distill.data.labels import Labels
from dglke_distill.data.text import ASKED
from dglke_distill.data.triples import Vocabulary
from dglke_distill.predict.names import Question, by_asked, parts_of, rows_of, triples_of
from dglke_distill.predict.top_k import TopK

if TYPE_CHECKING:
    from dglke_distill.base.table_frames import TableFrame

_PARTS = ("head", "relation", "tail")


FindLabelsByName = Optional[Callable[[], Mapping[str, str]]]
"""Returns labels by name. To look for them needs more packages than to predict: it is put off."""


class _Answer(NamedTuple):
    name: str
    score: float
    id: int
    probability: Optional[float] = None


class Prediction(_Answer):
    """An answer; it unpacks into name, score, id and probability.

    Attributes:
        name: of the entity or relation.
        score: higher is more plausible.
        id: of the entity or relation.
        probability: that it is true, where the model is calibrated; else None.
    """

    _labels: FindLabelsByName = None

    @property
    def label(self) -> Optional[str]:
        """What people call the entity; None where it has no label."""
        return None if self._labels is None else self._labels().get(self.name)

    def __getstate__(self) -> dict[str, Any]:
        """Have a copy, or what is sent to another process, keep its label."""
        label = self.label
        return {} if label is None else {"_labels": partial(dict, {self.name: label})}

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, label={self.label!r})"


class Predictions(list[Prediction], Tabular):
    """Answers to one question, best first: a list, and a table.

    Args:
        answers: best first.
        labels: returns what people call the answers, by name; called when it is asked for.
    """

    def __init__(self, answers: Iterable[Prediction] = (), labels: FindLabelsByName = None) -> None:
        """Keep the answers."""
        super().__init__(answers)
        self._labels = labels

    def __reduce__(self) -> tuple[Any, ...]:
        """Have a copy, or what is sent to another process, keep the labels of its answers alone."""
        known = {} if self._labels is None else self._labels()
        own = {answer.name: known[answer.name] for answer in self if answer.name in known}
        return type(self), (list(self), partial(dict, own) if known else None)

    def frame(self) -> TableFrame:
        """Return a row per answer: ``rank`` (from 1), ``name``, ``id``, ``score``.

        There is ``label`` behind ``name`` where the model has labels of its entities, empty for
        one without; and ``probability`` at the end where the model is calibrated.
        """
        from dglke_distill.base.table_frames import table_frame

        columns: dict[str, list[Any]] = {
            "rank": list(range(1, len(self) + 1)),
            "name": [answer.name for answer in self],
        }
        labels = {} if self._labels is None else self._labels()
        if labels:
            columns["label"] = [labels.get(answer.name, "") for answer in self]
        columns["id"] = [answer.id for answer in self]
        columns["score"] = [answer.score for answer in self]
        if any(answer.probability is not None for answer in self):
            columns["probability"] = [answer.probability for answer in self]
        return table_frame(columns)


def predictions(
    found: TopK,
    names: Vocabulary,
    row: int = 0,
    *,
    probability: Optional[Tensor] = None,
    at_least: Optional[float] = None,
    labels: FindLabelsByName = None,
) -> Predictions:
    """Return the answers of one question, best first.

    Args:
        found: answers of many questions.
        names: of what was asked for.
        row: which question.
        probability: of each answer, of the shape of the scores; None: not known.
        at_least: the probability below which answers are left out.
        labels: see ``Predictions``.
    """
    ids, scores = found.ids[row].tolist(), found.scores[row].tolist()
    chances = [None] * len(ids) if probability is None else probability[row].tolist()
    answers = Predictions(labels=labels)
    for i, score, chance in zip(ids, scores, chances):
        if i >= 0 and (at_least is None or chance is None or chance >= at_least):
            answers.append(Prediction(names[i], score, i, chance))
            answers[-1]._labels = labels
    return answers


def labelled(frame: TableFrame, labels: Labels) -> TableFrame:
    """Return rows with columns ``head_label`` and ``tail_label``, if any entity has a label.

    Args:
        frame: has columns ``head`` and ``tail``.
        labels: of the entities; empty for one without.
    """
    if not labels.labels:
        return frame
    told = {f"{side}_label": frame[side].map(labels.of).astype(object) for side in ("head", "tail")}
    return frame.assign(**told)


def frame_of(model: Any, questions: Sequence[Question], k: int, **options: Any) -> TableFrame:
    """Answer many questions into a frame; see ``NamedModel.predict_frame``.

    Args:
        model: the ``NamedModel`` to ask.
        questions: (head, relation, tail) with None for what is asked; or a whole triple.
        k: how many answers per question.
        options: of ``NamedModel.top_tails``; candidates are entities, so questions for a relation
            are asked without them. And ``min_probability``, of ``NamedModel.predict_tails``.
    """
    from dglke_distill.base.table_frames import table_frame

    at_least = options.pop("min_probability", None)
    calibrated = model.checked_probability(at_least)
    names = (model.entities, model.relations, model.entities)
    ids_of = (model.entity_ids, model.relation_ids, model.entity_ids)
    questions = [_question(row, names) for row in rows_of(questions, "questions")]
    rows: list[list[Any]] = [[] for _ in questions]
    *asked, whole = by_asked(questions)
    if whole:
        _judge(model, questions, whole, rows, at_least, options)
    for place, numbers in enumerate(asked):
        if not numbers:
            continue
        given = [
            ids_of[i]([questions[number][i] for number in numbers]) for i in range(3) if i != place
        ]
        ask: Any = (model.top_heads, model.top_relations, model.top_tails)[place]
        told = {key: value for key, value in options.items() if place != 1 or key != "candidates"}
        found = ask(given[0], given[1], k, **told)
        chances = None
        if calibrated:
            relation = given[0 if place == 0 else 1]
            chances = model.answer_probabilities(found, _PARTS[place], relation)
        for row, number in enumerate(numbers):
            ids = [int(column[row]) for column in given]
            of_row = predictions(found, names[place], row, probability=chances, at_least=at_least)
            for rank, answer in enumerate(of_row, 1):
                h, r, t = (
                    names[i][j] for i, j in enumerate([*ids[:place], answer.id, *ids[place:]])
                )
                chance = (answer.probability,) if calibrated else ()
                rows[number].append((number, rank, h, r, t, answer.score, *chance))
    headings = ["question", "rank", "head", "relation", "tail", "score"]
    headings += ["probability"] if calibrated else []
    flat = [row for each in rows for row in each]
    columns = {name: [row[i] for row in flat] for i, name in enumerate(headings)}
    return labelled(table_frame(columns), model.labels)


def _question(row: Any, names: Sequence[Vocabulary]) -> Any:
    """Return a question with None for what is asked, however a table or a file says so.

    A question that has not three parts is returned as it is.
    """
    import pandas

    def part(value: Any, place: int) -> Any:
        if isinstance(value, str):
            return None if value == ASKED and ASKED not in names[place] else value
        return None if pandas.api.types.is_scalar(value) and pandas.isna(value) else value

    parts = parts_of(row)
    return tuple(map(part, parts, range(3))) if len(parts) == 3 else row


def plain_rank(rank: float) -> float:
    """Return a rank as a whole number if it is one: 2, or 1.5 of two that share 1 and 2."""
    return int(rank) if rank == int(rank) else float(rank)


def _judge(
    model: Any,
    questions: Sequence[Question],
    whole: Sequence[int],
    rows: list[list[Any]],
    at_least: Optional[float],
    options: Mapping[str, Any],
) -> None:
    """Add the rows of whole triples to those of the answers; see ``frame_of``."""
    given: Any = [questions[number] for number in whole]
    triples = triples_of(model.entities, model.relations, given, lambda: model.labels)
    columns = [model.rank(triples, **options), model.score(triples)]
    if model.calibration is not None:
        columns.append(model.probability(triples))
    judged = zip(*(column.tolist() for column in columns))
    for number, (head, relation, tail), (rank, *found) in zip(
        whole, triples.to_array().tolist(), judged
    ):
        if at_least is None or found[-1] >= at_least:
            names = model.entities[head], model.relations[relation], model.entities[tail]
            rows[number].append((number, plain_rank(rank), *names, *found))
