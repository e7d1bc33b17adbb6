"""Bring the policies of a run up: cheap ones are built by each worker, heavy ones go into servers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.cluster.identity import require_same_policy
from harness.cluster.messages import PolicySetup
from harness.cluster.parcel import Parcel, send_checkpoints
from harness.cluster.policy_server import MAX_RESTARTS, PolicyServer, build_policy
from harness.cluster.ray_errors import harness_error, reason_of
from harness.cluster.ray_session import RaySession
from harness.errors import PolicyError, UsageError
from harness.policies.origin import origin_of
from harness.policies.registry import POLICIES
from harness.schedule.placement import NodeResources, ServerSlot, place_servers
from harness.serve.sizing import DEFAULT_NFE, Awaited
from harness.spec.action_space import ActionSpace
from harness.spec.observation import PolicyInfo
from harness.spec.policy import PolicySpec
from harness.time_source import TimeSource


class PolicyServers:
    """The policies of a run, and the servers that hold some of them."""

    def __init__(self, session: RaySession, setups: Mapping[str, PolicySetup], slots: Sequence[ServerSlot]) -> None:
        """Keep what `open_policies` brought up."""
        self._session, self.setups, self.slots = session, dict(setups), tuple(slots)
        self._servers = [server for setup in setups.values() for server in setup.servers]

    @property
    def infos(self) -> dict[str, PolicyInfo]:
        """Policy label → what the policy says of itself."""
        return {label: setup.info for label, setup in self.setups.items()}

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """Policy label → what is known of its origin and how it is served, for `runs.policies`."""
        return {label: dict(setup.record) for label, setup in self.setups.items()}

    @property
    def warnings(self) -> list[str]:
        """What policies warn of, each with its label."""
        return [f"{label}: {text}" for label, record in self.records.items() for text in record.get("warnings", ())]

    @property
    def prepared(self) -> list[str]:
        """What was made ready before the first episode and what it took, each with its policy's label."""
        told = ((label, record.get("serving", {}).get("prepared")) for label, record in self.records.items())
        return [f"{label}: {text}" for label, text in told if text]

    def record_warning(self, label: str, warning: str) -> None:
        """Add to what a policy warns of: said with the rest, kept in `runs.policies` and shown in reports."""
        setup = self.setups[label]
        warnings = [*setup.record.get("warnings", ()), warning]
        self.setups[label] = replace(setup, record={**setup.record, "warnings": warnings})

    def attach(self, n_workers: int, hardware: Mapping[str, str]) -> None:
        """Tell the servers how many workers will ask each, and where they run."""
        for setup in self.setups.values():
            for i, (server, node_id) in enumerate(self._placed(setup)):
                n_clients = len(range(i, n_workers, len(setup.servers)))
                server.attach.remote(n_clients, hardware.get(node_id))

    def placed(self, label: str) -> list[tuple[Any, str]]:
        """Servers of a policy, each with Ray's id of its node."""
        return list(self._placed(self.setups[label]))

    def mark(self, labels: Mapping[str, str]) -> None:
        """Keep how the nodes of servers compared: Ray's id of a node → its label, as in `episodes.canary`."""
        for name, setup in self.setups.items():
            told = tuple(labels.get(node_id) for _, node_id in self._placed(setup))
            self.setups[name] = replace(setup, canaries=told if any(told) else ())

    def drop(self, nodes: Collection[str]) -> None:
        """Stop the servers on some nodes, for good. A policy that would be left without any keeps them."""
        for name, setup in self.setups.items():
            places = self.placed(name)
            kept = [(server, node_id) for server, node_id in places if node_id not in nodes]
            if not kept or len(kept) == len(places):
                continue
            for server, node_id in places:
                if node_id in nodes:
                    self._session.ray.kill(server)
                    self._servers.remove(server)
            self.setups[name] = replace(setup, servers=tuple(server for server, _ in kept))
            self.slots = tuple(slot for slot in self.slots if slot.policy != name or slot.node_id not in nodes)

    def ask_use(self) -> dict[Any, str]:
        """Ask every server how busy it is, without waiting: reference of the answer → Ray's id of its node."""
        return {server.use.remote(): node_id for server, node_id in self._placed()} if self._servers else {}

    def threads(self) -> dict[str, int]:
        """Ray's node id → threads of one operation of torch in the servers there, for nodes whose servers load it."""
        told = [(slot.node_id, self.setups[slot.policy].record.get("threads")) for slot in self.slots]
        return {node_id: int(threads) for node_id, threads in told if threads is not None}

    def _placed(self, *setups: PolicySetup) -> Iterator[tuple[Any, str]]:
        """Servers of these policies, of all without any, each with Ray's id of its node."""
        for setup in setups or self.setups.values():
            slots = [slot for slot in self.slots if slot.policy == setup.spec.label]
            for server, slot in zip(setup.servers, slots, strict=True):
                yield server, slot.node_id

    def close(self) -> None:
        """Stop the servers, so that what they hold is free for probes."""
        for server in self._servers:
            self._session.ray.kill(server)
        self._servers.clear()


