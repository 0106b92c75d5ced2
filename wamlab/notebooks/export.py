"""An executed notebook as one HTML file: question, answer and picture first, code folded, provenance last, nothing loaded from afar."""

from __future__ import annotations

import dataclasses
import html
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from nbconvert.exporters.exporter import Exporter
from nbconvert.filters import ansi2html
from nbconvert.filters.highlight import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from wamlab import runs
from wamlab.files import write_file
from wamlab.notebooks import offline
from wamlab.notebooks.collect import IMAGES, PLOTLY_MIME
from wamlab.notebooks.job import headline, read_notebook, title_of
from wamlab.notebooks.show import ANSWER_MIME, METRICS_MIME

HERE = Path(__file__).parent
#: A widget's shared scripts and styles stand between these marks; a page keeps the first copy of each.
_ASSET = re.compile(r"<!--asset:([\w-]+)-->.*?<!--/asset-->", re.S)


def is_widget(data: Mapping[str, Any]) -> bool:
    """Whether a MIME bundle is a widget's still form."""
    return bool(_ASSET.search(data.get("text/html", "")))


@dataclass
class Block:
    """A piece of a page: prose, or what code displayed with the code (and its log) behind it."""

    prose: Markup = Markup("")
    outputs: list[Mapping[str, Any]] = field(default_factory=list)
    code: list[tuple[str, Markup]] = field(default_factory=list)
    log: Markup = Markup("")
    failed: bool = False
    label: str = "Code"

    @property
    def fold_title(self) -> str:
        """What stands on the fold: the last step's own words."""
        return self.code[-1][0] if self.code else ""


@dataclass(frozen=True)
class Page:
    """What the index says of a page."""

    path: Path
    question: str
    answer: Markup
    thumbnail: Markup
    status: Mapping[str, Any]
    config: Mapping[str, Any]
    run: runs.RunFolder | None = None


class OfflineExporter(Exporter):
    """nbconvert exporter for offline pages; `resources["run"]` may hold a run folder's config, environment and status."""

    export_from_notebook = "wamlab page"
    file_extension = ".html"
    output_mimetype = "text/html"

    def from_notebook_node(self, nb: Any, resources: Any = None, **kw: Any) -> tuple[str, dict[str, Any]]:
        nb, resources = super().from_notebook_node(nb, resources, **kw)
        name = resources.get("metadata", {}).get("name", "notebook")
        folder = resources.get("metadata", {}).get("path", "")
        run = resources.get("run", {})
        timed_out = run.get("status", {}).get("status") == runs.TIMED_OUT
        reader = _Reader(folder, timeout=timed_out, alone=not resources.get("index"))
        reader.read(nb)
        page = environment().get_template("page.html.j2")
        text = page.render(
            name=name.replace("_", " "),
            question=reader.question or name.replace("_", " "),
            lead=reader.lead,
            answer=reader.answer,
            blocks=reader.blocks,
            plots=reader.plots,
            run=run,
            index=resources.get("index", ""),
            kicker=resources.get("kicker", f"Notebook {name.replace('_', ' ')}"),
            links=resources.get("links", ()),
            plotly=offline.plotly_gzip() if reader.plots else "",
            figures=[Markup(offline.script_json(p["figure"])) for p in reader.plots],
        )
        offline.require_offline(text, name)
        resources["page"] = {
            "question": reader.question or name,
            "answer": reader.answer,
            "thumbnail": reader.thumbnail,
        }
        return text, resources


def export(notebook: Path, target: Path, run: runs.RunFolder | None = None, index: str = "") -> Page:
    """Write the page of an executed notebook to `target` and return what the index needs of it.

    Args:
        run: where the provenance comes from.
        index: relative address of the index page, linked at the top; '' for a page that stands alone.

    Raises `InvalidParameter` (no whole notebook), `ExternalReference` (it would load something) and `WriteFailed`.
    """
    about = {part: run.read(part) for part in ("config", "environment")} | {"status": run.about} if run else {}
    name = Path(about.get("config", {}).get("notebook") or notebook.name).stem
    page = write_page(read_notebook(notebook), target, name, about, index, str(notebook.parent))
    return dataclasses.replace(page, run=run)


