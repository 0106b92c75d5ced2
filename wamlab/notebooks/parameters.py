"""What parameters a notebook takes, and whether given ones fit: asked before anything runs.

papermill itself only warns at an unknown name and does not check types or values; here all are refused.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wamlab.errors import InvalidParameter

Scalar = bool | int | float | str
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _preset(value: Any) -> None:
    from wamlab.presets import get_preset

    get_preset(value)


def _dataset(value: Any) -> None:
    from wamlab.data import open_dataset

    open_dataset(value)


#: Parameters that name a thing, with what raises where there is no such thing.
_NAMES: dict[str, Callable[[Any], None]] = {"preset": _preset, "dataset": _dataset}


@dataclass(frozen=True)
class Parameter:
    """One line of the `parameters` cell: `num_scenes: int = 40  # how many held-out drives`."""

    name: str
    default: Scalar
    help: str = ""

    @property
    def type(self) -> type:
        return type(self.default)

    def parse(self, value: Any) -> Scalar:
        """`value` as this parameter's type; text is parsed, any other mismatch is refused."""
        kind = self.type
        if isinstance(value, str) and kind is not str:
            try:
                return _BOOLEANS[value.lower()] if kind is bool else kind(value)
            except (KeyError, ValueError):
                pass
        elif kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        elif type(value) is kind:
            return value
        raise InvalidParameter(
            f"parameter {self.name!r} must be {kind.__name__} (like {self.default!r}), not {value!r}"
        )


def declared(nb: Any, name: str) -> dict[str, Parameter]:
    """The parameters of a notebook, in order; {} where it has no cell tagged `parameters`."""
    cells = [c for c in nb.cells if c.cell_type == "code" and "parameters" in c.metadata.get("tags", [])]
    if len(cells) > 1:
        raise InvalidParameter(f"{name} has {len(cells)} cells tagged 'parameters'; keep one")
    if not cells:
        return {}
    source = cells[0].source
    lines = source.splitlines()
    found = {}
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise InvalidParameter(
            f"{name}: the parameters cell is not valid Python (line {error.lineno}: {error.msg})"
        ) from None
    for node in tree.body:
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if not isinstance(target, ast.Name) or node.value is None:
            raise InvalidParameter(
                f"{name}: line {node.lineno} of the parameters cell must read 'name = value  # help'"
            )
        try:
            value = ast.literal_eval(node.value)
        except ValueError:
            value = None
        if not isinstance(value, Scalar):
            raise InvalidParameter(
                f"{name}: the default of parameter {target.id!r} must be a plain bool, int, float or str"
            )
        comment = lines[node.end_lineno - 1][node.end_col_offset :].strip()
        found[target.id] = Parameter(
            target.id, value, comment.removeprefix("#").strip() if comment.startswith("#") else ""
        )
    return found


def check(nb: Any, name: str, given: Mapping[str, Any]) -> dict[str, Scalar]:
    """`given` parsed to the declared types.

    Raises `InvalidParameter` for an unknown name, listing the known ones with their help, and for a value of the wrong type; for a
    preset or dataset other than the default what its own look-up raises.
    """
    known = declared(nb, name)
    if given and not known:
        raise InvalidParameter(
            f"{name} takes no parameters: it has no cell tagged 'parameters' (given: {', '.join(given)})"
        )
    for key in given:
        if key not in known:
            listed = "; ".join(f"{p.name}={p.default!r}" + (f" ({p.help})" if p.help else "") for p in known.values())
            raise InvalidParameter(f"{name} has no parameter {key!r}; known: {listed}")
    values = {key: known[key].parse(value) for key, value in given.items()}
    for key, value in values.items():
        if key in _NAMES and value != known[key].default:
            _NAMES[key](value)
    return values
