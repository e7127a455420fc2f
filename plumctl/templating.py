"""Templates: a domain with blanks, and what fills them. Pure.

Substitution is structural: placeholders stand in YAML values that were parsed before
anything is put in, so no parameter can become a key, a list or another document. That
is all a text engine's sandbox would have to prevent, without the engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from daemon.model.base import Model, Name
from daemon.model.problem import Problem
from daemon.model.yaml_text import YamlSyntaxError, load_yaml

Values = dict[str, Any]
#: `${name}`, `${name+1}`, `${names[i]}` (from the beginning again after the last).
_HOLE = re.compile(r"\$\{([^}]*)\}")
_EXPRESSION = re.compile(r"([a-z][a-z0-9_]*)(?:\[([a-z][a-z0-9_]*)\])?([+-][0-9]{1,9})?")
#: Rounds of all `for` together: a template is no program.
MAX_ROUNDS = 10_000
#: What every template has, given when it is instantiated.
GIVEN = ("tenant", "name")
NAME_PATTERN = r"^[a-z][a-z0-9_]*$"


class Type(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    CIDR = "cidr"
    ADDRESS = "address"
    ENUM = "enum"
    LIST = "list"


class Parameter(Model):
    type: Type
    description: str = ""
    default: Any = None  # none: it has to be given
    #: Of an integer's value, a string's length, a list's length.
    min: int | None = None
    max: int | None = None
    choices: tuple[str, ...] = ()  # of an enum
    items: Type = Type.STRING  # of a list

    @model_validator(mode="after")
    def _of_its_type(self) -> Self:
        if (self.type is Type.ENUM) != bool(self.choices):
            raise ValueError("an enum, and only an enum, has choices")
        if self.items in (Type.LIST, Type.ENUM):
            raise ValueError(f"a list of {self.items} is not possible")
        if self.default is not None and (wrong := wrong_with(self, self.default)):
            raise ValueError(f"the default {wrong}")
        return self


class Template(Model):
    kind: Literal["template"]
    name: Name
    version: int = Field(ge=1)
    description: str
    parameters: dict[str, Parameter] = {}
    body: list[dict[str, Any]] = Field(min_length=1)


class TemplateError(Exception):
    """Everything that is wrong, at once."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems


def parse(text: str, source: str) -> Template:
    """Raises TemplateError."""
    try:
        documents = list(load_yaml(text))
        if len(documents) != 1:
            raise TemplateError([Problem(source, "a file holds exactly one template")])
        problems = [
            Problem(f"{source}: {'.'.join(map(str, loc))}", words)
            for loc, words in documents[0].problems
        ]
        if problems:
            raise TemplateError(problems)
        found = Template.model_validate(documents[0].data)
    except YamlSyntaxError as error:
        raise TemplateError([Problem(source, str(error))]) from error
    except ValidationError as error:
        raise TemplateError(
            [
                Problem(f"{source}: {'.'.join(map(str, one['loc']))}", one["msg"])
                for one in error.errors()
            ]
        ) from error
    odd = [
        Problem(f"{source}: parameters.{name}", "is no name for a parameter")
        for name in found.parameters
        if not re.match(NAME_PATTERN, name) or name in GIVEN
    ]
    if odd:
        raise TemplateError(odd)
    return found


def wrong_with(parameter: Parameter, value: Any) -> str:
    """What is wrong with a value; empty: nothing."""
    if parameter.type is Type.LIST:
        if not isinstance(value, list):
            return f"is {_text(value)}, not a list"
        one = Parameter(type=parameter.items)
        found = [f"[{i}] {wrong}" for i, v in enumerate(value) if (wrong := wrong_with(one, v))]
        return "; ".join(found) or _size(parameter, len(value), "items")
    if parameter.type is Type.INTEGER:
        if not isinstance(value, int) or isinstance(value, bool):
            return f"is {_text(value)}, not an integer"
        return _size(parameter, value, "")
    if parameter.type is Type.BOOLEAN:
        return "" if isinstance(value, bool) else f"is {_text(value)}, not true or false"
    if not isinstance(value, str):
        return f"is {_text(value)}, not a string"
    if parameter.type is Type.ENUM and value not in parameter.choices:
        return f"is {_text(value)}, not one of {', '.join(parameter.choices)}"
    if parameter.type in (Type.CIDR, Type.ADDRESS):
        try:
            (ip_network if parameter.type is Type.CIDR else ip_address)(value)
        except ValueError as error:
            return f"is no {parameter.type}: {error}"
    return _size(parameter, len(value), "characters") if parameter.type is Type.STRING else ""


def _size(parameter: Parameter, size: int, unit: str) -> str:
    what = f"{size} {unit}".rstrip()
    if parameter.min is not None and size < parameter.min:
        return f"is {what}, at least {parameter.min} is asked for"
    if parameter.max is not None and size > parameter.max:
        return f"is {what}, at most {parameter.max} is possible"
    return ""


def _text(value: Any) -> str:
    return repr(value)


