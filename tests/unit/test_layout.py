"""The rules of the layout and of the language, checked on every tracked file."""

import ast
import io
import re
import subprocess
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("domain", "postgres", "eventlog", "commands", "projections", "turns", "audit", "api", "cli")
MAX_MODULES = 16
MAX_FIRST_LINE = 80
SHARED_NAMES = {"__init__", "errors"}
NO_SUBJECT = r"(?:Who|Whoever|Whatever|What|Nobody|Somebody)\b"


def tracked(pattern: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).exists()]


def folder(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


CODE = tracked("*.py")
PACKAGED = [path for path in CODE if folder(path) in PACKAGES]
PAGES = tracked("*.md") + tracked("*.sql")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def descriptions(path: Path) -> Iterator[str]:
    """Yield the descriptions of fields, and the help of options."""
    for node in ast.walk(tree(path)):
        if (
            isinstance(node, ast.keyword)
            and node.arg in ("description", "help")
            and isinstance(node.value, ast.Constant)
        ):
            yield str(node.value.value)


def comments(path: Path) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.lstrip("# ")


def broken(paths: Iterable[Path], faults: Callable[[Path], list[str]]) -> dict[str, list[str]]:
    """Return what breaks a rule, by file."""
    return {name(path): found for path in paths if (found := faults(path))}


def repeated(names: Iterable[str]) -> list[str]:
    return [each for each, number in Counter(names).items() if number > 1]


def test_a_folder_holds_at_most_16_modules() -> None:
    modules = Counter(name(path.parent) for path in CODE)
    assert {each: number for each, number in modules.items() if number > MAX_MODULES} == {}


def test_a_package_says_what_it_holds() -> None:
    packages = {path.parent for path in PACKAGED}
    assert [name(each) for each in packages if not (each / "__init__.py").read_text().startswith('"""')] == []


def test_no_two_modules_of_the_packages_have_one_name() -> None:
    # A module of routes has the name of its resource.
    names = [path.stem for path in PACKAGED if path.parent != ROOT / "api" / "routes"]
    assert set(repeated(names)) <= SHARED_NAMES


def test_no_two_classes_of_the_packages_have_one_name() -> None:
    classes = [node.name for path in PACKAGED for node in tree(path).body if isinstance(node, ast.ClassDef)]
    assert repeated(each for each in classes if not each.startswith("_")) == []


def test_the_first_line_of_a_docstring_is_short_and_one_clause() -> None:
    def faults(path: Path) -> list[str]:
        lines = [text.splitlines()[0] for text in docstrings(path)]
        return [line for line in lines if ";" in line or len(line) > MAX_FIRST_LINE]

    assert broken(CODE, faults) == {}


def test_no_sentence_of_the_code_begins_with_a_pronoun() -> None:
    def faults(path: Path) -> list[str]:
        texts = [*docstrings(path), *descriptions(path)]
        found = [text for text in texts if re.search(rf"(?:^|[.:]\s+){NO_SUBJECT}", text)]
        return found + [text for text in comments(path) if re.search(rf"(?:^|[.]\s+){NO_SUBJECT}", text)]

    assert broken(CODE, faults) == {}


def test_no_sentence_of_a_page_or_a_statement_begins_with_a_pronoun() -> None:
    def faults(path: Path) -> list[str]:
        prose = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        return re.findall(rf"(?:^|[.!?]\s+|\|\s|[-*]\s)(?:\*\*)?{NO_SUBJECT}.*", prose, re.MULTILINE)

    assert broken(PAGES, faults) == {}
