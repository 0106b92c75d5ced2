"""The documentation's pages: complete, linked, readable without a network; and the reference against Python's own `inspect`."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
import typer
from notebook_files import write

from wamlab import cli
from wamlab.errors import UnknownName
from wamlab.notebooks.docs import PAGES, write_docs
from wamlab.notebooks.index import write_index
from wamlab.notebooks.reference import docstring_html, modules
from wamlab.notebooks.report import report_all

ROOT = Path(__file__).parents[2]
#: Cheap to import, and with functions, classes, dataclasses, protocols and constants.
INSPECTED = ("config", "errors", "geometry", "types", "statistics.bootstrap", "statistics.paired", "notebooks.show")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        overview = write_docs(folder / "docs", "../index.html")
        write_index([], folder / "index.html")
    return overview.parent


def test_every_text_has_a_page(pages):
    texts = {text for _, text in PAGES.values() if text}
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= texts
    assert {path.stem for path in pages.glob("*.html")} == set(PAGES)


def test_every_link_leads_somewhere(pages):
    for page in [*pages.glob("*.html"), pages.parent / "index.html"]:
        text = page.read_text("utf-8")
        ids = set(re.findall(r' id="([^"]+)"', text))
        links = {link for link in re.findall(r'<a [^>]*href="([^"]+)"', text) if not link.startswith("http")}
        assert links
        for link in links:
            file, _, fragment = link.partition("#")
            if file:
                assert (page.parent / file).is_file(), f"{page.name} links to {link}"
            elif fragment:
                assert fragment in ids, f"{page.name} links to {link}"


def test_the_index_of_the_reports_links_to_it(pages, tmp_path):
    assert 'href="docs/index.html"' in (pages.parent / "index.html").read_text()
    assert "docs/index.html" not in write_index([], tmp_path / "index.html").read_text()


def test_alone_it_links_to_no_index(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "../index.html" not in write_docs(tmp_path / "docs").read_text()
    write_index([], tmp_path / "index.html")
    assert 'href="../index.html"' in write_docs(tmp_path / "docs").read_text()


def test_pictures_are_in_the_pages(pages):
    assert 'src="data:image/webp' in (pages / "tutorial.html").read_text()
    for page in pages.glob("*.html"):
        assert not re.search(r'<img[^>]+src="(?!data:)', page.read_text("utf-8"))


def test_every_command_and_option_is_listed(pages):
    text = (pages / "commands.html").read_text()
    top = typer.main.get_command(cli.app)
    for name, command in top.commands.items():
        for inner in getattr(command, "commands", {name: command}).values():
            for parameter in inner.params:
                assert all(option in text for option in parameter.opts if parameter.name != "help")
            assert f"{inner.name}</h2>" in text


def test_the_same_sources_give_the_same_pages(pages, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    again = write_docs(tmp_path, "../index.html").parent
    assert all((again / page.name).read_bytes() == page.read_bytes() for page in pages.glob("*.html"))


@pytest.mark.parametrize("name", INSPECTED)
def test_the_reference_agrees_with_inspect(name):
    module = importlib.import_module(f"wamlab.{name}")
    found = {m.name: m for m in modules(ROOT / "wamlab")}[module.__name__]
    entries = {entry.name: entry for entry in found.entries}
    defined = {
        key: thing
        for key, thing in vars(module).items()
        if (inspect.isclass(thing) or inspect.isfunction(thing))
        and thing.__module__ == module.__name__
        and not key.startswith("_")
    }
    assert defined.keys() <= entries.keys()
    for key, thing in defined.items():
        assert entries[key].doc.startswith(inspect.cleandoc(thing.__doc__ or "")), key
        if inspect.isfunction(thing):
            assert all(parameter in entries[key].signature for parameter in inspect.signature(thing).parameters)
        else:
            public = [f for f in vars(thing) if not f.startswith("_") and inspect.isfunction(getattr(thing, f))]
            said = {member.name for member in entries[key].members}
            assert {f for f in public if getattr(thing, f).__doc__} <= said
    assert found.doc == inspect.getdoc(module)


def test_a_comment_documents_a_constant():
    entries = {e.name: e for m in modules(ROOT / "wamlab") if m.name == "wamlab.types" for e in m.entries}
    assert entries["ACTIONS"].signature == "ACTIONS = ('steering_rad', 'accel_mps2', 'speed_mps')"
    assert entries["ACTIONS"].doc.startswith("Columns of every action array")
    assert "C" not in entries, "a name that no comment describes is not for users"


def test_a_docstring_becomes_paragraphs_lists_and_examples():
    doc = """The mean of `values` < 3.

    Args:
        values: (N,), one a scene;
            none is NaN.
        **settings: the rest.

    >>> mean([1])
    1
    """
    text = docstring_html(doc)
    assert "<p>The mean of <code>values</code> &lt; 3.</p>" in text
    assert "<dt>values</dt><dd>(N,), one a scene; none is NaN.</dd>" in text
    assert "<dt>**settings</dt><dd>the rest.</dd>" in text
    assert "<pre>&gt;&gt;&gt; mean([1])\n1</pre>" in text
    assert docstring_html("") == ""


def test_private_names_stay_private(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text('"""P."""\nfrom package.a import f\n__all__ = ["f"]\n')
    (package / "a.py").write_text('"""A."""\ndef f(x: int = 1) -> str:\n    """F."""\ndef _g(): ...\n#: Why.\nN = 3\n')
    (package / "_b.py").write_text('"""B."""\ndef h(): ...\n')
    top, a = modules(package)
    assert [top.name, top.offers] == ["package", {"f": "package.a"}]
    assert [(e.signature, e.doc) for e in a.entries] == [("f(x: int=1) -> str", "F."), ("N = 3", "Why.")]


def test_a_report_brings_the_documentation(project):
    write(project / "notebooks" / "01_a.ipynb", "1")
    assert report_all({})
    index = project / "reports" / "index.html"
    assert "docs/index.html" not in index.read_text(), "another project has none"
    for _, text in PAGES.values():
        if text:
            (project / text).parent.mkdir(exist_ok=True)
            (project / text).write_text("# T\n\nLead.\n\nText.\n")
    assert report_all({})
    assert "docs/index.html" in index.read_text()
    assert (index.parent / "docs" / "index.html").is_file()


def test_outside_of_the_project_it_says_so(project):
    with pytest.raises(UnknownName, match=r"README.md and docs/"):
        write_docs()


def test_a_link_to_a_text_without_a_page_is_named(project):
    for _, text in PAGES.values():
        if text:
            (project / text).parent.mkdir(exist_ok=True)
            (project / text).write_text("# T\n\nLead.\n\n[gone](gone.md)\n")
    with pytest.raises(UnknownName, match=r"README.md links to 'gone.md'"):
        write_docs()


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_a_page_opens_offline_at_any_width(pages, visit, name, width, scheme):
    seen = visit(pages / f"{name}.html", width=width, color_scheme=scheme)
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert seen.page.locator('.links [aria-current="page"]').inner_text() == PAGES[name][0]
    assert seen.left_the_page == []
    assert seen.console == []


@pytest.mark.browser
def test_a_name_is_found_by_a_word_of_its_docstring(pages, visit):
    page = visit(pages / "reference.html").page
    every = page.locator(".module > article:visible").count()
    page.fill("#find", "bootstrap_mean")
    assert page.locator("[id='wamlab.statistics.bootstrap.bootstrap_mean']").is_visible()
    assert 0 < page.locator(".module > article:visible").count() < every / 20
    page.fill("#find", "no such word at all")
    assert page.locator("#found").inner_text() == "0 names"
    page.fill("#find", "")
    assert page.locator(".module > article:visible").count() == every