def from_text(parameter: Parameter, text: str) -> Any:
    """A value as typed in a shell; what does not fit its type stays text."""
    if parameter.type is Type.LIST:
        one = Parameter(type=parameter.items)
        return [from_text(one, part) for part in text.split(",")] if text else []
    if parameter.type is Type.INTEGER and re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    if parameter.type is Type.BOOLEAN:
        return {"true": True, "false": False}.get(text, text)
    return text


def values_of(template: Template, given: Mapping[str, Any]) -> Values:
    """All parameters, with defaults. Raises TemplateError with everything wrong at once."""
    problems = [
        Problem(name, f"is no parameter of {template.name}")
        for name in given
        if name not in template.parameters
    ]
    values: Values = {}
    for name, parameter in template.parameters.items():
        value = given.get(name, parameter.default)
        if value is None:
            problems.append(Problem(name, f"is missing ({parameter.type})"))
        elif wrong := wrong_with(parameter, value):
            problems.append(Problem(name, wrong))
        values[name] = value
    if problems:
        raise TemplateError(problems)
    return values


def render(template: Template, tenant: str, name: str, given: Mapping[str, Any]) -> list[Any]:
    """The manifests of an instance; its domain remembers where it comes from.

    Raises TemplateError.
    """
    values = values_of(template, given)
    filler = _Filler()
    documents = filler.fill(template.body, {**values, "tenant": tenant, "name": name}, "body")
    domains = [one for one in documents if one.get("kind") == "domain"]
    if len(domains) != 1 or (domains[0].get("tenant"), domains[0].get("name")) != (tenant, name):
        message = "must make exactly one domain, named ${name} of tenant ${tenant}"
        filler.problems.append(Problem("body", message))
    for document in documents:
        if document.get("kind") not in ("domain", "endpoint") or document.get("tenant") != tenant:
            words = "a template makes a domain and endpoints of tenant ${tenant}"
            filler.problems.append(Problem("body", words))
    if filler.problems:
        raise TemplateError(filler.problems)
    origin = {"template": template.name, "version": template.version, "parameters": dict(given)}
    domains[0]["spec"] = {**domains[0].get("spec", {}), "origin": origin}
    return list(documents)


class _Filler:
    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._rounds = 0

    def fill(self, node: Any, values: Values, at: str) -> Any:
        if isinstance(node, str):
            return self._fill_text(node, values, at)
        if isinstance(node, dict):
            return {key: self.fill(part, values, f"{at}.{key}") for key, part in node.items()}
        if isinstance(node, list):
            return [one for i, part in enumerate(node) for one in self._item(part, values, at, i)]
        return node

    def _item(self, part: Any, values: Values, at: str, index: int) -> Iterator[Any]:
        """A list's item; a `for` is as many as it has rounds."""
        where = f"{at}[{index}]"
        if not (isinstance(part, dict) and "for" in part):
            yield self.fill(part, values, where)
            return
        if part.keys() not in ({"for", "in", "do"}, {"for", "count", "do"}):
            self.problems.append(Problem(where, "for needs do, and either in or count"))
            return
        rounds = self.fill(part.get("in", part.get("count")), values, where)
        if "count" in part and isinstance(rounds, int):
            rounds = list(range(min(rounds, MAX_ROUNDS + 1)))
        if not isinstance(rounds, list) or not isinstance(part["do"], list):
            self.problems.append(Problem(where, "in and do are lists, count is an integer"))
            return
        for value in rounds:
            self._rounds += 1
            if self._rounds > MAX_ROUNDS:
                self.problems.append(Problem(where, f"more than {MAX_ROUNDS} rounds"))
                return
            yield from self.fill(part["do"], {**values, str(part["for"]): value}, f"{where}.do")

    def _fill_text(self, text: str, values: Values, at: str) -> Any:
        """A value that is one placeholder keeps its type."""
        whole = _HOLE.fullmatch(text)
        if whole:
            return self._value(whole[1], values, at)

        def put(match: re.Match[str]) -> str:
            value = self._value(match[1], values, at)
            if isinstance(value, list):
                self.problems.append(Problem(at, f"{match[0]} is a list amid text"))
            return str(value).lower() if isinstance(value, bool) else str(value)

        return _HOLE.sub(put, text)

    def _value(self, expression: str, values: Values, at: str) -> Any:
        match = _EXPRESSION.fullmatch(expression)
        if match is None or match[1] not in values or (match[2] or match[1]) not in values:
            self.problems.append(Problem(at, f"${{{expression}}} is nothing known here"))
            return ""
        value = values[match[1]]
        if match[2]:
            index = values[match[2]]
            if not isinstance(value, list) or not value or not isinstance(index, int):
                words = f"${{{expression}}} needs a list with items, and an integer"
                self.problems.append(Problem(at, words))
                return ""
            value = value[index % len(value)]
        if match[3]:
            if not isinstance(value, int) or isinstance(value, bool):
                self.problems.append(Problem(at, f"${{{expression}}} needs an integer"))
                return ""
            value += int(match[3])
        return value
