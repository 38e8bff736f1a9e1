"""``dglke-distill predict``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.table import Table

from dglke_distill.base.console import SafeConsole
from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import resolved
from dglke_distill.cli import settings
from dglke_distill.cli.calibrate import probability_note, told_of_calibration
from dglke_distill.cli.explained import show_explanation
from dglke_distill.cli.idle import refuse_idle
from dglke_distill.cli.models import check_outside, load_given
from dglke_distill.cli.output import show_warnings
from dglke_distill.cli.questions import check_entities_asked, named_questions, read_questions
from dglke_distill.cli.rows import row_format, write_rows
from dglke_distill.cli.say import say, say_json

if TYPE_CHECKING:
    from dglke_distill.data.triples import Vocabulary

_ANSWER_TO = {
    "tail": "(head, relation, ?)",
    "relation": "(head, relation, ?)",
    "head": "(?, relation, tail)",
}
"""The question that a score belongs to, by the part that is asked for."""


def predict(
    context: typer.Context,
    model: settings.CheckpointArgument,
    head: Annotated[
        Optional[str],
        typer.Option("--head", help="Name of the head. If not given: it is asked for."),
    ] = None,
    relation: Annotated[
        Optional[str],
        typer.Option("--relation", help="Name of the relation. If not given: it is asked for."),
    ] = None,
    tail: Annotated[
        Optional[str],
        typer.Option("--tail", help="Name of the tail. If not given: it is asked for."),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-k", min=1, help="How many answers to print.")
    ] = 10,
    exclude_known: Annotated[
        bool,
        typer.Option("--exclude-known", help="Leave out the facts of the model's own dataset."),
    ] = False,
    candidates: Annotated[
        Optional[list[str]],
        typer.Option(
            "--candidates",
            metavar="WHO",
            help="Who may answer: observed (entities that train facts of the relation have there), "
            "typed (those, and others of their types), type:NAME, @FILE (an entity on each line), "
            "or an entity by name or label; may be repeated for several. Without it, every entity.",
        ),
    ] = None,
    types: settings.TypesFlag = None,
    min_probability: settings.MinProbabilityFlag = None,
    file: Annotated[
        Optional[Path],
        typer.Option(
            "--file",
            help="Many questions: lines head<TAB>relation<TAB>tail with ? for what is asked, or "
            "without ? for a triple to score. If not given: the one question of --head, "
            "--relation and --tail.",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Say which train facts support the triple, or the first answer: analogous facts "
            "and short paths.",
        ),
    ] = False,
    out: settings.RowsOutFlag = None,
    overwrite: settings.OverwriteFlag = False,
    format: settings.RowsFormatFlag = None,
    dataset: settings.OwnDatasetFlag = None,
    allow_other_data: settings.OtherDataFlag = False,
    data_root: settings.DataRootFlag = None,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Complete a triple: give two of head, relation and tail; or score it: give all three.

    A score is that of the answer to (head, relation, ?), unless the head is asked for. A model with
    reciprocal relations scores the same triple otherwise as an answer to (?, relation, tail).
    --explain lists at most as many supporting facts, and paths, as --count says.
    With --file, answers to many questions are rows: question (its number in the file, from 1),
    rank, head, relation, tail, score. A whole triple has one row; its rank, as in JSON, is that of
    its tail among all answers to (head, relation, ?). A model that is calibrated says how probable
    each answer is.
    """
    from dglke_distill.predict import NamedModel
    from dglke_distill.predict.answers import plain_rank
    from dglke_distill.predict.choosing import per_relation

    given: dict[str, Optional[str]] = {"head": head, "relation": relation, "tail": tail}
    missing = [part for part, name in given.items() if name is None]
    if not (exclude_known or explain or candidates):
        needs = "is of --exclude-known, --explain or --candidates; give one of them"
        refuse_idle(context, needs, "allow_other_data")
    if out is None:
        refuse_idle(context, "goes with --out; give that too", "overwrite")
    if not (missing or explain):
        idle = "says how many answers, and a whole triple has none; leave it out"
        refuse_idle(context, idle, "count")
    rows_in = None
    if file is not None:
        if len(missing) < 3:
            raise UserError("--file: holds the questions; leave out --head, --relation and --tail")
        if as_json:
            raise UserError("--json: is of a single question; with --file give --format jsonl")
        if explain:
            raise UserError("--explain: is of a single question; leave out --file")
        if out is not None:
            if resolved(out) == resolved(file):
                raise UserError(f"--out {out}: is the file of the questions; choose another one")
            check_outside(out, model, reads=(dataset, types, *(candidates or ())))
        rows_in = row_format(out, format, overwrite)
        asked_of_file = read_questions(file)
        if not any(None in question.parts for question in asked_of_file):
            idle = f"says how many answers, and {file} asks for none; leave it out"
            refuse_idle(context, idle, "count")
    elif out is not None or format is not None:
        raise UserError("--out and --format: are of many questions; name their file by --file")
    elif len(missing) > 1:
        raise UserError(
            "predict: give at least two of --head, --relation and --tail; the third is predicted "
            "(many questions: --file)"
        )
    named = NamedModel(load_given(model, store=store, offline=offline))
    named.checked_probability(min_probability)
    labels = named.load_labels(data_root, dataset=dataset)
    head, tail = (
        None if name is None else labels.name_of(name, named.entities) for name in (head, tail)
    )
    given.update(head=head, tail=tail)
    told: dict[str, Any] = {}
    if exclude_known:
        named.load_known(data_root, dataset=dataset, allow_other_data=allow_other_data)
        told["warnings"] = list(named.known_warnings)
        show_warnings(named.known_warnings, err=as_json or file is not None)
    if explain:
        named.load_support(data_root, dataset=dataset, allow_other_data=allow_other_data)
    chosen: Any = None
    if candidates:
        if file is None:
            _check_candidates(missing)
        else:
            check_entities_asked(file, asked_of_file)
        chosen = candidates[0] if _is_word(candidates, named.entities) else candidates
        if types is not None and not (chosen == "typed" or str(chosen).startswith("type:")):
            raise UserError("--types: says what types are; give --candidates typed or type:NAME")
        if types is not None:
            named.load_types(types)
        if isinstance(chosen, str) and not chosen.startswith("@"):
            if per_relation(chosen) or dataset is not None:
                named.load_ranges(data_root, dataset=dataset, allow_other_data=allow_other_data)
        told["candidates"] = candidates
        told.setdefault("warnings", []).extend(named.range_warnings)
        show_warnings(named.range_warnings, err=as_json or file is not None)
    elif types is not None:
        raise UserError("--types: says of what type --candidates are; give those too")
    if file is not None and rows_in is not None:
        questions = named_questions(file, asked_of_file, named, labels)
        frame = named.predict_frame(
            questions,
            count,
            exclude_known=exclude_known,
            candidates=chosen,
            min_probability=min_probability,
        )
        frame["question"] += 1
        write_rows(frame, out, rows_in, overwrite)
        return
    told.update(told_of_calibration(named, relation, missing[0] if missing else None))
    note = probability_note(told, relation)
    if not missing:
        if min_probability is not None:
            raise UserError("--min-probability: leaves out answers; ask for one of the three parts")
        triple = (head or "", relation or "", tail or "")
        result: dict[str, Any] = {**given, "score": float(named.score([triple])[0])}
        result["scored_as"] = _ANSWER_TO["tail"]
        result["rank"] = plain_rank(float(named.rank([triple], exclude_known=exclude_known)[0]))
        why = named.explain(*triple, count) if explain else None
        if note is not None:
            result["probability"] = float(named.probability([triple])[0])
        if as_json:
            if why is not None:
                result["explanation"] = why.to_dict(labels)
            say_json({**result, **told}, indent=None if why is None else 2)
        else:
            say(f"{result['score']:.4f}")
            if exclude_known:
                say(f"rank {result['rank']:,} among the answers to {_ANSWER_TO['tail']}")
            if note is not None:
                say(f"probability {result['probability']:.4f}")
                say(note, err=True)
            if named.model.reciprocal:
                say(_which(_ANSWER_TO["tail"], _ANSWER_TO["head"]), err=True)
            if why is not None:
                show_explanation(why, labels, named.model.has_vectors)
        return
    (asked,) = missing
    first, second = (name for name in given.values() if name is not None)
    ask: dict[str, Any] = {
        "head": named.predict_heads,
        "relation": named.predict_relations,
        "tail": named.predict_tails,
    }
    options: dict[str, Any] = {} if chosen is None else {"candidates": chosen}
    options["min_probability"] = min_probability
    answers = ask[asked](first, second, count, exclude_known=exclude_known, **options)
    why = None
    if explain and answers:
        best = {**given, asked: answers[0].name}
        why = named.explain(best["head"] or "", best["relation"] or "", best["tail"] or "", count)
    if as_json:
        found = [answer._asdict() for answer in answers]
        if note is None:
            for one in found:
                del one["probability"]
        if labels.labels and asked != "relation":
            found = [
                {
                    **one,
                    "label": labels.labels.get(one["name"]),
                    "description": labels.descriptions.get(one["name"]),
                }
                for one in found
            ]
        result = {**given, "scored_as": _ANSWER_TO[asked], "predictions": found, **told}
        if explain:
            result["explanation"] = None if why is None else why.to_dict(labels)
        say_json(result)
        return
    shown = ", ".join("?" if name is None else labels.shown(name) for name in given.values())
    table = Table()
    table.add_column("rank", justify="right")
    table.add_column(asked, overflow="fold")
    labelled = asked != "relation" and any(labels.of(answer.name) for answer in answers)
    if labelled:
        table.add_column("label", overflow="fold")
    table.add_column("score", justify="right")
    if note is not None:
        table.add_column("probability", justify="right")
    for rank, answer in enumerate(answers, 1):
        said = [labels.of(answer.name)] if labelled else []
        chance = [] if answer.probability is None else [f"{answer.probability:.4f}"]
        table.add_row(str(rank), answer.name, *said, f"{answer.score:.4f}", *chance)
    console = SafeConsole()
    console.print(f"({shown})", soft_wrap=True)
    console.print(table)
    if note is not None:
        console.print(note, soft_wrap=True)
    if named.model.reciprocal:
        other = _ANSWER_TO["tail" if asked == "head" else "head"]
        console.print(_which(_ANSWER_TO[asked], other), soft_wrap=True)
    if why is not None:
        show_explanation(why, labels, named.model.has_vectors)
    elif explain:
        say("no answer to explain")


def _is_word(candidates: list[str], entities: "Vocabulary") -> bool:
    """Return whether candidates are described, and not named one by one."""
    from dglke_distill.predict.choosing import per_relation

    words = [
        one
        for one in candidates
        if (per_relation(one) or one.startswith(("type:", "@"))) and one not in entities
    ]
    if words and len(candidates) > 1:
        raise UserError(
            f"--candidates {words[0]!r:.100}: says who all may answer, so give it alone; several "
            "--candidates name one entity each"
        )
    return bool(words)


def _check_candidates(missing: list[str]) -> None:
    """Refuse candidates where no entity is asked for."""
    if missing != ["head"] and missing != ["tail"]:
        raise UserError(
            "--candidates: they are entities; leave out --head or --tail to ask for one"
        )


def _which(question: str, other: str) -> str:
    """Return which of a reciprocal model's two scores of a triple is shown."""
    return (
        f"scored as answers to {question}; with its reciprocal relations the model scores the same "
        f"triples otherwise as answers to {other}"
    )
