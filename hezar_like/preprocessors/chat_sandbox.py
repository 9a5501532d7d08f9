"""Where chat templates run: Jinja's sandbox, without a loader, with listed filters and methods, and on a budget.

The template's tree is changed before it is compiled, so that each thing it does is paid for; see `chat_budget`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from ..errors import MissingDependency, PreprocessorError, require
from . import chat_budget as budget
from .chat_budget import made, scan, spend, weigh
from .chat_filters import paid_filters, paid_tests, pay_for_replacing
from .chat_tree import tree_changer

__all__ = ["Refusal", "environment"]

OLDEST = (3, 1, 6)
"""Jinja's sandbox has known holes before it."""
LONGEST_FORMAT = 200

CHEAP_METHODS = frozenset({"startswith", "endswith", "removeprefix", "removesuffix", "get", "items", "keys", "values"})
"""Methods that do not look at all of their object."""
BACKWARD = frozenset({"rfind", "rindex", "rpartition", "rsplit", "strip", "lstrip", "rstrip"})
"""Methods of texts that take the time of both lengths, multiplied."""
METHODS: Mapping[type, frozenset[str]] = {
    str: CHEAP_METHODS - {"get", "items", "keys", "values"} | BACKWARD | {
        "capitalize", "casefold", "center", "count", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal",
        "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "ljust", "lower", "partition",
        "replace", "rjust", "split", "splitlines", "swapcase", "title", "upper", "zfill",
    },
    list: frozenset({"copy", "count", "index"}),
    tuple: frozenset({"count", "index"}),
    dict: frozenset({"copy", "get", "items", "keys", "values"}),
}  # fmt: skip
WIDTHS = frozenset({"center", "ljust", "rjust", "zfill"})


class Refusal(Exception):
    """What a template says with `raise_exception`."""


class Formatter:
    """The method `format` or `format_map` of a text, as the sandbox gives it."""

    def __init__(self, form: str, run: Callable[..., str]) -> None:
        self.form, self.run = form, run


