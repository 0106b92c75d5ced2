"""What the widgets' browser tests share: a page that holds them, and a widget that is its own kernel."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from notebook_files import executed, mime

from wamlab.notebooks.export import export
from wamlab_widgets.base import source

_KERNEL = """async ([source, state]) => {
  const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const listeners = {};
  const tell = (e, ...a) => (listeners[e] ?? []).forEach((f) => f(...a));
  globalThis.asked = [];
  globalThis.model = {
    get: (k) => state[k],
    set: (k, v) => { state[k] = v; tell("change:" + k); },
    on: (e, f) => (listeners[e] ??= []).push(f),
    off: (e, f) => { listeners[e] = (listeners[e] ?? []).filter((g) => g !== f); },
    save_changes() {},
    async send(message) {
      globalThis.asked.push(message);
      const { content, buffers } = await globalThis.python(message);
      tell("msg:custom", content, buffers.map((b) => new DataView(Uint8Array.from(atob(b), (c) => c.charCodeAt(0)).buffer)));
    },
  };
  globalThis.close_widget = module.default.render({ model: globalThis.model, el: document.body });
}"""


def page_with(folder: Path, *widgets: Any) -> Path:
    """An offline page of these widgets."""
    outputs = [(f"widget {i}", [mime(w._repr_mimebundle_()[0])]) for i, w in enumerate(widgets)]
    return export(executed(folder / "x.ipynb", *outputs), folder / "x.html").path


def live(folder: Path, visit: Any, widget: Any) -> Any:
    """The widget's module in an empty page, with the widget itself as its kernel; `asked` holds the questions."""
    (folder / "empty.html").write_text("<!doctype html><title>x</title><link rel=icon href=data:,>")
    seen = visit(folder / "empty.html")

    def python(message: dict[str, Any]) -> dict[str, Any]:
        sent = []
        widget.send = lambda content, buffers=None: sent.append((content, buffers))
        widget._on_message(widget, message, [])
        content, buffers = sent[0]
        return {"content": content, "buffers": [base64.b64encode(b).decode() for b in buffers]}

    seen.page.expose_function("python", python)
    names = [*widget.trait_help(), *(n for n in ("_scene", "_catalog") if widget.has_trait(n))]
    state = {name: getattr(widget, name) for name in names}
    seen.page.evaluate(_KERNEL, [source(f"{widget.asset}.js"), state])
    return seen
