"""What every widget shares: refusing unknown arguments, `help()`, and a static form that works without a kernel.

A widget's module draws from a `model` with `get`, `set`, `on`, `off`, `save_changes` and `send`. In a notebook it is anywidget's; in
a page it is the stand-in of `static/offline.js`, holding the same state with every picture inside. `static/shared.js` and `shared.css`
stand before each widget's own.
"""

from __future__ import annotations

import base64
import html
import json
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets

from wamlab.errors import InvalidParameter

STATIC = Path(__file__).parent / "static"


class Widget(anywidget.AnyWidget):
    """Base of the widgets. A subclass names its files with `asset` and gives its pictures in `static_state`."""

    asset: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "asset" in cls.__dict__:  # not in the class that traitlets derives for an instance
            cls._esm, cls._css = source(f"{cls.asset}.js"), source(f"{cls.asset}.css")
        super().__init_subclass__(**kwargs)

    def __init__(self, **traits: Any) -> None:
        known = self.trait_help()
        for name in traits:
            if name not in known:
                raise InvalidParameter(f"{type(self).__name__} has no argument {name!r}; known: {', '.join(known)}")
        super().__init__(**traits)
        self.on_msg(self._on_message)

    @classmethod
    def trait_help(cls) -> dict[str, str]:
        """Each public trait with its help."""
        return {n: t.help for n, t in cls.class_traits(sync=True).items() if t.help and not n.startswith("_")}

    @classmethod
    def help(cls) -> None:
        """Print what the widget is and what each trait means."""
        print((cls.__doc__ or "").strip(), end="\n\n")
        for name, text in cls.trait_help().items():
            print(f"  {name:<10} {text}")

    def static_state(self) -> dict[str, Any]:
        """Everything the module needs where there is no kernel."""
        raise NotImplementedError

    def answer(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """The reply to a message of the front end, and its buffers."""
        raise NotImplementedError

    def _on_message(self, _widget: Any, message: dict[str, Any], _buffers: list[Any]) -> None:
        """Answer, whatever happens: an error goes to the front end, which shows it."""
        request = message.get("id") if isinstance(message, dict) else None
        try:
            content, buffers = self.answer(message)
        except Exception as error:  # a message handler's exception would vanish in the kernel's log
            content, buffers = {"error": f"{type(error).__name__}: {error}"}, []
        self.send({"id": request, **content}, buffers)

    def static_html(self) -> str:
        """A fragment that draws the widget anywhere: its script and style (a page keeps one copy), then its state."""
        state = json.dumps(self.static_state(), separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")
        noscript = f"<noscript>{html.escape(type(self).__name__)} needs scripts to be enabled.</noscript>"
        return (
            f"{assets(self.asset)}"
            f'<div class="wamlab-static" data-widget="{self.asset}"><script type="application/json">{state}</script>{noscript}</div>'
            "<script>globalThis.wamlab.mount()</script>"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**(data or {}), "text/html": self.static_html()}, metadata


class Timed(Widget):
    """Base of the widgets that show one moment of several: its traits are what they share with each other and with plots."""

    frame = traitlets.Int(0, help="index of the frame shown; 0 is the present").tag(sync=True)
    fps = traitlets.Float(4.0, help="frames a second when playing, at most").tag(sync=True)
    group = traitlets.Unicode(
        "", help="all that name the same group show the same time: widgets, and plotly figures over seconds"
    ).tag(sync=True)

    @traitlets.validate("frame")
    def _not_negative(self, proposal: Any) -> int:
        if proposal.value < 0:
            raise traitlets.TraitError(f"frame must be 0 or more, not {proposal.value}")
        return proposal.value


#: What a widget's module needs besides what all share.
PARTS = {"action_scrubber.js": ("profile_chart.js",), "rollout_player.js": ("saving.js",)}


@cache
def source(name: str) -> str:
    """The text of a widget's module or stylesheet, after what all widgets share, and after its parts."""
    files = (f"shared{Path(name).suffix}", *PARTS.get(name, ()), name)
    return "\n".join((STATIC / file).read_text("utf-8") for file in files)


@cache
def assets(name: str) -> str:
    """Style and script of a widget between marks by which a page recognises a second copy."""
    esm = json.dumps(source(f"{name}.js")).replace("<", "\\u003c")
    offline = (STATIC / "offline.js").read_text("utf-8")
    script = f"{offline}\nglobalThis.wamlab.register({json.dumps(name)}, {esm});"
    return f"<!--asset:{name}--><style>{source(f'{name}.css')}</style><script>{script}</script><!--/asset-->"


def check_size(quality: int, offline_kb: float = 0) -> None:
    """Raise `InvalidParameter` for a quality of pictures, or a room in a page, that there cannot be."""
    if not 1 <= quality <= 100:
        raise InvalidParameter(f"quality must be from 1 to 100, not {quality}")
    if not offline_kb >= 0:
        raise InvalidParameter(f"offline_kb must be 0 or more, not {offline_kb}")


def data_uri(content: bytes, mime: str = "image/webp") -> str:
    """The bytes of a file as an address that needs no server."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
