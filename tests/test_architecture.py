"""The shape of the house: data flows one way, and install weight follows the node."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "harness"
ARCHITECTURE = PACKAGE.parent / "docs" / "architecture.md"

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "strict_json": set(),
    "object_store": set(),
    "cores": set(),
    "time_source": set(),
    "surroundings": set(),
    "screen": {"errors"},
    "notify": {"errors"},
    "notebook": set(),
    "trackers": {"errors"},
    "interrupts": set(),
    "spec": {"errors", "strict_json"},
    "schedule": {"errors", "spec"},
    "clocks": {"errors", "spec", "schedule"},
    "worlds": {"errors", "time_source", "spec"},
    "sim": {"errors", "time_source", "spec", "worlds"},
    "ledger": {"errors", "notebook", "object_store", "strict_json", "spec", "schedule"},
    "policies": {"errors", "object_store", "strict_json", "surroundings", "spec", "schedule"},
    "rollout": {"errors", "time_source", "spec", "schedule", "clocks", "worlds", "ledger", "policies"},
    "latency": {"errors", "time_source", "cores", "spec", "schedule", "ledger", "policies", "rollout"},
    "serve": {"errors", "time_source", "spec", "schedule", "policies", "rollout", "latency"},
    "cluster": {
        "errors", "time_source", "cores", "interrupts", "surroundings", "spec", "schedule", "clocks", "worlds", "sim",
        "ledger", "policies", "rollout", "latency", "serve",
    },
    "analysis": {"errors", "notebook", "spec", "clocks", "ledger", "latency"},
    "planning": {
        "errors", "notebook", "time_source", "strict_json", "spec", "schedule", "sim", "policies", "ledger", "analysis",
        "worlds",
    },
    "gate": {"errors", "notebook", "strict_json", "spec", "schedule", "ledger", "analysis"},
    "report": {"errors", "screen", "trackers", "spec", "ledger", "latency", "analysis", "gate", "planning"},
    "nightly": {"errors", "notify", "schedule", "spec", "ledger", "analysis", "gate", "report"},
    "delays": {"errors", "spec", "clocks", "ledger", "analysis"},
    "delay_search": {"errors", "spec", "schedule", "clocks", "ledger", "analysis", "cluster"},
    "expectation": {"time_source", "cores", "spec", "latency", "planning"},
    "evaluation": {"spec", "clocks", "ledger", "delays", "expectation", "cluster", "analysis", "report"},
    "archive": {"errors", "strict_json", "spec", "ledger", "worlds", "analysis"},
    "agreement": {"errors", "time_source", "spec", "schedule", "worlds", "policies", "rollout", "analysis"},
    "watch": {
        "errors", "time_source", "strict_json", "cores", "screen", "notify", "trackers", "spec", "schedule", "ledger",
        "rollout", "latency", "cluster", "analysis", "gate", "report", "evaluation",
    },
    "doctor": {
        "errors", "strict_json", "cores", "surroundings", "spec", "schedule", "worlds", "sim", "policies", "rollout",
    },
    "cli": {
        "errors", "time_source", "cores", "interrupts", "screen", "notify", "trackers", "spec", "schedule", "sim",
        "ledger", "policies", "rollout", "latency", "serve", "clocks", "delays", "cluster", "analysis", "gate",
        "report", "evaluation", "nightly", "watch", "doctor", "delay_search", "agreement", "planning",
        "archive", "expectation",
        "worlds",
    },
}  # fmt: skip
"""Package → packages that it may import, inside functions too. What decides (`schedule`) knows nothing of what does
(`cluster`); what runs never asks what judges (`analysis`, `gate`)."""

HEAVY = ("torch", "ray", "mujoco", "robosuite", "libero", "lerobot", "transformers")


def imports_of(path: Path) -> set[str]:
    """Packages that a file imports, at module level or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("harness."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "harness":
            found.update(alias.name for alias in node.names if (PACKAGE / alias.name).is_dir())
        elif isinstance(node, ast.Import):
            found.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("harness."))
    return found


@pytest.mark.parametrize("room", ALLOWED)
def test_a_package_imports_only_what_it_may(room: str) -> None:
    files = sorted((PACKAGE / room).rglob("*.py")) or [PACKAGE / f"{room}.py"]
    for path in files:
        wrong = imports_of(path) - {room} - ALLOWED[room]
        assert not wrong, f"{path.relative_to(PACKAGE)} imports {sorted(wrong)}, which {room!r} may not"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_one_place_prints(path: Path) -> None:
    """Text that is not ours must not be read as markup, nor end a run when nobody reads it: see `harness.screen`."""
    printing = {"rich.console.Console", "rich.markup", "typer.echo", "typer.secho", "print"}
    if str(path.relative_to(PACKAGE)) in {"screen.py", "sim/gl_probe.py"}:
        return
    used = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            used |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call):
            used.add(ast.unparse(node.func))
    assert not used & printing


