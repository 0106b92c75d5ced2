"""Kernels here or on another machine: which there are, and how they are reached through Jupyter's own gateway client."""

from __future__ import annotations

from typing import Any

from wamlab.errors import GatewayUnreachable


def kernels(url: str = "") -> list[str]:
    """The names of the kernels of this machine, or of the gateway at `url`. Raises `GatewayUnreachable`."""
    if not url:
        from jupyter_client.kernelspec import KernelSpecManager

        return sorted(KernelSpecManager().find_kernel_specs())
    import json
    import os
    import urllib.request

    token = os.environ.get("JUPYTER_GATEWAY_AUTH_TOKEN")  # Jupyter's own variable, which its client reads, too
    headers = {"Authorization": f"token {token}"} if token else {}
    try:
        request = urllib.request.Request(f"{url.rstrip('/')}/api/kernelspecs", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as reply:
            return sorted(json.load(reply)["kernelspecs"])
    except (OSError, ValueError, KeyError) as error:
        raise GatewayUnreachable(
            f"no kernel gateway answers at {url} ({error}); start one there with: jupyter kernelgateway --ip=0.0.0.0"
        ) from None


def manager(url: str = "") -> dict[str, Any]:
    """What nbclient must be told so that its kernel is one of the gateway at `url`; {} for this machine."""
    if not url:
        return {}
    from jupyter_server.gateway.gateway_client import GatewayClient

    from wamlab.notebooks.remote import RemoteManager

    GatewayClient.instance().url = url.rstrip("/")
    return {"kernel_manager_class": RemoteManager}
