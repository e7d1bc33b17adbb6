"""Nodes that may take part."""

from __future__ import annotations

import pytest
from ray.exceptions import RayError

from harness.cluster.messages import PolicySetup
from harness.cluster.nodes import NodeReport, NodeRequest, inspect_node, inspect_nodes, require_alike
from harness.cluster.policy_servers import PolicyServers
from harness.cluster.probes import missing_jobs
from harness.errors import NodeError, SimulatorError
from harness.schedule.placement import NodeResources, ServerSlot
from harness.spec.observation import PolicyInfo
from harness.spec.policy import PolicySpec
from harness.spec.suite import ProbePlan
from harness.worlds.base import GLBackend, SuiteDescription


def report(host, renderer="egl-gpu", mujoco="3.3.2", states="aa") -> NodeReport:
    described = SuiteDescription("libero_spatial", ("t",), ("i",), (50,), states, {"mujoco": mujoco})
    backend = GLBackend("egl", renderer, "device") if renderer else None
    return NodeReport(host, {"libero_spatial": described}, backend)


def test_equal_nodes_may_work_together_and_a_driver_need_not_render():
    require_alike([report("driver", renderer=None), report("a"), report("b")])


def test_two_renderers_in_one_run_are_refused_with_both_named_and_a_remedy():
    with pytest.raises(NodeError, match=r"Node b renders with 'osmesa', but a with 'egl-gpu'.*fix `renderer`"):
        require_alike([report("driver", renderer=None), report("a"), report("b", renderer="osmesa")])


def test_two_versions_that_decide_scores_are_refused_with_both_named():
    with pytest.raises(NodeError, match=r"Node b has version of mujoco '3.9.0' for libero_spatial, but a has '3.3.2'"):
        require_alike([report("a"), report("b", mujoco="3.9.0")])


def test_two_sets_of_init_states_are_refused():
    with pytest.raises(NodeError, match="init states 'bb'"):
        require_alike([report("a"), report("b", states="bb")])


class Answers:
    """A session whose nodes answer what they are told to."""

    def __init__(self, answers):  # noqa: D107
        self.ray, self.answers = self, answers

    def remote(self, *arguments, **options):
        return (lambda function: self) if options else self.node

    def options(self, scheduling_strategy):
        self.node = scheduling_strategy
        return self

    def on(self, node_id):
        return node_id

    def get(self, node_id, timeout):
        answer = self.answers[node_id]
        if isinstance(answer, NodeReport):
            return answer
        raise_as_ray_does = type("Told", (RayError,), {"cause": answer})
        raise raise_as_ray_does


def test_a_node_that_cannot_simulate_is_left_to_serve_and_named():
    nodes = [NodeResources(name, f"host-{name}", 2.0, 0.0, 64e9) for name in "ab"]
    request, said = NodeRequest("libero", ("libero_spatial",), renders=True), []
    driver = report("driver", renderer=None)
    answers = {"a": report("a"), "b": SimulatorError("LIBERO is not installed here.")}
    assert list(inspect_nodes(Answers(answers), nodes, request, driver, said.append)) == ["a"]
    assert said == ["warning: no episodes run on host-b: LIBERO is not installed here."]
    with pytest.raises(SimulatorError, match="not installed"):
        inspect_nodes(Answers({"b": answers["b"]}), nodes[1:], request, driver, said.append)
    with pytest.raises(NodeError, match="host-b cannot take part: it burns"):
        inspect_nodes(Answers({**answers, "b": RuntimeError("it burns")}), nodes, request, driver, said.append)


def test_the_stub_world_needs_no_renderer():
    seen = inspect_node(NodeRequest("stub", ("stub",), renders=True))
    assert seen.backend is None
    assert seen.descriptions["stub"].n_init_states == (50,) * 10


PLAN = ProbePlan(
    policies=(PolicySpec(kind="flow", label="flow"), PolicySpec(kind="noop", label="noop")), nfe=(1, 10), launches=1
)


def jobs(held):
    return [(job.spec.label, job.nfes) for job in missing_jobs(PLAN, "n", held)]


def test_a_fresh_node_probes_everything():
    assert jobs(set()) == [("flow", (1, 10)), ("noop", (1, 10))]


def test_a_resumed_run_probes_only_what_this_node_lacks():
    assert jobs({("n", "flow", 1, 1, 0), ("n", "noop", None, 1, 0)}) == [("flow", (10,))]
    assert jobs({("n", "flow", 1, 1, 0), ("n", "flow", 10, 1, 0), ("n", "noop", None, 1, 0)}) == []
    assert jobs({("other", "flow", 1, 1, 0)}) == [("flow", (1, 10)), ("noop", (1, 10))]


def test_a_policy_is_timed_on_the_hardware_that_it_names_alone():
    placed = PolicySpec(kind="flow", label="flow", on=("dgx-spark-gb10",))
    plan = PLAN.model_copy(update={"policies": (placed, PLAN.policies[1])})
    assert [job.spec.label for job in missing_jobs(plan, "n", set(), hardware="dgx-spark-gb10")] == ["flow", "noop"]
    assert [job.spec.label for job in missing_jobs(plan, "n", set(), hardware="h200")] == ["noop"]
    everywhere = plan.model_copy(update={"on": ("h200",)})
    assert [job.spec.label for job in missing_jobs(everywhere, "n", set(), hardware="h200")] == ["noop"]
    assert missing_jobs(everywhere, "n", set(), hardware="some CPU") == ()


def test_every_policy_is_launched_once_before_any_is_launched_again():
    plan = PLAN.model_copy(update={"launches": 2})
    held = {("n", "flow", 1, 1, 0), ("n", "flow", 10, 1, 0), ("n", "noop", None, 1, 0), ("n", "flow", 1, 1, 1)}
    ordered = [(job.spec.label, job.launch, job.nfes) for job in missing_jobs(plan, "n", set())]
    assert ordered == [("flow", 0, (1, 10)), ("noop", 0, (1, 10)), ("flow", 1, (1, 10)), ("noop", 1, (1, 10))]
    lacking = [(job.spec.label, job.launch, job.nfes) for job in missing_jobs(plan, "n", held)]
    assert lacking == [("flow", 1, (10,)), ("noop", 1, ())]


def test_threads_are_those_of_the_servers_that_load_torch():
    slots = [ServerSlot(policy, node, 1.0, 0.0) for policy, node in (("torch", "a"), ("other", "a"), ("other", "b"))]
    setups = {
        label: PolicySetup(PolicySpec(kind="noop", label=label), PolicyInfo(label), record=record)
        for label, record in {"torch": {"threads": 3}, "other": {}}.items()
    }
    assert PolicyServers(None, setups, slots).threads() == {"a": 3}