def test_packages_form_no_circle() -> None:
    assert set(TopologicalSorter(ALLOWED).static_order()) == set(ALLOWED)


def test_every_package_has_its_place_in_the_graph() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name not in {"__pycache__", "_data"}}
    assert rooms <= set(ALLOWED)


def test_the_documentation_describes_every_package_and_no_other() -> None:
    table = ARCHITECTURE.read_text(encoding="utf-8").split("| module |")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(ALLOWED)


def test_from_a_suite_to_a_row_is_ten_files_each_once_and_each_leads_to_the_next() -> None:
    table = ARCHITECTURE.read_text(encoding="utf-8").split("| file |")[1].split("\n\n")[0]
    steps = re.findall(r"^\| `harness/(\S+)` \| `(\w+)`", table, flags=re.MULTILINE)
    files = [PACKAGE / path for path, _ in steps]
    assert 2 < len(files) == len(set(files)) <= 10
    for place, (path, (_, name)) in enumerate(zip(files, steps, strict=True)):
        text = path.read_text(encoding="utf-8")
        assert re.search(rf"^(def|class) {name}\b", text, flags=re.MULTILINE), f"{path.name} has no {name}"
        # The suite comes first, though it is what the run imports; all others are named by a file that is read before.
        earlier = [other.read_text(encoding="utf-8") for other in files[:place]]
        module = f"harness.{steps[place][0].removesuffix('.py').replace('/', '.')}"
        leads = rf"from {re.escape(module)} import |import .*\b{name}\b"
        assert place < 2 or any(re.search(leads, other) for other in earlier), f"which file leads to {name}?"


def test_no_edge_leads_from_what_runs_to_what_judges_or_plans() -> None:
    assert not ALLOWED["cluster"] & {"planning", "analysis", "gate", "report"}
    assert not ALLOWED["clocks"] & {"planning", "analysis", "cluster", "ledger"}
    assert not ALLOWED["planning"] & {"cluster", "rollout", "serve"}
    assert not ALLOWED["schedule"] & {"cluster", "rollout", "sim", "policies"}


def test_no_two_public_classes_or_type_aliases_share_a_name() -> None:
    """One idea, one name: a stranger who reads `Request` somewhere finds one definition of it."""
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for name in public_types(node):
                found.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def public_types(node: ast.stmt) -> list[str]:
    """Names of the public classes and type aliases (`Name = …`, mixed case) that a statement makes."""
    if isinstance(node, ast.ClassDef):
        names = [node.name]
    elif isinstance(node, ast.TypeAlias):
        names = [node.name.id]
    elif isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        names = [name for name in names if name[0].isupper() and not name.isupper()]
    else:
        names = []
    return [name for name in names if not name.startswith("_")]


def loaded_by(code: str) -> set[str]:
    """Heavy packages in `sys.modules` after running code in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def test_a_verdict_alone_needs_no_analysis() -> None:
    code = (
        "import sys; from harness.gate.verdict import Verdict; print(*[m for m in sys.modules if m[:7] == 'harness'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert set(done.stdout.split()) == {"harness", "harness.errors", "harness.gate", "harness.gate.verdict"}


def test_what_a_run_starts_imports_no_pandas() -> None:
    """Importing it takes half a second of CPU, in every worker, before anything else."""
    modules = ("worker", "controller", "policy_server", "run")
    code = (
        "".join(f"import harness.cluster.{name}\n" for name in modules) + "import sys; print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import harness", set()),
        ("import harness.spec, harness.schedule, harness.ledger, harness.sim, harness.worlds, harness.rollout", set()),
        ("import harness.analysis, harness.report", set()),
        ("import harness.watch.training.client, harness.watch.service", set()),
        ("import harness.cli.app", set()),
        ("from harness.policies.registry import POLICIES; POLICIES.kinds()", set()),
        ("from harness.worlds.registry import get_world; get_world('libero').suites()", {"mujoco"}),
        (
            "from harness.policies.registry import make_policy; from harness.spec import parse_policy\n"
            "[make_policy(parse_policy(kind)) for kind in ('scripted', 'noop', 'random')]",
            set(),
        ),
        ("import harness.latency.probe", set()),
        ("import harness.serve.websocket, harness.serve.service, harness.policies.openpi.client", set()),
        (
            "from harness.sim import LiberoSim; LiberoSim('libero_spatial').reset(0, observe=False)",
            {"mujoco", "robosuite", "libero"},
        ),
    ],
)
def test_heavy_packages_load_only_where_they_are_needed(code: str, allowed: set[str]) -> None:
    assert loaded_by(code) <= allowed