def write_page(
    nb: Any,
    target: Path,
    name: str,
    about: Mapping[str, Any] | None = None,
    index: str = "",
    folder: str = "",
    kicker: str | None = None,
    links: Sequence[tuple[str, str, bool]] = (),
) -> Page:
    """Write the page of a notebook in memory.

    Args:
        about: config, environment and status, as in a run folder.
        index: as in `export`; folder: where the pictures lie that its text shows.
        kicker: the line above the title, by default the notebook's name; '' for none.
        links: to other pages, at the top: what they are called, their address, and whether it is this one.
    """
    about = about or {}
    resources = {"metadata": {"name": name, "path": folder}, "run": about, "index": index, "links": links}
    resources |= {} if kicker is None else {"kicker": kicker}
    text, resources = OfflineExporter().from_notebook_node(nb, resources)
    write_file(target, text)
    return Page(target, **resources["page"], status=about.get("status", {}), config=about.get("config", {}))


@cache
def environment() -> Environment:
    """Templates, with escaping always on."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.globals["css"] = Markup((HERE / "static" / "page.css").read_text("utf-8"))
    made.globals["js"] = Markup((HERE / "static" / "page.js").read_text("utf-8"))
    made.filters["minutes"] = _duration
    made.filters["quoted"] = lambda value: shlex.quote(str(value))
    made.filters["day"] = lambda stamp: stamp.replace("T", " ")[:16]
    return made


def _duration(seconds: float) -> Markup:
    """`35 s`, as an element that says it is a time: two runs of the same differ in nothing else."""
    said = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    return Markup(f'<time datetime="PT{seconds:.0f}S">{said}</time>')


class _Reader:
    """Turns the cells of a notebook into blocks."""

    def __init__(self, folder: str, timeout: bool = False, alone: bool = True) -> None:
        self.folder, self.timeout, self.alone = folder, timeout, alone
        self.question, self.lead, self.answer = "", Markup(""), Markup("")
        self.blocks: list[Block] = []
        self.plots: list[dict[str, Any]] = []
        self.thumbnail = Markup("")
        self._assets: set[str] = set()
        self._highlight = Highlight2HTML(pygments_lexer="python3")

    def read(self, nb: Any) -> None:
        for cell in nb.cells:
            tags = cell.metadata.get("tags", [])
            if "papermill-error-cell-tag" in tags:
                continue
            if cell.cell_type == "markdown":
                self._prose(cell)
            elif cell.cell_type == "code" and not {"parameters", "injected-parameters"} & set(tags):
                self._code(cell)

    def _prose(self, cell: Any) -> None:
        source = cell.source
        if not self.question and (found := headline(source)):
            self.question = found[0]
            self.lead = self._markdown(found[1], cell.get("attachments", {}))
        else:
            self.blocks.append(Block(prose=self._markdown(source, cell.get("attachments", {}))))

    def _code(self, cell: Any) -> None:
        last = self.blocks[-1] if self.blocks else None
        stopped = any(b.failed for b in self.blocks)
        block = last if last and not last.prose and not last.outputs else Block(label="Not run" if stopped else "Code")
        if block is not last:
            self.blocks.append(block)
        if cell.source.strip():
            block.code.append((title_of(cell.source), Markup(self._highlight(cell.source))))
        for output in cell.outputs:
            if output.output_type == "stream":
                block.log += Markup(ansi2html(_last_of_each_line(output.text)))
            elif output.output_type == "error":
                block.failed = True
                trace = Markup(ansi2html("\n".join(output.traceback)))
                block.outputs.append({"kind": "error", "name": output.ename, "value": output.evalue, "trace": trace})
            else:
                self._display(block, output.data)

    def _display(self, block: Block, data: Mapping[str, Any]) -> None:
        if ANSWER_MIME in data:
            self.answer = self._displayed(data[ANSWER_MIME]["text"])
            return
        if METRICS_MIME in data:
            return  # for the run folder, not for reading
        image = next((m for m in IMAGES if m in data), "")
        if image and not self.thumbnail and image != "image/svg+xml":
            self.thumbnail = _small_image(data[image])
        if PLOTLY_MIME in data:
            plot = offline.plotly_figure(data[PLOTLY_MIME]) | {"index": len(self.plots)}
            self.plots.append(plot)
            self.thumbnail = self.thumbnail or Markup(offline.lines_as_svg(plot["figure"]))
            block.outputs.append({"kind": "plot", **plot})
        elif "text/html" in data:
            block.outputs.append({"kind": "html", "html": Markup(self._once(data["text/html"]))})
        elif image:
            source = data[image] if image != "image/svg+xml" else _base64(data[image])
            block.outputs.append(
                {"kind": "image", "source": f"data:{image};base64,{source.strip()}", "alt": data.get("text/plain", "")}
            )
        elif "text/markdown" in data:
            block.outputs.append({"kind": "prose", "html": self._displayed(data["text/markdown"])})
        elif "text/latex" in data:
            block.outputs.append(
                {"kind": "prose", "html": Markup(offline.mathml(data["text/latex"].strip("$ \n"), display=True))}
            )
        elif "application/vnd.jupyter.widget-view+json" in data:
            block.outputs.append({"kind": "empty", "text": "A live widget stands here in JupyterLab."})
        elif "text/plain" in data:
            block.outputs.append({"kind": "text", "html": Markup(ansi2html(data["text/plain"]))})

    def _once(self, fragment: str) -> str:
        """A widget's HTML without the assets that an earlier one already brought."""

        def keep(match: re.Match[str]) -> str:
            known = match[1] in self._assets
            self._assets.add(match[1])
            return "" if known else match[0]

        return _ASSET.sub(keep, fragment)

    def _displayed(self, source: str) -> Markup:
        """Markdown that code made, with names from data in it: HTML in it is text."""
        return Markup(MarkdownWithMath(renderer=_Renderer(escape=True, allow_harmful_protocols=False)).render(source))

    def _markdown(self, source: str, attachments: Mapping[str, Any] | None = None) -> Markup:
        renderer = _Renderer(escape=False, attachments=dict(attachments or {}), embed_images=True, path=self.folder)
        renderer.alone = self.alone
        return Markup(MarkdownWithMath(renderer=renderer).render(source))


