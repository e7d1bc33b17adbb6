"""Both directions with the real openpi-client, in an environment of its own (it wants another numpy than this project).

openpi-client has no server; the one here is openpi's `websocket_policy_server.py` by its protocol, written with the
package's own `msgpack_numpy`.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
from served_policies import Looks, Served

from harness.policies.openpi.client import connect
from harness.policies.openpi.options import OpenpiOptions
from harness.policies.servers.address import Address
from harness.spec.observation import CAMERAS, Observation

CLIENT = """
import json, sys
import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy

host, port, key = sys.argv[1:]
policy = WebsocketClientPolicy(host, int(port), api_key=key)
answers = []
for level in (0, 100, 200, 0):
    frame = np.full((224, 224, 3), level, np.uint8)
    answers.append(policy.infer({
        "observation/image": frame,
        "observation/wrist_image": frame // 2,
        "observation/state": np.full(8, 0.25),
        "prompt": "open the drawer",
    }))
try:
    policy.infer({"prompt": "open the drawer"})
    error = ""
except RuntimeError as raised:
    error = str(raised)
print(json.dumps({
    "protocol": policy.get_server_metadata()["harness"]["protocol"],
    "shapes": [answer["actions"].shape for answer in answers],
    "dtype": str(answers[0]["actions"].dtype),
    "first": [answer["actions"][0].tolist() for answer in answers],
    "timing": sorted(answers[0]["server_timing"]),
    "error": error,
}))
"""

SERVER = """
import asyncio, sys
import numpy as np
import websockets.asyncio.server
from openpi_client import msgpack_numpy

async def handle(connection):
    packer = msgpack_numpy.Packer()
    await connection.send(packer.pack({"name": "stand-in"}))
    async for frame in connection:
        seen = msgpack_numpy.unpackb(frame)
        assert sorted(seen) == ["observation/image", "observation/state", "observation/wrist_image", "prompt"]
        state, frames = seen["observation/state"], [seen["observation/image"], seen["observation/wrist_image"]]
        actions = np.tile(np.array([frame.mean() for frame in frames] + state[:5].tolist()), (10, 1)) / 256
        timing = {"infer_ms": np.float64(3.5), "prev_total_ms": 4.0}
        await connection.send(packer.pack({"actions": actions, "state": state, "server_timing": timing}))

async def main():
    async with websockets.asyncio.server.serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()

asyncio.run(main())
"""

TOKEN = "right"  # noqa: S105 - of a server that lives for a second


def drive(python: Path, address: Address, key: str) -> subprocess.CompletedProcess[str]:
    """Let the package's client ask the server at `address`."""
    command = [str(python), "-c", CLIENT, address.host, str(address.port), key]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_openpis_client_drives_our_server(serve, openpi_python):
    with serve(Looks(), token=TOKEN) as serving:
        done = drive(openpi_python, serving.address, TOKEN)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["protocol"], said["shapes"], said["dtype"]) == (1, [[2, 7]] * 4, "float32")
    expected = [[level / 255, level // 2 / 255, 0.25, 0.15, 0, 0, 0] for level in (0, 100, 200, 0)]
    np.testing.assert_allclose(said["first"], expected, atol=1e-6)
    assert said["timing"] == ["infer_ms", "queue_ms", "total_ms"]
    assert "Error in inference server" in said["error"]
    assert "'observation/image'" in said["error"]


def test_openpis_client_gets_noise_that_depends_on_what_it_shows(serve, openpi_python):
    with serve(Served()) as serving:
        said = json.loads(drive(openpi_python, serving.address, TOKEN).stdout)
    first, second, third, again = said["first"]
    assert first == again == second == third  # this policy reads no camera, and all else is the same
    assert np.abs(first).max() > 0


def test_openpis_client_is_turned_away_without_the_token(serve, openpi_python):
    with serve(Looks(), token=TOKEN) as serving:
        done = drive(openpi_python, serving.address, "wrong")
    assert done.returncode != 0
    assert "HTTP 401" in done.stderr


def test_our_client_drives_a_server_made_of_openpis_package(openpi_python):
    frames = {camera: np.full((8, 8, 3), level, np.uint8) for camera, level in zip(CAMERAS, (64, 128), strict=True)}
    seen = Observation("open the drawer", np.arange(8, dtype=np.float32), frames)
    with subprocess.Popen([str(openpi_python), "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = Address("127.0.0.1", int(server.stdout.readline()))
            policy = connect(address, OpenpiOptions(), label="remote", token=None)
            chunks = policy.act([seen], None)
        finally:
            server.kill()
    assert (policy.info.chunk_length, policy.info.replan_interval, policy.info.noise_shape) == (10, 5, None)
    np.testing.assert_allclose(chunks.actions[0, 3], np.array([64, 128, 0, 1, 2, 3, 4]) / 256, atol=1e-6)
    assert chunks.remote is not None
    assert chunks.remote.infer_ms == 3.5
    assert chunks.remote.transport_ms is not None
