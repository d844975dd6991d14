"""Small changes to a module that a test should notice: mutmut's, and some for statements, conditions and decorators."""

import ast
import difflib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider
from mutmut.mutation.mutators import mutation_operators, operator_arg_removal, operator_string

SIMPLE = cst.SimpleStatementLine | cst.SimpleStatementSuite
COMPOUND = cst.BaseCompoundStatement | cst.ExceptHandler | cst.MatchCase
#: Nothing at run time depends on them.
INERT = cst.Annotation | cst.Import | cst.ImportFrom
#: Calls whose text is for people. Its wording may change; that there is a text is tested.
WORDING = {"_", "gettext", "gettext_lazy", "ngettext", "debug", "info", "warning", "error", "exception"}
#: Without one of its arguments, such a call raises TypeError in every test.
BUILT_IN = {"len", "isinstance", "getattr", "setattr", "zip", "range"}


@dataclass(frozen=True)
class Mutant:
    """A module with one change. Its key stays the same when lines move."""

    path: str
    function: str
    original: str
    mutated: str
    #: The function of a module or class that has the change in its body; "" if the change is outside of functions.
    outermost: str
    #: The lines of the changed statement; None if they run when the module is imported.
    lines: tuple[int, ...] | None
    source: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What identifies the mutant in mutants/unnoticed.toml."""
        return self.path, self.function, self.original, self.mutated


def sample(folder: Path, root: Path, seed: int) -> Iterator[Mutant]:
    """Yield the mutants of the modules in a folder, each once, in an order that depends on the seed."""
    modules = [Module(path, root) for path in sorted(folder.rglob("*.py"))]
    changes = [(module, *change) for module in modules for change in module.changes()]
    random.Random(seed).shuffle(changes)
    seen = {module.code for module in modules}
    for module, node, replacement in changes:
        source = module.with_change(node, replacement)
        if source not in seen and is_valid(source):
            seen.add(source)
            yield module.mutant(node, source)


class Module:
    """One module's source, and what can be changed in it."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path = str(path.relative_to(root))
        wrapper = MetadataWrapper(cst.parse_module(path.read_text()))
        self.module = wrapper.module
        self.code = self.module.code
        self.positions = wrapper.resolve(PositionProvider)
        self.parents = wrapper.resolve(ParentNodeProvider)

    def changes(self) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
        """Yield each node that can be changed, with what may take its place."""
        for node in self._mutable_nodes(self.module):
            for replacement in self._replacements(node):
                yield node, replacement

    def with_change(self, node: cst.CSTNode, replacement: cst.CSTNode) -> str:
        """Return the source with the replacement in place of the node."""
        return str(self.module.deep_replace(node, replacement).code)

    def mutant(self, node: cst.CSTNode, source: str) -> Mutant:
        """Return the mutant in whose source the node is changed."""
        changes = [*difflib.ndiff(self.code.splitlines(), source.splitlines())]
        original, mutated = (
            " ".join(line[2:].strip() for line in changes if line[:2] == sign) for sign in ("- ", "+ ")
        )
        scopes = [above for above in self._above(node) if isinstance(above, cst.FunctionDef | cst.ClassDef)][::-1]
        names = [scope.name.value for scope in scopes]
        depth = next((place for place, scope in enumerate(scopes) if isinstance(scope, cst.FunctionDef)), -1)
        outermost, function = ".".join(names[: depth + 1]), ".".join(names)
        return Mutant(self.path, function, original, mutated, outermost, self._lines(node), source)

    def _mutable_nodes(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        if isinstance(node, INERT) or self._is_docstring(node) or self._is_for_typing(node):
            return
        yield node
        for child in node.children:
            yield from self._mutable_nodes(child)

    def _is_docstring(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.Expr) and isinstance(node.value, cst.SimpleString | cst.ConcatenatedString)

    def _is_for_typing(self, node: cst.CSTNode) -> bool:
        """Return whether the node is a module's ``__all__``, a type variable or an alias of a type."""
        if not isinstance(node, cst.Assign):
            return False
        code = self.module.code_for_node(node)
        return code.startswith("__all__") or " = TypeVar(" in code or isinstance(node.value, cst.Subscript)

    def _replacements(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        for kind, operator in mutation_operators:
            if isinstance(node, kind) and not self._is_pointless(node, operator):
                yield from operator(node)
        yield from more_replacements(node)

    def _is_pointless(self, node: cst.CSTNode, operator: object) -> bool:
        if operator is operator_string:
            return any(isinstance(above, cst.Raise) or called(above) in WORDING for above in self._above(node))
        return operator is operator_arg_removal and called(node) in BUILT_IN

    def _above(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        while node is not self.module:
            yield node
            node = self.parents[node]

    def _lines(self, node: cst.CSTNode) -> tuple[int, ...] | None:
        """Return the lines of the innermost statement, or of its header if other statements follow in it."""
        above = [*self._above(node)]
        statement = next(one for one in above if isinstance(one, SIMPLE | COMPOUND))
        is_definition = isinstance(statement, cst.FunctionDef | cst.ClassDef)
        outside = above[above.index(statement) + 1 :]
        if is_definition or not any(isinstance(one, cst.FunctionDef) for one in outside):
            return None
        position = self.positions[statement]
        end = position.end.line
        if isinstance(statement, COMPOUND) and not isinstance(statement, cst.Match):
            end = max(position.start.line, self.positions[statement.body].start.line - 1)
        return tuple(range(position.start.line, end + 1))


def called(node: cst.CSTNode) -> str | None:
    """Return the last name of the function that the node calls."""
    function = getattr(node, "func", None)
    if isinstance(function, cst.Attribute):
        return str(function.attr.value)
    return str(function.value) if isinstance(function, cst.Name) else None


def more_replacements(node: cst.CSTNode) -> Iterable[cst.CSTNode]:
    """Yield the changes that mutmut does not make."""
    match node:
        case cst.Expr(value=cst.Call() | cst.Await()) | cst.Raise():
            yield cst.Pass()
        case cst.Return(value=cst.BaseExpression()) if not node.deep_equals(RETURN_NONE):
            yield node.with_changes(value=cst.Name("None"), whitespace_after_return=cst.SimpleWhitespace(" "))
        case cst.If() | cst.CompIf():
            yield node.with_changes(
                test=cst.UnaryOperation(cst.Not(), parenthesized(node.test)),
                whitespace_before_test=cst.SimpleWhitespace(" "),
            )
        case cst.ExceptHandler(type=cst.BaseExpression()):
            yield node.with_changes(type=cst.Name("GeneratorExit"))
        case cst.FunctionDef() | cst.ClassDef():
            for decorator in node.decorators:
                yield node.with_changes(decorators=[one for one in node.decorators if one is not decorator])


RETURN_NONE = cst.ensure_type(cst.parse_statement("return None"), cst.SimpleStatementLine).body[0]


def parenthesized(node: cst.BaseExpression) -> cst.BaseExpression:
    """Return the expression in parentheses."""
    return node.with_changes(lpar=[cst.LeftParen(), *node.lpar], rpar=[*node.rpar, cst.RightParen()])


def is_valid(source: str) -> bool:
    """Return whether Python can compile the source."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True