class _Renderer(IPythonRenderer):
    """Markdown with MathML formulas, headings without anchor links, and links between notebooks as links between their pages."""

    #: There are no other pages beside this one.
    alone = True

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if not url.endswith(".ipynb") or "/" in url:
            return super().link(text, url, title)
        return text if self.alone else super().link(text, f"{url.removesuffix('.ipynb')}.html", title)

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        return f"<h{level}>{text}</h{level}>\n"

    def block_math(self, body: str) -> str:
        return f'<div class="math">{offline.mathml(body, display=True)}</div>'

    def inline_math(self, body: str) -> str:
        return offline.mathml(body, display=False)

    def multiline_math(self, text: str) -> str:
        return self.block_math(text.strip("$ \n"))

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")


def _last_of_each_line(text: str) -> str:
    """Progress bars rewrite a line after a carriage return: keep what was left on the screen."""
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))


def _base64(text: str) -> str:
    import base64

    return base64.b64encode(text.encode()).decode()


def _small_image(encoded: str, width: int = 640) -> Markup:
    """A picture (base64) as a small WebP `<img>`."""
    import base64
    import io

    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    except (UnidentifiedImageError, ValueError, OSError):
        return Markup("")
    image.thumbnail((width, width))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return Markup(
        f'<img alt="" src="data:image/webp;base64,{html.escape(base64.b64encode(buffer.getvalue()).decode())}">'
    )
