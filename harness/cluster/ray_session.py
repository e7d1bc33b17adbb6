"""A Ray cluster for the length of a run: one that is there already, or a private one on the loopback interface."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import psutil

from harness.cluster.isolation import NO_LIMITS, Isolation
from harness.cluster.ray_start import explain_join, explain_start, joining_token, private_token
from harness.cluster.watchdog import Watchdog
from harness.cores import usable_cores
from harness.errors import NodeError, UsageError
from harness.interrupts import SIGNALS, give_back
from harness.schedule.placement import NodeResources
from harness.spec.profile import load_profile
from harness.surroundings import SHARED_MEMORY_BYTES, long_path_fault

CONNECT_S = 5.0
HEAD_S, HEAD_MISSES = 1.0, 3
"""How often the head is looked at, and how often in a row it may not answer."""

QUIET: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray prints deaths of actors, which this project reports in its own words.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    # Some versions hide every GPU from actors that reserve none, but rollout workers render on them.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
LOOPBACK: Mapping[str, str] = {
    # The only switch by which Ray uses the loopback interface on Linux too. Read when ray is first imported.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
PRIVATE: Mapping[str, str] = {
    **LOOPBACK,
    # Every worker here has an environment of its own, so that processes started ahead would never be used.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    # Ray runs workers at niceness 15, where whatever else the machine does would be in episode times and latencies.
    "RAY_worker_niceness": "0",
    # Ray gives its processes 30 s, which a machine that is busy with something else may exceed.
    "RAY_raylet_start_wait_time_s": "120",
}


class Head:
    """Whether a cluster's head still answers. Ray itself ends the whole process when it has not for a minute."""

    def __init__(self, address: str, seconds: Callable[[], float] = monotonic) -> None:
        """Watch over an address.

        Args:
            address: HOST:PORT of the head's GCS; "" where it is not known, so that nothing is watched.
            seconds: Stopwatch.
        """
        self._host, _, port = address.rpartition(":")
        self._port = int(port) if port.isdigit() else None
        self._seconds, self._next, self._missed = seconds, seconds() + HEAD_S, 0

    def require(self) -> None:
        """Look, about once a second at most.

        Raises:
            NodeError: It has not answered three times in a row.
        """
        if self._port is None or self._seconds() < self._next:
            return
        try:
            socket.create_connection((self._host.strip("[]"), self._port), timeout=HEAD_S).close()
            self._missed = 0
        except OSError as error:
            self._missed += 1
            if self._missed >= HEAD_MISSES:
                raise NodeError(
                    f"The head of the Ray cluster (its GCS at {self._host}:{self._port}) no longer answers: "
                    f"{error.strerror or error}. It was killed, or its machine is gone; start a cluster again."
                ) from error
        self._next = self._seconds() + HEAD_S


@dataclass(frozen=True, slots=True)
class RaySession:
    """A connection to a cluster."""

    ray: Any
    """The module."""
    owned: bool
    """Whether the cluster was started by this session."""
    driver_node_id: str
    isolation: Isolation = NO_LIMITS
    """What a run's workers and servers are limited to."""
    head: Head = field(default_factory=lambda: Head(""))

    def nodes(self) -> tuple[NodeResources, ...]:
        """The nodes that are alive, the driver's first.

        Raises:
            UsageError: A node's label `hardware` names no profile; node and nearest profile are named.
        """
        alive = [node for node in self.ray.nodes() if node["Alive"]]
        found = [
            NodeResources(
                node_id=node["NodeID"],
                host=node["NodeManagerHostname"],
                cpus=node["Resources"].get("CPU", 0.0),
                gpus=node["Resources"].get("GPU", 0.0),
                memory_bytes=node["Resources"].get("memory", 0.0),
                hardware=_labelled_profile(node),
            )
            for node in alive
        ]
        first = self.driver_node_id
        return tuple(sorted(found, key=lambda n: (n.node_id != first, n.host, n.hardware or "", n.node_id)))

    def on(self, node_id: str) -> Any:
        """Scheduling strategy that pins an actor or task to a node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node_id, soft=False)


def _labelled_profile(node: Any) -> str | None:
    label: str | None = node.get("Labels", {}).get("hardware")
    if not label:
        return None
    try:
        return load_profile(label).name
    except UsageError as error:
        raise UsageError(f"Ray node {node['NodeManagerHostname']} is labelled hardware={label}. {error}") from error


def session_is_open() -> bool:
    """Whether this process is connected to a cluster already, which a session then shares."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@contextmanager
