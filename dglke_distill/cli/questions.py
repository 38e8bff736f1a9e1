"""Files of questions: lines of head, relation and tail, one of them asked for, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.data.text import ASKED, triple_lines

if TYPE_CHECKING:
    from dglke_distill.data.labels import Labels


class Question(NamedTuple):
    """A question as it stands in a file: its line, and head, relation and tail or None.

    A line without a question is a triple to be judged.
    """

    line: int
    parts: tuple[Optional[str], Optional[str], Optional[str]]


def read_questions(path: Path) -> list[Question]:
    """Read a file of lines ``head<TAB>relation<TAB>tail`` with ``?`` for what is asked.

    Blank lines are skipped.

    Raises:
        UserError: it cannot be read, is empty, or a line is no question.
    """
    found = []
    for number, parts in triple_lines(path, "question", f" and {ASKED} for what is asked"):
        if parts.count(ASKED) > 1:
            raise UserError(
                f"{path}, line {number}: {parts.count(ASKED)} parts are {ASKED}; ask for one, or "
                "for none to have the triple scored"
            )
        head, relation, tail = (None if part == ASKED else part for part in parts)
        found.append(Question(number, (head, relation, tail)))
    return found


def check_entities_asked(path: Path, questions: list[Question]) -> None:
    """Refuse candidates for a question that asks for a relation.

    Raises:
        UserError: there is one.
    """
    for line, (_, relation, _) in questions:
        if relation is None:
            raise UserError(
                f"{path}, line {line}: asks for a relation, and --candidates are entities; ask for "
                "relations in a file of their own"
            )


def named_questions(
    path: Path, questions: list[Question], named: Any, labels: Labels
) -> list[tuple[Optional[str], Optional[str], Optional[str]]]:
    """Return questions by the model's own names; entities may be given by their labels.

    Args:
        path: where they stand.
        questions: what was read.
        named: the ``NamedModel`` that is asked.
        labels: of its entities.

    Raises:
        UserError: a name is unknown.
    """

    def entity(text: Optional[str]) -> Optional[str]:
        if text is None:
            return None
        name = labels.name_of(text, named.entities)
        named.entities.id(name)
        return name

    found = []
    for line, (head, relation, tail) in questions:
        try:
            if relation is not None:
                named.relations.id(relation)
            found.append((entity(head), relation, entity(tail)))
        except UserError as error:
            raise UserError(f"{path}, line {line}: {error}") from None
    return found
