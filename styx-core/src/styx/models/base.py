"""What every model of the task format shares: frozen, no unknown keys, null means "not given"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

T = TypeVar("T")


class Problem(ValueError):
    """Something wrong with a value, told by a validator to whoever knows the file and the line.

    Args:
        message: What is wrong, in words that continue the field's name: "must be ...".
        suggestion: What to write instead.
        at: Where inside the validated value, when not the whole of it.
        shown: What to show as the offending value, when not the node found at `at`.
    """

    def __init__(
        self,
        message: str,
        *,
        suggestion: str | None = None,
        at: Iterable[str | int] = (),
        shown: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion
        self.at = tuple(at)
        self.shown = shown


class Problems(ValueError):
    """Several problems of one value; a nested model's own report may be one of them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


def collect(pairs: Iterable[tuple[str | int, Any]], check: Callable[[Any], T]) -> dict[str | int, T]:
    """Apply `check` to every item of a list or map given as `(key or index, item)`; report all that fail.

    Raises:
        Problems: One or more items are wrong.
    """
    checked: dict[str | int, T] = {}
    problems: list[Problem] = []
    for key, item in pairs:
        try:
            checked[key] = check(item)
        except Problems as several:
            problems.extend(_below(key, problem) for problem in several.problems)
        except (Problem, ValidationError) as problem:
            problems.append(_below(key, problem))
        except ValueError as error:
            problems.append(Problem(str(error), at=(key,)))
    if problems:
        raise Problems(problems)
    return checked


def _below(key: str | int, problem: Problem | ValidationError) -> Problem:
    if isinstance(problem, Nested):
        return Nested(problem.error, at=(key, *problem.at))
    if isinstance(problem, Problem):
        return Problem(problem.message, suggestion=problem.suggestion, at=(key, *problem.at), shown=problem.shown)
    return Nested(problem, at=(key,))


class Nested(Problem):
    """A nested model's report, with the place of that model inside the value."""

    def __init__(self, error: ValidationError, *, at: Iterable[str | int] = ()) -> None:
        super().__init__(str(error), at=at)
        self.error = error


class Model(BaseModel):
    """Base of all models of the format.

    A key given as null is the same as a key left out, so `model_fields_set` says what the user really wrote.
    Dumps leave out what was not given, and reading a dump gives an equal model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, hide_input_in_errors=True)

    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Keys of other times or tools, with the key that is meant; used for suggestions."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        known = cls.known_keys()
        return {key: value for key, value in data.items() if value is not None or key not in known}

    @model_serializer(mode="wrap")
    def _only_what_was_given(self, handler: SerializerFunctionWrapHandler) -> Any:
        dumped = handler(self)
        if not isinstance(dumped, dict):
            return dumped
        given = self.model_fields_set | {_key_of(type(self), name) for name in self.model_fields_set}
        return {key: value for key, value in dumped.items() if key in given}

    @classmethod
    def known_keys(cls) -> frozenset[str]:
        """The keys as written in YAML (aliases, not attribute names)."""
        return frozenset(_key_of(cls, name) for name in cls.model_fields)


class Compact(Model):
    """A model written as one short text (`A100:8`, `aws/us-east-1`, `4+`), and dumped as that text."""

    @classmethod
    def parts(cls, value: str | float) -> Mapping[str, Any]:
        """The fields that the text stands for.

        Raises:
            ValueError: The text means nothing.
        """
        raise NotImplementedError

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, data: Any) -> Any:
        if isinstance(data, (str, int, float)) and not isinstance(data, bool):
            return cls.parts(data)
        if isinstance(data, (Mapping, cls)):
            return data
        raise Problem("must be text")

    @model_serializer(mode="plain")
    def _write_text(self) -> str:
        return str(self)


def as_text(value: Any) -> Any:
    """What a field of a `Compact` type takes: its text or number, or the model itself; never a mapping."""
    if isinstance(value, Compact) or (isinstance(value, (str, int, float)) and not isinstance(value, bool)):
        return value
    raise Problem("must be text")


AsText = BeforeValidator(as_text)


def _key_of(model: type[BaseModel], name: str) -> str:
    field = model.model_fields.get(name)
    return name if field is None else field.alias or name