def open_session(
    address: str | None, *, n_cpus: int | None = None, isolation: Isolation = NO_LIMITS
) -> Iterator[RaySession]:
    """Connect for the length of a `with` block. Only a cluster that was started here is shut down.

    Within a session another one is the same cluster, so that several runs need not start it again.

    Args:
        address: "auto", or HOST:PORT of a running cluster; None starts a private one.
        n_cpus: CPUs of a private cluster; None for those that this process may use.
        isolation: What a run's workers and servers are limited to.

    Raises:
        NodeError: The cluster cannot be reached (names the address), or Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise NodeError(
            "Ray, which runs episodes, is not installed here: pip install 'vla-harness[cluster]'. Without it `harness "
            "probe` and `harness serve` measure and serve on this machine."
        )
    with _environment({**QUIET, **_variables(address)}):
        import ray

        if session_is_open():
            yield _session(ray, False, isolation)
            return
        with _quiet_logger(), _own_signals():
            if address is None:
                _start(ray, n_cpus or usable_cores())
            else:
                _join(ray, address)
    left = _started(ray) if address is None else []
    watchdog = Watchdog(left) if left else None
    try:
        yield _session(ray, address is None, isolation)
    finally:
        left += _started(ray) if address is None else []
        ray.shutdown()
        _end(left)
        if watchdog is not None:
            watchdog.leave()


def _session(ray: Any, owned: bool, isolation: Isolation) -> RaySession:
    context = ray.get_runtime_context()
    return RaySession(ray, owned, context.get_node_id(), isolation, Head(context.gcs_address))


def _started(ray: Any) -> list[psutil.Process]:
    """The processes of a private cluster: agents outlive a raylet that was killed by most of a minute."""
    node = ray._private.worker._global_node
    roots = [each.process.pid for found in (node.all_processes if node else {}).values() for each in found]
    found = []
    for pid in roots:
        with suppress(psutil.Error):
            found += [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return found


def _end(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        # psutil knows a process by the time it began, too: another one of the same number is left alone.
        with suppress(psutil.Error):
            process.kill()


def _variables(address: str | None) -> Mapping[str, str]:
    if address is None:
        return {**PRIVATE, **private_token(os.environ)}
    _require_listener(address)
    token = joining_token(os.environ, address)
    # Otherwise Ray turns a loopback address into the machine's outward one, where a private cluster does not listen.
    return {**LOOPBACK, **token} if address.startswith(("127.", "localhost", "[::1]")) else token


def _start(ray: Any, n_cpus: int) -> None:
    if (fault := long_path_fault(os.environ)) is not None:
        raise NodeError(f"{fault}.")
    for last in (False, True):
        try:
            ray.init(
                address="local",
                num_cpus=n_cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=SHARED_MEMORY_BYTES,
            )
            return
        except Exception as error:
            # Ray allows its processes 30 s, which a machine that is busy with something else may exceed once.
            ray.shutdown()
            if last or "timed out" not in str(error):
                said = _first_line(error)
                why = explain_start(said, os.environ)
                raise NodeError(f"A local Ray cluster could not be started: {said}. {why}") from error


def _join(ray: Any, address: str) -> None:
    here = os.getcwd()

    def enter() -> None:
        # What a user names relative to the driver's directory (a checkpoint) is meant from there.
        if os.path.isdir(here):
            os.chdir(here)

    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"py_modules": [_package_dir()], "worker_process_setup_hook": enter},
        )
    except Exception as error:
        ray.shutdown()
        if (refused := explain_join(f"{type(error).__name__}: {error}", address)) is not None:
            raise NodeError(refused) from error
        raise NodeError(
            f"No Ray cluster answers at address {address!r}: {_first_line(error)}. Start one with `ray start --head`, "
            "or leave --address out to use this machine alone."
        ) from error


def _require_listener(address: str) -> None:
    """Ray waits half a minute for an address that nobody listens on; a plain connection knows at once.

    Raises:
        UsageError: The address is one of Ray Client, whose driver is no part of the cluster.
        NodeError: Nobody listens there.
    """
    if address.startswith("ray://"):
        there = address.removeprefix("ray://").partition("/")[0].rpartition(":")[0] or "HOST"
        raise UsageError(
            f"Address {address!r} is Ray Client's, by which a driver stays outside the cluster. Give the head node's "
            f"own, as {there}:6379 (`ray status` there prints it), from a machine that has joined with `ray start`."
        )
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise NodeError(
            f"No Ray cluster answers at address {address!r}: {error.strerror or error}. Check host and port "
            "(`ray status` on the head node prints them), or leave --address out to use this machine alone."
        ) from error


def _package_dir() -> str:
    """The package's folder, which is shipped to the nodes so that all run the driver's code."""
    import harness

    return os.path.dirname(os.path.abspath(harness.__file__))


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables that are not set yet, for Ray and the processes it starts, and take them back."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _quiet_logger() -> Iterator[None]:
    """Keep Ray's remarks on its own start off the terminal."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's handlers, which Ray replaces, and a hang-up of the terminal from reaching Ray's processes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = {number: signal.getsignal(number) for number in SIGNALS}
    # What is started meanwhile inherits the mask. SIGTERM stays open: Ray ends its own processes with it.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        give_back(held)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
