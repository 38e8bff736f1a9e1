"""Answers with names: one by one, and as a table of many questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from dglke_distill.data.triples import Vocabulary
from dglke_distill.predict.names import Question, by_asked, ids_of, rows_of
from dglke_distill.predict.top_k import TopK

if TYPE_CHECKING:
    import pandas

__all__ = ["Prediction", "frame_of", "predictions"]


class Prediction(NamedTuple):
    """An answer: its name, its score (higher is more plausible) and its id."""

    name: str
    score: float
    id: int


def predictions(found: TopK, names: Vocabulary, row: int = 0) -> list[Prediction]:
    """Return the answers of one question, best first.

    Args:
        found: answers of many questions.
        names: of what was asked for.
        row: which question.
    """
    answers = zip(found.ids[row].tolist(), found.scores[row].tolist())
    return [Prediction(names[i], score, i) for i, score in answers if i >= 0]


def frame_of(model: Any, questions: Sequence[Question], k: int, **options: Any) -> pandas.DataFrame:
    """Answer many questions into a pandas frame; see ``NamedModel.predict_frame``.

    Args:
        model: the ``NamedModel`` to ask.
        questions: (head, relation, tail) with None for what is asked.
        k: how many answers per question.
        options: of ``NamedModel.top_tails``; candidates are entities, so questions for a relation
            are asked without them.
    """
    import pandas

    names = (model.entities, model.relations, model.entities)
    questions = rows_of(questions)
    rows: list[list[Any]] = [[] for _ in questions]
    for place, numbers in enumerate(by_asked(questions)):
        if not numbers:
            continue
        given = [
            torch.from_numpy(ids_of(names[i], [questions[number][i] for number in numbers]))  # type: ignore[misc]
            for i in range(3)
            if i != place
        ]
        ask: Any = (model.top_heads, model.top_relations, model.top_tails)[place]
        told = {key: value for key, value in options.items() if place != 1 or key != "candidates"}
        found = ask(given[0], given[1], k, **told)
        for row, number in enumerate(numbers):
            ids = [int(column[row]) for column in given]
            for rank, answer in enumerate(predictions(found, names[place], row), 1):
                h, r, t = (
                    names[i][j] for i, j in enumerate([*ids[:place], answer.id, *ids[place:]])
                )
                rows[number].append((number, rank, h, r, t, answer.score))
    columns = ["question", "rank", "head", "relation", "tail", "score"]
    return pandas.DataFrame([row for each in rows for row in each], columns=columns)
