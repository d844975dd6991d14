"""Check the size of the package's modules and functions, the number of imports, and that no import is circular."""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

PACKAGE = "django_bi_integration"
MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 30
MAX_IMPORTS = 8


def main() -> int:
    """Print each problem and return the exit code."""
    modules = [path for path in sorted(Path(PACKAGE).rglob("*.py")) if "migrations" not in path.parts]
    # Imports for type checking and imports inside of functions count.
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    problems = [*too_long(modules), *too_many_imports(imports), *circular(imports)]
    print("\n".join(problems) or f"{len(modules)} modules: their sizes and imports are within the limits.")
    return 1 if problems else 0


def too_long(modules: list[Path]) -> Iterator[str]:
    """Describe the modules and functions with too many lines. A function's docstring does not count."""
    for path in modules:
        text = path.read_text()
        if (lines := text.count("\n")) > MAX_MODULE_LINES:
            yield f"{path}: {lines} lines, the limit is {MAX_MODULE_LINES}"
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if (lines := code_lines(node)) > MAX_FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name}() has {lines} lines, the limit is {MAX_FUNCTION_LINES}"


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines from `def` to the end, without the docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function):
        docstring = function.body[0]
        lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
    return lines


def too_many_imports(imports: dict[str, set[str]]) -> Iterator[str]:
    """Describe the modules that import too many modules of the package."""
    for module, imported in sorted(imports.items()):
        if len(imported) > MAX_IMPORTS and "migrations" not in module:
            yield f"{module} imports {len(imported)} modules of the package, the limit is {MAX_IMPORTS}"


def circular(imports: dict[str, set[str]]) -> Iterator[str]:
    """Describe the first import cycle."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        yield f"Import cycle: {' → '.join(reversed(error.args[1]))}"


if __name__ == "__main__":
    sys.exit(main())
