"""What one offline HTML file needs: plotly.js packed once, LaTeX as MathML, and a check that nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from html.parser import HTMLParser
from typing import Any

from wamlab.errors import WamlabError

#: Attributes whose address a browser loads by itself, by tag; `*` for every tag. A link to click (`<a href>`) is not one.
_LOADING = {
    "*": {"src", "srcset", "poster", "background"},
    "link": {"href"},
    "object": {"data"},
    "image": {"href", "xlink:href"},
    "use": {"href", "xlink:href"},
    "base": {"href"},
}
_STYLE_URL = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s;]+)""", re.I)
_SCRIPT_URL = re.compile(
    r"""(?:\bfrom\s*|\bimport\s*\(?\s*|\bfetch\(\s*|\bopen\(\s*["']\w+["']\s*,\s*|\b(?:Worker|WebSocket|EventSource)\(\s*|\.(?:src|href)\s*=\s*)"""
    r"""["'`]((?:https?:|wss?:)?//[^"'`\s]+)""",
    re.I,
)
#: Plotly traces that draw maps fetched from a server.
_MAP_TRACES = ("geo", "choropleth", "scattermap", "densitymap")


class ExternalReference(WamlabError):
    """A page would load something from outside its own file."""


def external_references(page: str) -> list[str]:
    """Every address that a browser opening `page` would fetch by itself (plotly.js, packed as data, is not searched)."""
    finder = _Finder()
    finder.feed(page)
    finder.close()
    return sorted(set(finder.found))


class _Finder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        for name, value in given.items():
            if name in _LOADING["*"] or name in _LOADING.get(tag, ()):
                self._add(value.split(",")[0].split()[0] if name == "srcset" and value.strip() else value)
            elif name == "style":
                self._add(*_STYLE_URL.findall(value))
            elif name.startswith("on"):
                self._add(*_SCRIPT_URL.findall(value))
        if tag == "meta" and given.get("http-equiv", "").lower() == "refresh":
            self.found.append(given.get("content", ""))
        self._inside = tag if tag in ("style", "script") else ""
        if tag == "script" and given.get("type", "") not in ("", "module", "text/javascript"):
            self._inside = ""  # data, never executed

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._inside = ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self._add(*_STYLE_URL.findall(data))
        elif self._inside == "script":
            self._add(*_SCRIPT_URL.findall(data))

    def _add(self, *addresses: str) -> None:
        self.found += [a for a in addresses if a and not a.strip().startswith(("data:", "blob:", "#", "about:"))]


def require_offline(page: str, name: str) -> None:
    """Raise `ExternalReference`, naming the addresses, if `page` would load anything."""
    if found := external_references(page):
        shown = ", ".join(a if len(a) < 100 else a[:99] + "…" for a in found[:5])
        raise ExternalReference(
            f"the page of {name} would load {shown}; embed it in the notebook or turn it into a link"
        )


def script_json(content: Any) -> str:
    """JSON that may stand inside a `<script>` element: no `</script>` and no `<!--` can appear in it."""
    return json.dumps(content, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")


@cache
def plotly_gzip() -> str:
    """plotly.js of the installed package, gzip and base64; the same bytes every time."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def plotly_figure(bundle: Mapping[str, Any]) -> dict[str, Any]:
    """A plotly MIME bundle for a page: title and subtitle taken out (the page sets them as text that wraps), nothing to fetch.

    Returns {"figure": {data, layout}, "title", "subtitle", "height"}.
    """
    figure = json.loads(json.dumps({"data": bundle.get("data", []), "layout": bundle.get("layout", {})}))
    layout = figure["layout"]
    for trace in figure["data"]:
        if any(word in str(trace.get("type", "")) for word in _MAP_TRACES):
            raise ExternalReference(
                f"a plotly trace of type {trace['type']!r} loads maps from a server; it cannot be on an offline page"
            )
    for image in layout.get("images", []):
        if not str(image.get("source", "")).startswith("data:"):
            raise ExternalReference(
                f"a plotly figure loads the image {image.get('source')!r}; give it as a data: address"
            )
    title = layout.pop("title", None) or {}
    title = {"text": title} if isinstance(title, str) else title
    subtitle = (title.get("subtitle") or {}).get("text", "")
    height = int(layout.pop("height", 0) or 420)
    if title.get("text") and "margin" in layout:
        layout["margin"].pop("t", None)
    return {"figure": figure, "title": _plain(title.get("text")), "subtitle": _plain(subtitle), "height": height}


def _plain(text: Any) -> str:
    """Plotly's title markup (<br>, <b>, <sup>) as plain words."""
    return html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"<br\s*/?>", " ", str(text or "")))).strip()


def mathml(latex: str, display: bool) -> str:
    """LaTeX as MathML; what the converter does not know stays readable as code."""
    from latex2mathml.converter import convert

    try:
        return convert(latex, display="block" if display else "inline")
    except Exception:  # the converter raises many kinds; the page must not fail for a formula
        return f"<code>{html.escape(latex)}</code>"


def lines_as_svg(figure: Mapping[str, Any], width: int = 320, height: int = 180) -> str:
    """The lines of a plotly figure as a small SVG, for the index; '' where it has none."""
    lines = [(t, xs, ys) for t in figure.get("data", []) for xs, ys in _points(t)]
    if not lines:
        return ""
    xs_all = [x for _, xs, _ in lines for x in xs]
    ys_all = [y for _, _, ys in lines for y in ys]
    x0, x1, y0, y1 = min(xs_all), max(xs_all), min(ys_all), max(ys_all)
    pad = 18

    def at(x: float, y: float) -> str:
        px = pad + (x - x0) / ((x1 - x0) or 1) * (width - 2 * pad)
        py = height - pad - (y - y0) / ((y1 - y0) or 1) * (height - 2 * pad)
        return f"{px:.1f},{py:.1f}"

    drawn = "".join(
        f'<polyline fill="none" stroke="{html.escape(str((t.get("line") or {}).get("color") or "#888"), quote=True)}" '
        f'stroke-width="3" stroke-linejoin="round" points="{" ".join(at(x, y) for x, y in zip(xs, ys, strict=True))}"/>'
        for t, xs, ys in lines
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-hidden="true">{drawn}</svg>'


def _points(trace: Mapping[str, Any]) -> Iterator[tuple[list[float], list[float]]]:
    is_line = trace.get("type", "scatter") == "scatter" and "lines" in str(trace.get("mode", "lines"))
    if not is_line or trace.get("fill") or (trace.get("line") or {}).get("width") == 0:
        return
    xs, ys = _numbers(trace.get("x")), _numbers(trace.get("y"))
    pairs = [(x, y) for x, y in zip(xs, ys, strict=False) if x == x and y == y]
    if len(pairs) > 1:
        yield [p[0] for p in pairs], [p[1] for p in pairs]


def _numbers(values: Any) -> list[float]:
    """A plotly array, plain or packed as {dtype, bdata}, as floats; [] for anything else."""
    import numpy as np

    if isinstance(values, Mapping) and "bdata" in values:
        return np.frombuffer(base64.b64decode(values["bdata"]), np.dtype(values["dtype"])).astype(float).tolist()
    try:
        return [float("nan") if v is None else float(v) for v in values or []]
    except (TypeError, ValueError):
        return []