def light_setups(specs: Sequence[PolicySpec], space: ActionSpace | None = None) -> dict[str, PolicySetup]:
    """Build the light policies once, here, to learn what they are where an action is one of `space`.

    Raises:
        UsageError: A policy refuses its path or options.
        PolicyError: A policy cannot be built.
    """
    return {spec.label: _light_setup(spec, space) for spec in specs if POLICIES.is_light(spec.kind)}


def _light_setup(spec: PolicySpec, space: ActionSpace | None) -> PolicySetup:
    policy = build_policy(spec, space)
    try:
        return PolicySetup(spec, policy.info, record=origin_of(policy))
    finally:
        # A connection of the driver's would count as a client that never asks.
        close = getattr(policy, "close", None)
        if close is not None:
            close()


def open_policies(
    session: RaySession,
    nodes: Sequence[NodeResources],
    specs: Sequence[PolicySpec],
    light: Mapping[str, PolicySetup],
    time: TimeSource,
    awaited: Awaited = DEFAULT_NFE,
) -> PolicyServers:
    """Load every policy that is not light, each in its own servers, all at the same time.

    Args:
        session: The Ray session.
        nodes: Where servers may go.
        specs: The policies of the run.
        light: Of them, those that workers build for themselves.
        time: What the servers time their decisions by.
        awaited: What they will be asked for.

    Raises:
        UsageError: A policy refuses its path or options; or it decides inside the workers, but says where it is to run.
        PolicyError: A policy cannot be loaded.
        NodeError: No node is what a policy is to run on.
    """
    heavy = [spec for spec in specs if spec.label not in light]
    by_label = {spec.label: spec for spec in heavy}
    on = {spec.label: spec.on[0] for spec in heavy if spec.on}
    slots = place_servers(nodes, [spec.label for spec in heavy], on)
    places = {label: [slot.node_id for slot in slots if slot.policy == label] for label in by_label}
    parcels = send_checkpoints(session, nodes, by_label, places)
    started: dict[str, list[Any]] = {label: [] for label in by_label}
    for slot in slots:
        parcel = parcels.get(slot.policy)
        started[slot.policy].append(_start(session, by_label[slot.policy], slot, time, awaited, parcel))
    try:
        described = {label: _ask(session, label, servers) for label, servers in started.items()}
        for label in on:
            if described[label][0].placement != "server":
                raise UsageError(
                    f"{label!r} decides inside the rollout workers, wherever those are; leave its `on` out."
                )
    except BaseException:
        for server in (server for servers in started.values() for server in servers):
            session.ray.kill(server)
        raise
    setups = dict(light)
    for label, servers in started.items():
        info, record = described[label]
        if info.placement == "server":
            setups[label] = PolicySetup(by_label[label], info, tuple(servers), record=record)
            continue
        told = {key: value for key, value in record.items() if key not in ("serving", "threads")}
        setups[label] = PolicySetup(by_label[label], info, record=told)
        for server in servers:
            session.ray.kill(server)
    kept = [slot for slot in slots if setups[slot.policy].servers]
    return PolicyServers(session, {spec.label: setups[spec.label] for spec in specs}, kept)


def _start(
    session: RaySession,
    spec: PolicySpec,
    slot: ServerSlot,
    time: TimeSource,
    awaited: Awaited,
    parcel: Parcel | None = None,
) -> Any:
    return (
        session.ray.remote(PolicyServer)
        .options(
            num_cpus=slot.cpus,
            num_gpus=slot.gpus,
            scheduling_strategy=session.on(slot.node_id),
            max_restarts=MAX_RESTARTS,
            max_task_retries=0,
        )
        .remote(spec, isolation=session.isolation, clock=time, awaited=awaited, parcel=parcel)
    )


def _ask(session: RaySession, label: str, servers: Sequence[Any]) -> tuple[PolicyInfo, dict[str, Any]]:
    """What the first server of a policy says, once all have loaded it."""
    from ray.exceptions import RayError

    try:
        infos: list[PolicyInfo] = session.ray.get([server.info.remote() for server in servers])
        record: dict[str, Any] = session.ray.get(servers[0].record.remote())
    except RayError as error:
        if (told := harness_error(error)) is not None:
            raise told from None
        raise PolicyError(
            f"The server of policy {label!r} died while loading it: {reason_of(error)}. Memory is the usual cause; see "
            "`harness doctor`."
        ) from error
    for info in infos[1:]:
        require_same_policy(label, infos[0].stated_identity, info.stated_identity)
    return infos[0], record
