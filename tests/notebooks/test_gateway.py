"""Against a real kernel gateway on this machine."""

import importlib.util
import os
import socket
import subprocess
import sys
import time

import pytest
from notebook_files import write

from wamlab import cli
from wamlab.errors import GatewayUnreachable, UnknownName
from wamlab.notebooks import gateway
from wamlab.notebooks.execute import run_notebook
from wamlab.notebooks.job import Settings

TOKEN = "of this test"
needs_gateway = pytest.mark.skipif(
    not importlib.util.find_spec("kernel_gateway"), reason="pip install jupyter-kernel-gateway"
)


@pytest.fixture(scope="module")
def url():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "kernel_gateway",
        f"--KernelGatewayApp.port={port}",
        "--KernelGatewayApp.ip=127.0.0.1",
    ]
    process = subprocess.Popen(
        command, env=os.environ | {"KG_AUTH_TOKEN": TOKEN}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_GATEWAY_AUTH_TOKEN", TOKEN)
        for _ in range(600):
            try:
                gateway.kernels(address)
                break
            except GatewayUnreachable:
                assert process.poll() is None
                time.sleep(0.1)
        yield address
    process.terminate()
    process.wait()


@needs_gateway
def test_a_notebook_runs_on_the_gateways_kernel(project, url):
    cell = "import os\nfrom wamlab.notebooks.show import Metrics\nMetrics({'parent': os.getppid()})"
    path = write(project / "a.ipynb", cell, "1 / 0")
    outcome = run_notebook(path, {"count": 3}, Settings(gateway=url))
    assert outcome.status == "failed"
    assert outcome.message == "ZeroDivisionError: division by zero"
    assert outcome.run.read("metrics")["parent"] != os.getpid(), "the kernel is the gateway's child, not ours"
    with pytest.raises(UnknownName, match="'julia'; known: .*python3"):
        run_notebook(path, {}, Settings(gateway=url, kernel="julia"))


@needs_gateway
def test_a_timeout_and_a_dead_kernel_far_away(project, url):
    slow = write(project / "a.ipynb", "import time\ntime.sleep(60)", parameters=None)
    assert run_notebook(slow, {}, Settings(gateway=url, timeout_s=2)).status == "timed out"
    dies = write(project / "b.ipynb", "import os\nos._exit(1)", parameters=None)
    assert run_notebook(dies, {}, Settings(gateway=url, timeout_s=60)).message.startswith("the kernel died in cell 1")


def test_no_gateway_is_named():
    with pytest.raises(GatewayUnreachable, match="no kernel gateway answers at http://127.0.0.1:9"):
        gateway.kernels("http://127.0.0.1:9")


def test_lab_is_told_the_gateway(project, monkeypatch):
    asked = []
    monkeypatch.setattr("wamlab.notebooks.gateway.kernels", lambda url: asked.append(url))
    monkeypatch.setattr(
        subprocess, "run", lambda command: asked.append(command) or subprocess.CompletedProcess(command, 0)
    )
    monkeypatch.setattr(sys, "argv", ["wamlab", "lab", "--gateway", "http://far:8888", "--port", "18765"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    assert asked[0] == "http://far:8888"
    assert "--gateway-url=http://far:8888" in asked[1]
