"""Options of policies as models: one way to declare them, to check them, and to say what is wrong with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import UsageError, unknown_name


class PolicyOptions(BaseModel):
    """Base of a kind's options: immutable, strict about types (3.7 is no integer), unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def _takes(text: str) -> Any:
    """What an option takes, in the words of an error; beside the constraint that says it to pydantic."""
    return {"takes": text}


Count = Annotated[int, Field(ge=1, json_schema_extra=_takes("an integer of at least 1"))]
Seed = Annotated[int, Field(ge=0, json_schema_extra=_takes("an integer of at least 0"))]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False, json_schema_extra=_takes("a number of seconds above 0"))]
Milliseconds = Annotated[
    float, Field(ge=0, allow_inf_nan=False, json_schema_extra=_takes("a number of milliseconds, 0 or more"))
]
Device = Annotated[
    str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$", json_schema_extra=_takes("one of auto, cpu, cuda, cuda:N"))
]


Quantize = Literal["int8", "int8-activations"]
"""How linear layers are quantised, see `harness.policies.quantize`."""


class ServingOptions(PolicyOptions):
    """Options that every policy takes, and no factory sees: how a server batches it (see `harness.serve.sizing`)."""

    max_batch: Count | None = None
    """Largest batch."""
    max_wait_ms: Milliseconds | None = None
    """How long a request waits for others, milliseconds."""


def read_options[M: PolicyOptions](model: type[M], kind: str, given: Mapping[str, Any]) -> M:
    """Read the options of a policy.

    Args:
        model: What the kind takes.
        kind: Its name, for messages.
        given: Options by name.

    Raises:
        UsageError: An unknown option (answered with the nearest known one), or a value that the option does not take.
    """
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        raise _explained(model, kind, error) from None


def _explained(model: type[PolicyOptions], kind: str, error: ValidationError) -> UsageError:
    problems = error.errors(include_url=False)
    unknown = next((str(problem["loc"][0]) for problem in problems if problem["type"] == "extra_forbidden"), None)
    if unknown is not None:
        known = (*model.model_fields, *ServingOptions.model_fields)
        if not model.model_fields:
            return UsageError(f"Policy {kind!r} takes no option {unknown!r} (only {', '.join(known)}); remove it.")
        return unknown_name(f"option of {kind}", unknown, known)
    problem = problems[0]
    if not problem["loc"]:
        return UsageError(f"{kind}: {str(problem['msg']).removeprefix('Value error, ')}")
    name = str(problem["loc"][0])
    return UsageError(f"{kind}: {name} is {problem['input']!r}; it is {_expected(model, name)}.")


def _expected(model: type[PolicyOptions], name: str) -> str:
    """What an option takes, in words."""
    entry = model.model_json_schema()["properties"][name]
    branch = next(each for each in entry.get("anyOf", [entry]) if each.get("type") != "null")
    choices = branch.get("enum") or ([branch["const"]] if "const" in branch else [])
    if choices:
        return f"one of {', '.join(map(str, choices))}"
    plain = {"boolean": "true or false", "integer": "an integer", "number": "a number"}
    return str(branch.get("takes") or plain.get(branch.get("type"), "a text"))