class TemplateDict:
    """What templates have instead of the class `dict`, whose attributes lead to the interpreter."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:
        """As that of `dict`."""
        return dict.fromkeys(keys, value)


@cache
def environment() -> Any:
    """The `jinja2.Environment` of all chat templates; safe to use from many threads.

    Raises:
        MissingDependency: Without jinja2, or with one that is too old.
    """
    jinja2 = require("jinja2", extra="chat")
    if tuple(int(part) for part in jinja2.__version__.split(".")[:3] if part.isdigit()) < OLDEST:
        raise MissingDependency(
            f"chat templates need jinja2 3.1.6 or newer, whose sandbox is safe; this is {jinja2.__version__}. "
            "Install it with: pip install -U jinja2"
        )
    sandbox, runtime, nodes = require("jinja2.sandbox", extra="chat"), jinja2.runtime, jinja2.nodes
    tree = tree_changer(require("jinja2.visitor", extra="chat"), nodes)

    class Generation(require("jinja2.ext", extra="chat").Extension):  # type: ignore[misc]
        """`{% generation %}`, which marks what the model wrote; its variables are its own."""

        tags = frozenset({"generation"})

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(["name:endgeneration"], drop_needle=True)).set_lineno(line)

    class Namespace(jinja2.utils.Namespace):  # type: ignore[misc,name-defined]
        """Values that loops change. Its text does not show them, as it could hold itself many times."""

        def __setitem__(self, name: str, value: Any) -> None:
            if str(name).startswith("_"):
                raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r:.100}")
            super().__setitem__(name, value)

        def __repr__(self) -> str:
            return "<Namespace>"

    class Environment(sandbox.ImmutableSandboxedEnvironment):  # type: ignore[misc,name-defined]
        """The sandbox, with the prices of operators and calls."""

        intercepted_binops = frozenset({"*", "**", "%", "-"})

        def _parse(self, source: str, name: str | None, filename: str | None) -> Any:
            changed = tree.visit(super()._parse(source, name, filename))
            return changed.set_environment(self)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "%" and isinstance(left, str):
                budget.check_format(left, right)
            elif operator == "*":
                budget.check_times(left, right)
            elif operator == "**":
                budget.check_power(left, right)
            elif operator == "-":
                weigh(left), weigh(right)
            return made(super().call_binop(context, operator, left, right))

        def wrap_str_format(self, value: Any) -> Any:
            run = super().wrap_str_format(value)
            return None if run is None else Formatter(value.__self__, run)

        def call(self, __context: Any, __obj: Any, /, *args: Any, **kwargs: Any) -> Any:
            spend(budget.CALL + len(args) + len(kwargs))
            if isinstance(__obj, Formatter):
                budget.check_format(__obj.form, [args, kwargs])
                return made(__obj.run(*args, **kwargs))
            if not isinstance(__obj, runtime.Macro | runtime.LoopContext | runtime.Undefined):
                _check_call(__obj, args, kwargs, free)
            return made(super().call(__context, __obj, *args, **kwargs))

    @jinja2.pass_context  # type: ignore[untyped-decorator]
    def shown(context: Any, value: Any) -> Any:
        return made(value) if type(value) is str else weigh(value)

    made_of = Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # that computes before the budget begins; so does output without a context
        finalize=shown,
        extensions=[Generation, "jinja2.ext.loopcontrols"],
    )
    made_of.filters = paid_filters(made_of.filters)
    made_of.tests = paid_tests(made_of.tests)
    own = {"raise_exception": _refuse, "strftime_now": _now, "dict": TemplateDict(), "namespace": Namespace}
    made_of.globals = {name: made_of.globals[name] for name in ("cycler", "joiner", "range")} | own
    free = tuple(made_of.globals.values())
    return made_of


# -- calls ----------------------------------------------------------------------------------------------------------


def _check_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], functions: tuple[Any, ...]) -> None:
    """Pays for a call of a function or a method, if templates may call it."""
    owner: Any = getattr(function, "__self__", None)
    name = getattr(function, "__name__", "")
    kind = next((kind for kind in METHODS if isinstance(owner, kind)), None)
    if kind is None:
        if not (any(function is known for known in functions) or _is_helper(function) or _is_helper(owner)):
            raise PreprocessorError(f"the chat template calls {name or type(function).__name__!r}, which it may not.")
        pay = scan if name == "Namespace" else weigh  # which only holds its values
        for value in (*args, *kwargs.values()):
            pay(value)
        return
    if name not in METHODS[kind]:
        raise PreprocessorError(f"the chat template calls {name!r} of a {kind.__name__}, which it may not.")
    for value in (*args, *kwargs.values()):
        weigh(value)
    if name in ("count", "index") and kind is not str:
        weigh(owner)
    elif name not in CHEAP_METHODS:
        scan(owner)
    if kind is not str:
        return
    if name in WIDTHS:
        budget.check_width(*args)
    elif name in BACKWARD and args and isinstance(args[0], str):
        spend(len(owner) * len(args[0]) // budget.READ)
    elif name == "replace":
        pay_for_replacing(owner, *args)
    elif name == "join" and args and isinstance(args[0], list | tuple | dict):
        spend(len(args[0]) * (1 + len(owner) // budget.MADE))


def _is_helper(value: Any) -> bool:
    """Whether this is one of Jinja's objects that keep count of something, or ours."""
    kind = type(value)
    helpers = (("jinja2.utils", "Cycler"), ("jinja2.utils", "Joiner"), ("jinja2.runtime", "LoopContext"))
    return kind is TemplateDict or (kind.__module__, kind.__name__) in helpers


def _refuse(message: object) -> None:
    raise Refusal(str(weigh(message)))


def _now(form: str) -> str:
    if len(form) > LONGEST_FORMAT:
        raise budget.too_much(f"gives strftime_now more than {LONGEST_FORMAT} characters")
    return datetime.now().strftime(form)
