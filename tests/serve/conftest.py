"""A server of this project in a thread, and the real openpi-client in an environment of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cluster.ray_session import open_session
from harness.policies.base import Policy
from harness.policies.servers.address import Address
from harness.serve.dialogue import ServedProtocol
from harness.serve.service import PolicyService
from harness.serve.sizing import BatchPlan
from harness.serve.websocket import PolicyWebsocket
from harness.time_source import WallTime

HERE = str(Path(__file__).parent)
PACKAGES = ("openpi-client==0.1.2", "numpy<2", "typing_extensions", "websockets")


@dataclass
class Serving:
    """A running server."""

    address: Address
    service: PolicyService


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A private Ray cluster for the runs of a file, whose processes find the policies of `served_policies`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH", "")])))
        with open_session(None, n_cpus=2):
            yield


Serve = Callable[..., AbstractContextManager[Serving]]


@pytest.fixture
def serve() -> Serve:
    """Start servers in a `with` statement: policy, and by name token, port, plan, padding and protocol."""

    @contextmanager
    def start(
        policy: Policy,
        *,
        token: str | None = None,
        port: int = 0,
        plan: BatchPlan | None = None,
        pad_to_s: float = 0.0,
        protocol: ServedProtocol = "openpi",
    ) -> Iterator[Serving]:
        loop = asyncio.new_event_loop()
        plan = plan or BatchPlan(8, 0.005)
        service = PolicyService(policy, plan, clock=WallTime(), hardware="a robot's box", pad_to_s=pad_to_s)
        thread = threading.Thread(target=loop.run_forever)
        thread.start()

        async def stop():
            server.close(code=1001)
            await server.wait_closed()

        def call(work):
            return asyncio.run_coroutine_threadsafe(work, loop).result(20)

        try:
            server, address = call(PolicyWebsocket(service, token=token, protocol=protocol).listen("127.0.0.1", port))
            try:
                yield Serving(address, service)
            finally:
                call(stop())
                service.close()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    return start


@pytest.fixture(scope="session")
def openpi_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that holds the real openpi-client, which wants another numpy than this project."""
    folder = tmp_path_factory.mktemp("openpi-client")
    python = folder / "bin" / "python"
    uv = shutil.which("uv") or str(Path(sys.prefix).parent / ".uv" / "bin" / "uv")
    commands = (
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder), "--allow-existing"],
        [uv, "pip", "install", "--quiet", "--python", str(python), *PACKAGES],
    )
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"openpi-client cannot be installed: {error}")
        if done.returncode:
            pytest.skip(f"openpi-client cannot be installed: {(done.stderr or done.stdout).strip()[-300:]}")
    return python
