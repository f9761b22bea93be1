"""Behaviour test suites: YAML files of cases by capability, read for the labels of a model.

The kinds of test are those of CheckList (Ribeiro et al. 2020, https://aclanthology.org/2020.acl-main.442): minimum
functionality tests, invariance tests, and directional expectation tests. docs/check.md describes the format.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from emotune.config.loading import Key, Tree, parse_tree, read_tree
from emotune.config.settings import Number, Section
from emotune.errors import ConfigError, Place, did_you_mean
from emotune.labels import GOEMOTIONS, MAPPINGS, LabelSet, Task, label_key

SUITE = "behaviour.yaml"
DEFAULT_WITHIN = 0.1  # the tolerance of CheckList's invariance tests of sentiment
_CONTENT = "a suite is a mapping from capabilities (negation:, emoji:, …) to lists of cases"
_LEVELS = ("emotion", "ekman", "sentiment")  # the finest first: its label love has no members outside GoEmotions' love
_PLACEHOLDER = "{}"


class Kind(StrEnum):
    """The kinds of test."""

    MINIMUM = "minimum functionality"
    INVARIANCE = "invariance"
    DIRECTIONAL = "directional"


@dataclass(frozen=True)
class Case:
    """One test. The labels are those of the model.

    Minimum functionality: one text. A label of `expect` (() for no label, None for no such expectation) and one of
    `also` is predicted, and none of `never`. Invariance: for all texts, the probability of each label stays within a
    range of `within`. Directional: the highest probability of the labels `more` is higher for the first text than for
    the second one, by at least `by`. skipped: why the case does not apply to the model; empty if it does.
    """

    capability: str
    kind: Kind
    place: Place
    texts: tuple[str, ...]
    expect: tuple[str, ...] | None = None
    also: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    by: float = 0.0
    within: float = DEFAULT_WITHIN
    skipped: str = ""


class CaseConfig(Section):
    """The keys of a case in YAML."""

    text: str | None = None
    than: str | None = None
    same: list[str] | None = None
    fill: list[str] | None = Field(default=None, min_length=1)
    repeat: int = Field(default=1, ge=1, le=10_000)
    expect: list[str] | None = None
    also: list[str] | None = Field(default=None, min_length=1)
    never: list[str] | None = Field(default=None, min_length=1)
    more: list[str] | None = Field(default=None, min_length=1)
    by: Number = Field(default=0.0, ge=0, lt=1)
    within: Number = Field(default=DEFAULT_WITHIN, gt=0, lt=1)

    @property
    def test(self) -> Kind:
        """The kind of test, by the keys."""
        if self.same is not None:
            return Kind.INVARIANCE
        return Kind.DIRECTIONAL if self.more is not None else Kind.MINIMUM

    @property
    def templates(self) -> list[str]:
        """The texts before they are filled and repeated."""
        return self.same or [text for text in (self.text, self.than) if text is not None]

    @model_validator(mode="after")
    def _keys_fit(self) -> "CaseConfig":
        if self.test is Kind.MINIMUM and self.expect is None and self.never is None:
            raise ValueError("expects nothing; add expect: [labels], never: [labels], more: [labels] or same: [texts]")
        needed, allowed = _KEYS[self.test]
        if missing := [key for key in needed if getattr(self, key) is None]:
            raise ValueError(f"has no {missing[0]!r}, which a {self.test} test needs")
        if odd := sorted(self.model_fields_set - {*needed, *allowed, "fill", "repeat"}):
            raise ValueError(f"has the key {odd[0]!r}, which a {self.test} test does not have")
        if self.also is not None and not self.expect:
            raise ValueError("has 'also' without a label in 'expect'")
        if self.fill is not None and not all(_PLACEHOLDER in text for text in self.templates):
            raise ValueError(f"has 'fill', but a text of it has no {_PLACEHOLDER} to fill")
        if self.test is Kind.INVARIANCE and len(self.filled()[0]) < 2:
            raise ValueError("compares one text with nothing; 'same' needs two texts, or one with {} and 'fill'")
        return self

    def filled(self) -> list[tuple[str, ...]]:
        """Return the texts of each case: `fill` makes a case of each word, but one case of all for invariance."""
        words: Sequence[str | None] = self.fill or [None]
        each = [tuple(self._filled(text, word) for text in self.templates) for word in words]
        return [sum(each, ())] if self.test is Kind.INVARIANCE else each

    def _filled(self, text: str, word: str | None) -> str:
        return " ".join([text if word is None else text.replace(_PLACEHOLDER, word)] * self.repeat)


# the keys that each kind needs, and the others that it has
_KEYS: dict[Kind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Kind.MINIMUM: (("text",), ("expect", "also", "never")),
    Kind.INVARIANCE: (("same",), ("within",)),
    Kind.DIRECTIONAL: (("text", "than", "more"), ("by",)),
}
_SUITE = TypeAdapter(dict[str, list[CaseConfig]])


def read_suite(path: Path | None, labels: LabelSet) -> list[Case]:
    """Read the cases of a suite, of the package's own without a path, for a model with these labels.

    Raises ConfigError with the line for invalid YAML, a wrong key or value, a label that neither the model nor
    GoEmotions has, or a suite without cases; MissingInputError for a missing file.
    """
    if path is None:
        text = (resources.files("emotune") / "checks" / SUITE).read_text(encoding="utf-8")
        tree = parse_tree(text, Path(SUITE), _CONTENT)
    else:
        tree = read_tree(path, _CONTENT)
    try:
        found = _SUITE.validate_python(tree.values)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(_explain(problem), place=tree.place(problem["loc"])) from None
    cases = [
        case
        for capability, configs in found.items()
        for i, config in enumerate(configs)
        for case in _cases(config, (capability, i), tree, labels)
    ]
    if not cases:
        raise ConfigError(f"no cases; {_CONTENT}", place=tree.place(()))
    return cases


def _cases(config: CaseConfig, key: Key, tree: Tree, labels: LabelSet) -> Iterator[Case]:
    """Yield the cases of one entry, several with `fill`."""
    groups: dict[str, tuple[str, ...]] = {}
    skipped = ""
    for name in ("expect", "also", "never", "more"):
        wanted = getattr(config, name)
        if wanted is None:
            continue
        found = [_label(label, labels, tree, (*key, name, i)) for i, label in enumerate(wanted)]
        # the first label of a group is the most expected one: without it, the others do not make up for it
        if name != "never" and found and found[0] is None:
            skipped = skipped or f"the model has no label for {wanted[0]}"
        groups[name] = tuple(dict.fromkeys(label for label in found if label is not None))
    accepted = {*groups.get("expect", ()), *groups.get("also", ())}
    never = tuple(label for label in groups.get("never", ()) if label not in accepted)
    if config.also is not None and labels.task is Task.MULTI_CLASS:
        skipped = skipped or "a multi-class model predicts one label"
    if config.test is Kind.MINIMUM and config.expect is None and not never:
        skipped = skipped or f"the model has no label for {', '.join(config.never or ())}"
    place = tree.place(key)
    assert place is not None
    options = groups | {"never": never}
    for texts in config.filled():
        yield Case(
            str(key[0]), config.test, place, texts, **options, by=config.by, within=config.within, skipped=skipped
        )


def _label(name: str, labels: LabelSet, tree: Tree, key: Key) -> str | None:
    found = label_for(name, labels)
    if found is None and name not in GOEMOTIONS:
        known = dict.fromkeys((*labels.names, *GOEMOTIONS.names))
        message = f"neither this model nor GoEmotions has a label {name!r}"
        raise ConfigError(message, place=tree.place(key), hint=did_you_mean(name, known))
    return found


def label_for(name: str, labels: LabelSet) -> str | None:
    """Return the label of a model for a name: the one of that name, else the coarser one that GoEmotions' has there.

    None if the model has neither. The coarser ones are those of dair-ai/emotion, Ekman and sentiment.
    """
    own = {label_key(label): label for label in labels.names}
    coarser = (
        coarse
        for level in _LEVELS
        for coarse, members in MAPPINGS["goemotions", level].members.items()
        if name in members
    )
    return next((own[key] for key in (label_key(name), *coarser) if key in own), None)


def _explain(problem: Any) -> str:
    """Return what is wrong in a suite, from pydantic's description."""
    key: Sequence[str | int] = problem["loc"]
    kind, value, keys = problem["type"], problem["input"], list(CaseConfig.keys())
    if len(key) == 1:
        return f"{key[0]!r} has {value!r}; a capability has a list of cases, each after a dash"
    if len(key) == 2:
        if kind == "value_error":
            return str(problem["msg"]).replace("Value error,", "this case")
        return f"a case is a mapping of the keys {', '.join(keys)}, not {value!r}"
    name = str(key[2])
    if kind == "extra_forbidden":
        return f"a case has no key {name!r}. {did_you_mean(name, keys)}"
    if kind == "list_type":
        return f"{name!r} is a list" + (f": [{value}]" if isinstance(value, str) else f", not {value!r}")
    if kind == "string_type":
        return f"{name!r} has {value!r} in place of a text; put quotes around it to mean a text"
    return f"{name!r}: {problem['msg']} (found {value!r})"
