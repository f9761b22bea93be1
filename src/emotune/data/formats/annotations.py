"""Rows of JSON as annotation tools write them: Label Studio, Prodigy and spaCy.

Each is turned into plain objects with a text, labels and, where several people may have judged a text, a rater.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from emotune.data.formats.cells import shown
from emotune.data.formats.columns import LABEL_COLUMNS, TEXT_COLUMNS

Object = dict[str, Any]
_ANSWERS = {"accept": "", "reject": "rejected", "ignore": "ignored"}
_OURS = ("id", "annotator")


@dataclass(frozen=True)
class Tool:
    """The rows of a tool.

    rows            yields the plain objects of one of its rows, or the reason why one of them is left out, in words
                    that follow "3 rows". Raises ValueError with what is wrong
    label_column    the key of the labels; None: one of the usual names
    text_column     the key of the texts; None: one of the usual names
    may_be_blank    whether a row without a choice can occur where each text has one label
    notes           what the user should know
    """

    name: str
    rows: Callable[[Object], Iterator[Object | str]]
    label_column: str | None
    text_column: str | None = None
    may_be_blank: bool = True
    notes: tuple[str, ...] = ()


def tool_of(objects: Iterable[Object], label_column: str | None = None) -> Tool | None:
    """The tool that wrote these objects, by the first; None for plain rows. `label_column`: the configured one."""
    objects = iter(objects)
    first = next(objects, {})
    if is_task(first):
        return _label_studio([first, *objects], label_column)
    if first.get("answer") in _ANSWERS and first.keys() & {"accept", "options", "label"}:
        return Tool("Prodigy", _prodigy, "accept" if first.keys() & {"accept", "options"} else "label")
    if isinstance(first.get("cats"), dict):
        return Tool("spaCy", _spacy, "cats", may_be_blank=False)
    return None


def is_task(found: Mapping[str, Any]) -> bool:
    """Whether an object is a task of Label Studio."""
    return isinstance(found.get("data"), dict) and isinstance(_annotations(found), list)


def _annotations(task: Mapping[str, Any]) -> Any:
    return task.get("annotations", task.get("completions"))  # the second in versions before 1.0


# Label Studio: {"id": 1, "data": {"text": …}, "annotations": [{"completed_by": 3, "result": […]}]}


def _label_studio(tasks: list[Object], label_column: str | None) -> Tool:
    """Each annotation is a row; its labels stand under the name of the control (`from_name`) with the choices."""
    controls: dict[str, None] = {}
    of_parts = False
    for task in tasks:
        found = _annotations(task)
        for annotation in found if isinstance(found, list) else ():
            for result in _results(annotation):
                of_parts = of_parts or _is_of_part(result)
                controls |= {} if _is_of_part(result) else {str(result.get("from_name", "choices")): None}
    known = [*controls, *([label_column] if label_column else [])]

    def rows(task: Object) -> Iterator[Object | str]:
        if not is_task(task):
            raise ValueError("other rows are tasks of Label Studio, with data and annotations; this one is not")
        ours = {name.casefold() for name in (*_OURS, *known)}
        plain = {key: value for key, value in task["data"].items() if key.casefold() not in ours}
        plain["id"] = task.get("id")
        if not _annotations(task):
            yield "without an annotation"
        for annotation in _annotations(task):
            if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
                raise ValueError(f"an annotation has a list 'result', this one is {shown(annotation)}")
            if annotation.get("was_cancelled") or annotation.get("skipped"):
                yield "skipped by the annotator"
                continue
            labels: dict[str, list[Any]] = {name: [] for name in known}
            for result in _results(annotation):
                if not _is_of_part(result):
                    labels[str(result.get("from_name", "choices"))] += result["value"]["choices"]
            by = annotation.get("completed_by")
            by = by.get("id", by.get("email")) if isinstance(by, dict) else by
            yield plain | {"annotator": None if by is None else str(by)} | labels

    usual = next((name for name in controls if name.casefold() in LABEL_COLUMNS), None)
    texts = [key for key, value in tasks[0]["data"].items() if isinstance(value, str)]
    named = any(key.casefold() in TEXT_COLUMNS for key in texts)
    return Tool(
        "Label Studio",
        rows,
        usual or (next(iter(controls)) if len(controls) == 1 else None),
        texts[0] if len(texts) == 1 and not named else None,
        notes=("choices about a part of a text are not used",) if of_parts else (),
    )


def _results(annotation: Any) -> Iterator[Object]:
    """The results of an annotation that are choices."""
    results = annotation.get("result") if isinstance(annotation, dict) else None
    for result in results if isinstance(results, list) else ():
        value = result.get("value") if isinstance(result, dict) else None
        if isinstance(value, dict) and isinstance(value.get("choices"), list):
            yield result


def _is_of_part(result: Object) -> bool:
    return "start" in result["value"]


# Prodigy: {"text": …, "options": […], "accept": ["joy"], "answer": "accept"}, or one label to accept or to reject


def _prodigy(row: Object) -> Iterator[Object | str]:
    answer = row.get("answer")
    if answer not in _ANSWERS:
        raise ValueError(f"the answer is {shown(answer)}, not one of {', '.join(_ANSWERS)}")
    if _ANSWERS[answer]:
        yield _ANSWERS[answer]
    elif not isinstance(row.get("accept"), list):
        yield row
    else:
        options = [option for option in row.get("options") or () if isinstance(option, dict)]
        names = {option.get("id"): option.get("text") for option in options if isinstance(option.get("id"), int)}
        found = row | {"accept": [names.get(item, item) if isinstance(item, int) else item for item in row["accept"]]}
        if "_annotator_id" in row and "_input_hash" in row:
            found |= {"id": row["_input_hash"], "annotator": row["_annotator_id"]}
        yield found


# spaCy: {"text": …, "cats": {"joy": 1.0, "anger": 0.0}}


def _spacy(row: Object) -> Iterator[Object | str]:
    cats = row.get("cats")
    if isinstance(cats, dict) and all(value in (0, 1) for value in cats.values()):
        row = row | {"cats": [name for name, value in cats.items() if value]}
    yield row
