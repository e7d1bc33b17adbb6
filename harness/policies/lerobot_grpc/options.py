"""Options of a `lerobot-grpc` policy, checked before anything is sent."""

from __future__ import annotations

from harness.policies.options import Count
from harness.policies.servers.options import ServerOptions


class LerobotGrpcOptions(ServerOptions):
    """What may follow the `?` of `lerobot-grpc://…`, or stand under `options:` in YAML."""

    checkpoint: str | None = None
    """What the server is told to load: a hub repository, or a folder as the server sees it."""
    policy_type: str | None = None
    """LeRobot's name of its type; by default read from the folder, where this machine sees it too."""
    actions_per_chunk: Count = 50
    """Most actions of an answer; the server cuts longer chunks."""
    device: str = "cpu"
    """Where the server computes, by torch's name."""
    image_key: str = "image"
    """Name of the third-person camera, behind `observation.images.`."""
    wrist_key: str = "image2"
    """Name of the wrist camera."""
