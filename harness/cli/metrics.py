"""`--metrics PORT`: a run that goes on, for Prometheus; the same through Ray's own metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import typer

from harness.errors import UsageError
from harness.screen import Screen

if TYPE_CHECKING:
    from harness.schedule.progress import Progress

PREFIX = "vla_harness"

MetricsPort = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Serve the run's progress to Prometheus on this loopback port.")
]
"""The option of the verbs that run episodes."""


class MetricText(NamedTuple):
    """What a metric is; every one is a gauge."""

    help: str
    labels: tuple[str, ...] = ()


METRICS: Mapping[str, MetricText] = {
    f"{PREFIX}_episodes_planned": MetricText("Episodes of the plan.", ("policy",)),
    f"{PREFIX}_episodes_done": MetricText("Episodes that this run has written.", ("policy",)),
    f"{PREFIX}_episodes_skipped": MetricText("Episodes that were in the ledger before."),
    f"{PREFIX}_errors": MetricText("Episodes that ended as infrastructure errors.", ("policy",)),
    f"{PREFIX}_success_ratio": MetricText("Success so far, errors left out.", ("policy",)),
    f"{PREFIX}_success_ratio_low": MetricText("Low end of its 95 % Clopper-Pearson interval.", ("policy",)),
    f"{PREFIX}_success_ratio_high": MetricText("High end of its 95 % Clopper-Pearson interval.", ("policy",)),
    f"{PREFIX}_episodes_per_hour": MetricText("Episodes written an hour."),
    f"{PREFIX}_left_seconds": MetricText("Time left at this rate, seconds."),
    f"{PREFIX}_left_low_seconds": MetricText("Low end of its 90 % band, seconds."),
    f"{PREFIX}_left_high_seconds": MetricText("High end of its 90 % band, seconds."),
    f"{PREFIX}_workers": MetricText("Rollout workers that are alive."),
    f"{PREFIX}_limit_ratio": MetricText("Share of the workers' time that its largest part takes.", ("limit",)),
}
"""Name → help and labels. Ray exports them with `ray_` before the name. Grafana's dashboard is checked against it."""

Values = Iterator[tuple[str, Mapping[str, str], float]]


def values(progress: Progress) -> Values:
    """(metric, labels, value) of a run's present state; what is not known yet is left out."""
    from harness.analysis.intervals import rate_interval

    for variant, counts in progress.per_policy.items():
        labels, scored = {"policy": variant.label}, counts.done - counts.errors
        yield f"{PREFIX}_episodes_planned", labels, counts.planned
        yield f"{PREFIX}_episodes_done", labels, counts.done
        yield f"{PREFIX}_errors", labels, counts.errors
        if scored:
            low, high = rate_interval(counts.successes, scored)
            yield f"{PREFIX}_success_ratio", labels, counts.successes / scored
            yield f"{PREFIX}_success_ratio_low", labels, low
            yield f"{PREFIX}_success_ratio_high", labels, high
    yield f"{PREFIX}_episodes_skipped", {}, progress.skipped
    yield f"{PREFIX}_episodes_per_hour", {}, progress.rate * 3600
    yield f"{PREFIX}_workers", {}, progress.workers
    if progress.eta_s is not None:
        yield f"{PREFIX}_left_seconds", {}, progress.eta_s
    if progress.eta_band_s is not None:
        yield f"{PREFIX}_left_low_seconds", {}, progress.eta_band_s[0]
        yield f"{PREFIX}_left_high_seconds", {}, progress.eta_band_s[1]
    if progress.limit is not None:
        yield f"{PREFIX}_limit_ratio", {"limit": progress.limit[0]}, progress.limit[1]


class MetricsServer:
    """Serves a run's progress on loopback while it lasts, and hands it to Ray; a context manager."""

    def __init__(self, port: int, show: Callable[[Progress], None]) -> None:
        """Listen at once, so that a port that is taken is told before a run begins.

        Args:
            port: Of 127.0.0.1; 0 takes a free one.
            show: What else is shown the progress.

        Raises:
            UsageError: The port is taken, or prometheus_client is not installed.
        """
        try:
            from prometheus_client import CollectorRegistry, Gauge, start_http_server
        except ModuleNotFoundError as error:
            raise UsageError("--metrics needs prometheus_client: pip install 'vla-harness[cluster]'.") from error
        registry = CollectorRegistry()
        self._gauges = {
            name: Gauge(name, about.help, about.labels, registry=registry) for name, about in METRICS.items()
        }
        try:
            self._server, self._thread = start_http_server(port, addr="127.0.0.1", registry=registry)
        except OSError as error:
            raise UsageError(f"--metrics {port}: {error.strerror}. Take another port, or 0 for a free one.") from error
        self._show, self._ray = show, dict[str, Any]()

    @property
    def address(self) -> str:
        """Where Prometheus finds it."""
        return f"http://127.0.0.1:{self._server.server_port}/metrics"

    def __enter__(self) -> Self:
        """Serve."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __call__(self, progress: Progress) -> None:
        """Publish the present state."""
        self._gauges[f"{PREFIX}_limit_ratio"].clear()
        for name, labels, value in values(progress):
            gauge = self._gauges[name]
            (gauge.labels(**labels) if labels else gauge).set(value)
            self._tell_ray(name, labels, value)
        self._show(progress)

    def _tell_ray(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Ray's agent exports what a driver sets; without a cluster there is nobody to tell."""
        import ray
        from ray.util.metrics import Gauge

        if not ray.is_initialized():
            return
        if name not in self._ray:
            self._ray[name] = Gauge(name, description=METRICS[name].help, tag_keys=METRICS[name].labels)
        # Ray takes ASCII alone.
        tags = {label: text.encode("ascii", "backslashreplace").decode() for label, text in labels.items()}
        self._ray[name].set(value, tags=tags)


@contextmanager
def published_progress(
    port: int | None, show: Callable[[Progress], None], screen: Screen
) -> Iterator[Callable[[Progress], None]]:
    """What is shown the progress: with `--metrics`, Prometheus too."""
    if port is None:
        yield show
        return
    with MetricsServer(port, show) as server:
        screen.say(f"Metrics: {server.address}")
        yield server
