"""A kernel of a Jupyter kernel gateway, as nbclient takes one: Jupyter's own manager and client, with the token where they forget it."""

from __future__ import annotations

from threading import Thread
from typing import Any

import websocket
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_core.utils import ensure_async
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelClient, GatewayKernelManager
from traitlets import Type


class RemoteClient(GatewayKernelClient):
    """Sends the token of JUPYTER_GATEWAY_AUTH_TOKEN with the websocket, too: jupyter_server 2 sends it with requests alone."""

    restarted = False

    async def start_channels(self, **channels: bool) -> None:
        gateway = GatewayClient.instance()
        self.channel_socket = websocket.create_connection(
            f"{gateway.ws_url}{gateway.kernels_endpoint}/{self.kernel_id}/channels",
            timeout=gateway.KERNEL_LAUNCH_TIMEOUT,
            enable_multithread=True,
            sslopt={"ca_certs": gateway.ca_certs, "certfile": gateway.client_cert, "keyfile": gateway.client_key},
            header=gateway.load_connection_args().get("headers", {}),
        )
        await ensure_async(AsyncKernelClient.start_channels(self, **channels))
        self.response_router = Thread(target=self._route_responses, daemon=True)
        self.response_router.start()

    def _route_responses(self) -> None:
        """Notes that the gateway restarts the kernel: it says so in a message that answers no cell, so that nobody waits for it."""
        queue = self.iopub_channel
        put = queue.put_nowait

        def note(message: dict[str, Any]) -> None:
            if message.get("msg_type") == "status" and "restarting" in message["content"]["execution_state"]:
                self.restarted = True
            put(message)

        queue.put_nowait = note
        super()._route_responses()

    async def is_alive(self) -> bool:
        """Whether it is still the kernel that was started; the base class asks for a process of this machine."""
        return not self.restarted and await self.parent.is_alive()


class RemoteManager(GatewayKernelManager):
    """Its kernel is talked to by a `RemoteClient`."""

    client_factory = Type(RemoteClient)
