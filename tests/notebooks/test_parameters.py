import nbformat
import pytest
from notebook_files import write

from wamlab.errors import InvalidParameter
from wamlab.notebooks import parameters


def read(path):
    return nbformat.read(path, as_version=4)


def test_declared_with_their_help(tmp_path):
    found = parameters.declared(read(write(tmp_path / "a.ipynb")), "a.ipynb")
    assert [(p.name, p.default, p.help) for p in found.values()] == [
        ("name", "road", "what to greet"),
        ("count", 2, "how often"),
        ("scale", 1.5, "how large"),
        ("loud", False, "whether to shout"),
    ]


def test_text_is_parsed_by_type(tmp_path):
    nb = read(write(tmp_path / "a.ipynb"))
    given = {"name": "7", "count": "3", "scale": "2", "loud": "true"}
    assert parameters.check(nb, "a.ipynb", given) == {"name": "7", "count": 3, "scale": 2.0, "loud": True}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"steering": 1}, r"no parameter 'steering'; known: name='road' \(what to greet\); count=2"),
        ({"count": "abc"}, r"'count' must be int \(like 2\), not 'abc'"),
        ({"count": 2.5}, "must be int"),
        ({"count": True}, "must be int"),
        ({"loud": "maybe"}, "must be bool"),
        ({"scale": "wide"}, "must be float"),
        ({"name": 3}, "must be str"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, given, says):
    with pytest.raises(InvalidParameter, match=says):
        parameters.check(read(write(tmp_path / "a.ipynb")), "a.ipynb", given)


def test_no_parameters_cell(tmp_path):
    nb = read(write(tmp_path / "a.ipynb", "1", parameters=None))
    assert parameters.check(nb, "a.ipynb", {}) == {}
    with pytest.raises(InvalidParameter, match="no cell tagged 'parameters'"):
        parameters.check(nb, "a.ipynb", {"preset": "smoke"})


@pytest.mark.parametrize("source", ["x = [1]  # a list", "x = 1 + 1", "import os", "x = None", "x ="])
def test_a_parameters_cell_holds_plain_scalars(tmp_path, source):
    with pytest.raises(InvalidParameter):
        parameters.declared(read(write(tmp_path / "a.ipynb", parameters=source)), "a.ipynb")
