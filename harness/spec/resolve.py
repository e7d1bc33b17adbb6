"""Where shipped YAML lives, and how it becomes validated models.

A name resolves first against the working directory (`./suites/NAME.yaml`) and then against the package, so that a
user's own suite shadows a shipped one of the same name.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import SpecError, unknown_name
from harness.spec.strict_yaml import read_yaml

PACKAGE = Path(__file__).resolve().parents[1]


class SpecModel(BaseModel):
    """Base of every model read from YAML: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def resource_dirs(kind: str) -> list[Path]:
    """Directories that hold shipped files of a kind, in the order in which names resolve.

    Args:
        kind: "suites", "hardware_profiles" or "reports/published".
    """
    candidates = [Path.cwd() / kind, PACKAGE / "_data" / kind, PACKAGE.parent / kind]
    seen: dict[Path, None] = {}
    for candidate in candidates:
        if candidate.is_dir():
            seen.setdefault(candidate.resolve())
    return list(seen)


def names(kind: str) -> dict[str, Path]:
    """Every YAML file of a kind by its stem; the first directory that holds a name wins."""
    found: dict[str, Path] = {}
    for directory in resource_dirs(kind):
        for path in sorted(directory.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def find(kind: str, singular: str, name: str) -> Path:
    """Resolve a name or a path to a YAML file.

    Args:
        kind: Folder, see `resource_dirs`.
        singular: What to call one in an error ("suite").
        name: A bare name, or a path (anything with a slash or a .yaml ending).

    Raises:
        UsageError: No such file or name; the nearest known name is suggested.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} or "/" in name:
        if path.is_file():
            return path
        raise SpecError(
            f"There is no {singular} file at {path}. Shipped {singular}s can be named without a path: "
            f"{', '.join(sorted(names(kind)))}."
        )
    known = names(kind)
    if name not in known:
        raise unknown_name(singular, name, known)
    return known[name]


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; see `harness.spec.strict_yaml` for what is refused.

    Raises:
        SpecError: Unreadable, not YAML, or not a mapping; the message names the file and, for syntax, the line.
    """
    try:
        data = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{path} is not valid YAML: {_explain_yaml(error)}.") from error
    if data is None:
        raise SpecError(f"{path} is empty; a mapping of keys is expected.")
    if not isinstance(data, dict):
        raise SpecError(f"{path} holds {type(data).__name__} at the top; a mapping of keys is expected.")
    return data


def _explain_yaml(error: yaml.YAMLError) -> str:
    """What is wrong, and in which line."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    what = ": ".join(part for part in (error.context, error.problem) if part)
    return what if error.problem_mark is None else f"{what} (line {error.problem_mark.line + 1})"


def parse[M: BaseModel](model: type[M], data: Mapping[str, Any], where: str) -> M:
    """Validate data against a model, with errors that name the key, its value and the remedy.

    Raises:
        SpecError: One line per problem; an unknown key is answered with the nearest known one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        by_path: dict[str, list[str]] = {}
        for problem in error.errors(include_url=False):
            path, message = _explain(model, problem)
            by_path.setdefault(path, []).append(message)
        problems = [f"{path}: {' or '.join(messages)}".removeprefix(": ") for path, messages in by_path.items()]
        raise SpecError(f"{where}: " + "; ".join(problems)) from error


def _explain(model: type[BaseModel], problem: Any) -> tuple[str, str]:
    """One validation problem as (where, what)."""
    # pydantic names the members of a union in the location ("tuple[int, ...]", "constrained-int"): not for users
    unknown = problem["loc"][-1:] if problem["type"] == "extra_forbidden" else ()
    named = problem["loc"][: len(problem["loc"]) - len(unknown)]
    location = [*(part for part in named if isinstance(part, int) or str(part).isidentifier()), *unknown]
    path = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys here are {', '.join(sorted(known))}"
        return path, f"unknown key, {hint}"
    if problem["type"] == "missing":
        return path, "required, but missing"
    if problem["type"] in {"tuple_type", "list_type"}:
        return path, _expects_list(problem.get("input"))
    message = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if isinstance(problem.get("input"), dict | list) or problem["type"] == "value_error":
        return path, message
    return path, f"{message[0].lower()}{message[1:]} (got {problem.get('input')!r})"


def _expects_list(given: Any) -> str:
    """What is wrong with a value that stands where a list has to."""
    if isinstance(given, dict):
        return "input should be a list (got a mapping); begin each of its entries with '- '"
    example = "" if given is None else f", e.g. [{given}]"
    return f"input should be a list{example} (got {given!r})"


def _fields_at(model: type[BaseModel], location: list[Any]) -> list[str]:
    """Field names of the (nested) model at a location."""
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        current = _inner_model(field.annotation) if field is not None else current
    return list(getattr(current, "model_fields", {}))


def _inner_model(annotation: Any) -> Any:
    """The pydantic model inside an annotation such as `tuple[M, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _inner_model(inner)
        if found is not None:
            return found
    return None
