import pytest

from wamlab import doctor, provenance
from wamlab.errors import BrowserMissing
from wamlab.notebooks import browser


@pytest.fixture(scope="module")
def checks():
    return {check.thing: check for check in doctor.examine()}


def test_everything_is_looked_at(checks):
    assert {"python", "torch", "memory", "gpu", "browser", "dataset nuscenes", "weights facebook/dinov2-small"} <= set(
        checks
    )
    assert checks["torch"].found == provenance.versions()["torch"]
    assert checks["weights codecs/weights/small_vae.safetensors"].present
    assert not checks["dataset nuscenes"].present
    assert "nuscenes" in checks["dataset nuscenes"].enables


def test_what_is_missing_says_what_it_would_enable(checks):
    assert all(check.enables for check in checks.values() if not check.present)


def test_it_prints_a_line_each(monkeypatch, capsys):
    monkeypatch.setattr(
        doctor, "examine", lambda: [doctor.Check("a", True, "1"), doctor.Check("b", False, "none", "c")]
    )
    doctor.describe()
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["ok", "a", "1"],
        ["--", "b", "none"],
        ["→", "c"],
    ]


def test_a_pdf_needs_a_browser(monkeypatch, tmp_path):
    monkeypatch.delenv("WAMLAB_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrowserMissing, match="WAMLAB_CHROMIUM"):
        browser.print_pdf(tmp_path / "x.html")


def test_a_page_becomes_a_pdf(tmp_path):
    if not browser.find_browser():
        pytest.skip("no Chromium")
    (tmp_path / "x.html").write_text("<p>hello</p>")
    assert browser.print_pdf(tmp_path / "x.html").read_bytes().startswith(b"%PDF")
