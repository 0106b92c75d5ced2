"""The reference: every public name of a package with its signature and docstring, read from the source and never imported."""

from __future__ import annotations

import ast
import html
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: A longer value than this (characters) is left out of a constant's line.
LONGEST_VALUE = 80
_SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises):[ \t]*\n?")
_ITEM = re.compile(r"([\w*`][\w ,./*`]*?): +(\S.*)")


@dataclass(frozen=True)
class Entry:
    """A public name: how it is written where it is used, its docstring, and for a class its methods and properties."""

    name: str
    signature: str
    doc: str
    members: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Module:
    """A module with its public names; `offers`: those of its modules that a package passes on, name -> module that has it."""

    name: str
    doc: str
    entries: tuple[Entry, ...]
    offers: dict[str, str]


def modules(package: Path) -> list[Module]:
    """The public modules of the package in a folder, by name; those without a public name are left out."""
    found = (_module(path, package) for path in package.rglob("*.py"))
    return sorted((m for m in found if m.entries or m.offers), key=lambda m: m.name)


def _module(path: Path, package: Path) -> Module:
    source = path.read_text("utf-8")
    tree, lines = ast.parse(source), source.splitlines()
    parts = path.relative_to(package.parent).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    public = not any(part.startswith("_") for part in name.split("."))
    entries = tuple(e for node in tree.body for e in _entries(node, lines)) if public else ()
    offers = {
        alias.name: node.module or ""
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and parts[-1] == "__init__" and public
        for alias in node.names
        if alias.name in _all_of(tree)
    }
    return Module(name, ast.get_docstring(tree) or "", entries, offers)


def _all_of(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def _entries(node: ast.stmt, lines: list[str]) -> Iterator[Entry]:
    """What a statement at the top of a module defines: a public function or class, or a constant that a `#:` comment describes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _public(node.name):
        yield Entry(node.name, _call(node), ast.get_docstring(node) or "")
    elif isinstance(node, ast.ClassDef) and _public(node.name):
        yield _class(node)
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        said = _comment_above(node.lineno, lines)
        if isinstance(target, ast.Name) and _public(target.id) and said:
            value = ast.unparse(node.value) if node.value else ""
            yield Entry(target.id, f"{target.id} = {value}" if len(value) <= LONGEST_VALUE else target.id, said)


def _class(node: ast.ClassDef) -> Entry:
    functions = {f.name: f for f in node.body if isinstance(f, ast.FunctionDef)}
    doc, made_by = ast.get_docstring(node) or "", functions.get("__init__")
    if made_by:
        arguments = _arguments(made_by)
        doc = "\n\n".join(filter(None, (doc, ast.get_docstring(made_by))))
    else:
        fields = [f for f in node.body if isinstance(f, ast.AnnAssign) and _public(getattr(f.target, "id", "_"))]
        arguments = ", ".join(ast.unparse(f) for f in fields)
    bases = ", ".join(map(ast.unparse, node.bases))
    members = tuple(
        Entry(f.name, _call(f), ast.get_docstring(f) or "")
        for f in functions.values()
        if _public(f.name) and ast.get_docstring(f)
    )
    signature = f"class {node.name}" + f"({arguments})" * bool(arguments) + f": {bases}" * bool(bases)
    return Entry(node.name, signature, doc, members)


def _call(f: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    returned = ast.unparse(f.returns) if f.returns else ""
    if {getattr(d, "id", getattr(d, "attr", "")) for d in f.decorator_list} & {"property", "cached_property"}:
        return f"{f.name}: {returned}"
    return f"{f.name}({_arguments(f)})" + f" -> {returned}" * bool(returned)


def _arguments(f: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return re.sub(r"^(self|cls)(, |$)", "", ast.unparse(f.args))


def _public(name: str) -> bool:
    return not name.startswith("_")


def _comment_above(line: int, lines: list[str]) -> str:
    """The `#:` comment that ends above a line (counted from 1)."""
    said: list[str] = []
    while line > 1 and lines[line - 2].startswith("#:"):
        line -= 1
        said.insert(0, lines[line - 1][2:].strip())
    return " ".join(said)


def docstring_html(doc: str) -> str:
    """A docstring as HTML: paragraphs, examples, and `Args:`-like sections as lists; `names` in backticks as code, all else as text."""
    return "".join(map(_block, re.split(r"\n\s*\n", inspect.cleandoc(doc)))) if doc.strip() else ""


def _block(text: str) -> str:
    if match := _SECTION.match(text):
        items = "".join(f"<div><dt>{_inline(n)}</dt><dd>{_inline(said)}</dd></div>" for n, said in _items(text, match))
        return f'<p class="label">{match[1]}</p><dl>{items}</dl>'
    if text.startswith(">>>") or text.startswith("  "):
        return f"<pre>{html.escape(textwrap.dedent(text))}</pre>"
    return f"<p>{_inline(' '.join(text.split()))}</p>"


def _items(text: str, section: re.Match[str]) -> list[tuple[str, str]]:
    """`name: what it is` with the lines that go on with it, indented deeper than the names."""
    lines = textwrap.dedent(text[section.end() :]).splitlines()
    items: list[tuple[str, str]] = []
    for line in lines:
        match = None if line.startswith(" ") else _ITEM.match(line)
        if match:
            items.append((match[1], match[2]))
        elif items:
            items[-1] = (items[-1][0], f"{items[-1][1]} {line.strip()}")
        else:
            items.append(("", line.strip()))
    return items


def _inline(text: str) -> str:
    return re.sub(r"`+([^`]+)`+", r"<code>\1</code>", html.escape(text, quote=False))


def reference_html(found: list[Module]) -> str:
    """All modules on one page: a box to find a name, the list of modules, and each module's names."""
    known = {f"{m.name}.{entry.name}" for m in found for entry in m.entries}
    listed = "".join(f'<li><a href="#{m.name}">{m.name}</a></li>' for m in found)
    return (
        '<div class="reference"><p class="find"><label>Find <input type="search" id="find" '
        'placeholder="a name, or a word of what it does" autocomplete="off"></label> <span id="found"></span></p>'
        f'<details class="modules"><summary>{len(found)} modules</summary><ul>{listed}</ul></details>'
        f"{''.join(_module_html(m, known) for m in found)}</div>"
    )


def _module_html(module: Module, known: set[str]) -> str:
    offers = ", ".join(
        f'<a href="#{where}.{name}"><code>{name}</code></a>'
        for name, where in sorted(module.offers.items())
        if f"{where}.{name}" in known
    )
    passed_on = f'<p class="note">Also to be imported from here: {offers}.</p>' if offers else ""
    names = "".join(_entry_html(entry, module.name) for entry in module.entries)
    doc = docstring_html(module.doc)
    return f'<section class="module" id="{module.name}"><h2>{module.name}</h2>{doc}{passed_on}{names}</section>'


def _entry_html(entry: Entry, where: str) -> str:
    members = "".join(_entry_html(member, f"{where}.{entry.name}") for member in entry.members)
    signature = html.escape(entry.signature).replace(entry.name, f"<b>{entry.name}</b>", 1)
    full = f"{where}.{entry.name}"
    return (
        f'<article id="{full}"><code class="signature">{signature}</code>{docstring_html(entry.doc)}{members}</article>'
    )
