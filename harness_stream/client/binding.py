"""From a function call to the bytes that are judged, and from those bytes back to the call that is run (V7).

Rule of this file: arguments are serialised once; what runs is read back from those bytes. A value with an encoder is
copied before it is encoded and runs as that copy, which must still encode to the same bytes when it begins. So nobody
who keeps a reference can change what was approved, nor can what measures a call or names its resources.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import json
import string
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from harness_stream.core.canonical import canonical_bytes, sha256_hex
from harness_stream.core.limits import INTEGER_MAX
from harness_stream.core.reasons import Misuse
from harness_stream.errors import CallerError, InvalidInput, Misused

Encoders = Mapping[str, Callable[[Any], Any]]
"""Parameter name → what turns its value into JSON."""
Resources = str | Iterable[str] | Callable[[Mapping[str, Any]], str | Iterable[str]]
"""Templates such as `email://external/{to}`, or what makes URIs of the arguments."""

_OWN_NAMES: Final = frozenset({"self", "cls"})
# A mail address keeps its readable form; everything else that could end a path segment is escaped.
_KEPT_IN_URI: Final = "@"


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as it is judged and as it will be run.

    Attributes:
        arguments: name → value as read back from the bytes, to be looked at; what runs is read back anew.
        digest: SHA-256 of the bytes.
    """

    arguments: Mapping[str, Any]
    digest: str
    _data: bytes
    _binding: Binding
    _own: tuple[Any, ...]
    _copies: Mapping[str, Any]

    def run_with(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments to run the function with.

        Raises:
            Misused: an encoded value no longer encodes to what was approved.
        """
        return self._binding.placed(self)


class Binding:
    """What a function's arguments look like to the harness.

    Args:
        function: the guarded function; a first parameter `self` or `cls` is passed through and not judged.
        encode: encoders of parameters that are not JSON.

    Raises:
        CallerError: the function is a generator (it would run later than approved), or `encode` names no parameter.
    """

    def __init__(self, function: Callable[..., Any], encode: Encoders | None) -> None:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise CallerError(f"`{function.__name__}` is a generator: its body would run later than it was approved")
        self._signature = inspect.signature(function)
        self._encode = dict(encode or {})
        names = list(self._signature.parameters)
        self._own = names[0] if names and names[0] in _OWN_NAMES else None
        self.names = tuple(name for name in names if name != self._own)
        unknown = sorted(set(self._encode) - set(self.names))
        if unknown:
            raise CallerError(f"`encode` names `{unknown[0]}`, which is no parameter of `{function.__name__}`")

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """Bind defaults and serialise, once.

        Raises:
            TypeError: the call does not fit the function, or a value is not JSON and has no encoder.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        copies = {name: copy.deepcopy(bound.arguments[name]) for name in self._encode}
        values = {n: copies.get(n, v) for n, v in bound.arguments.items() if n != self._own}
        data = self._serialised(values)
        own = () if self._own is None else (bound.arguments[self._own],)
        read_back = _read_back(data)
        return Call({name: read_back[name] for name in values}, sha256_hex(data), data, self, own, copies)

    def placed(self, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `Call.run_with`."""
        values = {**_read_back(call._data), **call._copies}  # noqa: SLF001  a call is this binding's own
        if call._copies and sha256_hex(self._serialised(values)) != call.digest:  # noqa: SLF001  same
            raise Misused("an argument has changed since it was approved", how=Misuse.CHANGED)
        bound = inspect.BoundArguments(self._signature, OrderedDict())
        for name, parameter in self._signature.parameters.items():
            if name == self._own:
                bound.arguments[name] = call._own[0]  # noqa: SLF001  same
            else:
                spread = parameter.kind is inspect.Parameter.VAR_POSITIONAL
                bound.arguments[name] = tuple(values[name]) if spread else values[name]
        return bound.args, bound.kwargs

    def _serialised(self, values: Mapping[str, Any]) -> bytes:
        encoded = {name: self._encode[name](v) if name in self._encode else v for name, v in values.items()}
        try:
            return canonical_bytes(encoded)
        except TypeError as error:
            raise TypeError(f"argument {error}; give `encode=` to turn it into JSON") from None


class Places:
    """The resources of a call.

    Args:
        resources: templates, or a function of the arguments.
        names: the parameters a template may name.

    Raises:
        CallerError: a template names something else.
    """

    def __init__(self, resources: Resources, names: Iterable[str]) -> None:
        self._make = resources if callable(resources) else None
        self._templates = [] if callable(resources) else _listed(resources)
        known = set(names)
        for template in self._templates:
            unknown = [field for field in _fields(template) if field not in known]
            if unknown:
                raise CallerError(f"resource template `{template}` names `{unknown[0]}`, which is no parameter")

    def of(self, arguments: Mapping[str, Any]) -> list[str]:
        """URIs; a list in an argument gives one each.

        Raises:
            InvalidInput: an argument is empty or an object, so that there would be no resource to judge.
        """
        if self._make is not None:
            return _listed(self._make(arguments))
        return [uri for template in self._templates for uri in _filled(template, arguments)]


def _read_back(data: bytes) -> dict[str, Any]:
    """The arguments in the approved bytes."""
    found: dict[str, Any] = json.loads(data, parse_int=_number)
    return found


def _number(text: str) -> int | float:
    """RFC 8785 writes 1e20 without an exponent; an integer of that size would not have been serialised."""
    number = int(text)
    return number if abs(number) <= INTEGER_MAX else float(text)


def _listed(found: str | Iterable[str]) -> list[str]:
    return [found] if isinstance(found, str) else list(found)


def _fields(template: str) -> list[str]:
    try:
        return [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise CallerError(f"resource template `{template}`: {error}") from None


def _filled(template: str, arguments: Mapping[str, Any]) -> list[str]:
    fields = list(dict.fromkeys(_fields(template)))
    whole = fields and template == f"{{{fields[0]}}}"  # the argument is itself a URI
    choices = [[text if whole else quote(text, safe=_KEPT_IN_URI) for text in _texts(f, arguments[f])] for f in fields]
    return [template.format(**dict(zip(fields, chosen, strict=True))) for chosen in itertools.product(*choices)]


def _texts(name: str, value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    if not items or any(item is None or item == "" or isinstance(item, dict | list) for item in items):
        raise InvalidInput(f"argument `{name}` is empty or not a plain value, so there is no resource to judge")
    return [item if isinstance(item, str) else json.dumps(item) for item in items]
