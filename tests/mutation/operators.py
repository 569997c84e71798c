"""What may be changed: a node of the code, and all that it is changed to.

The operators are mutmut's, but for its changes of letters; and some that it lacks, for what this code is made
of: members of enums, outcomes, conditions, handlers, calls for their effect.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import libcst as cst
from libcst import matchers as m
from mutmut.mutation import mutators

Operator = Callable[[cst.CSTNode], Iterable[cst.CSTNode | cst.RemovalSentinel]]

# What takes the place of what: each has the same arguments.
_OTHER = {
    "Transient": "Unknown",
    "Unknown": "Transient",
    "Refused": "Transient",
    "Conflict": "Refused",
    "Misconfigured": "Transient",
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
}
# Done otherwise below, and by less.
_OURS = {mutators.operator_string, mutators.operator_arg_removal, mutators.operator_assignment}
_LOGS = ("debug", "info", "warning", "error", "exception")


def operators(enums: Mapping[str, Sequence[str]]) -> list[Operator]:
    """List the operators for a module that uses these enums, each with its members."""
    theirs = [
        _for_nodes(kind, operator) for kind, operator in mutators.mutation_operators if operator not in _OURS
    ]
    return [
        *theirs,
        _assigned,
        _string,
        _arguments,
        _members(enums),
        _names,
        _condition,
        _effect,
        _raise,
        _result,
        _handler,
    ]


def is_log(node: cst.CSTNode) -> bool:
    """Whether a call writes a line of the log: what the line says is no behaviour."""
    log = m.Name("log") | m.Name("_log") | m.Attribute(attr=m.Name("_log"))
    level = m.OneOf(*(m.Name(name) for name in _LOGS))
    return m.matches(node, m.Call(func=m.Attribute(value=log, attr=level)))


def _for_nodes(kind: type, operator: Callable[..., Iterable[cst.CSTNode]]) -> Operator:
    return lambda node: operator(node) if isinstance(node, kind) else ()


def _assigned(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Assign None; text is changed by itself."""
    if not isinstance(node, cst.Assign | cst.AnnAssign) or node.value is None:
        return
    if not m.matches(node.value, m.Name("None") | m.SimpleString() | m.Name("True") | m.Name("False")):
        yield node.with_changes(value=cst.Name("None"))


def _string(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Of a string's changes the one that makes another string of it; not those of its letters."""
    if isinstance(node, cst.SimpleString):
        yield from list(mutators.operator_string(node))[:1]


def _arguments(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Leave out, or give None for, an argument that isn't text for people."""
    if not isinstance(node, cst.Call):
        return
    for at, argument in enumerate(node.args):
        if isinstance(argument.value, cst.FormattedString | cst.SimpleString):
            continue
        others = [*node.args[:at], *node.args[at + 1 :]]
        if argument.star or (argument.keyword is not None and others):
            yield node.with_changes(args=others)
        elif not m.matches(argument.value, m.Name("None")):
            none = argument.with_changes(value=cst.Name("None"))
            yield node.with_changes(args=[*node.args[:at], none, *node.args[at + 1 :]])


def _members(enums: Mapping[str, Sequence[str]]) -> Operator:
    """Take an enum's next member for the one that is named."""

    def another(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        if not (isinstance(node, cst.Attribute) and isinstance(node.value, cst.Name)):
            return
        members = enums.get(node.value.value, ())
        if node.attr.value in members:
            following = members[(members.index(node.attr.value) + 1) % len(members)]
            yield node.with_changes(attr=cst.Name(following))

    return another


def _names(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.Name) and node.value in _OTHER:
        yield node.with_changes(value=_OTHER[node.value])


def _condition(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Take a branch never, or always; a loop never."""
    if isinstance(node, cst.If):
        yield node.with_changes(test=cst.Name("False"))
        yield node.with_changes(test=cst.Name("True"))
    if isinstance(node, cst.While):
        yield node.with_changes(test=cst.Name("False"))
    if isinstance(node, cst.MatchOr):
        for at in range(len(node.patterns)):
            left = [*node.patterns[:at], *node.patterns[at + 1 :]]
            last = left[-1].with_changes(separator=cst.MaybeSentinel.DEFAULT)
            yield last.pattern if len(left) == 1 else node.with_changes(patterns=[*left[:-1], last])


def _effect(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Leave out a call that is made for what it does."""
    if isinstance(node, cst.Expr) and isinstance(node.value, cst.Call | cst.Await):
        yield cst.Pass()


def _raise(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.Raise):
        yield cst.Pass()


def _result(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.Return) and node.value is not None and not m.matches(node.value, m.Name("None")):
        yield node.with_changes(value=cst.Name("None"))


def _handler(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Catch nothing."""
    if isinstance(node, cst.ExceptHandler) and node.type is not None:
        yield node.with_changes(type=cst.Tuple(()), name=node.name)
