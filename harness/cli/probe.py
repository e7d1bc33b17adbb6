"""`harness probe`: what a decision costs on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.examples import examples
from harness.cli.output import write_texts
from harness.cli.tracking import tell_trackers
from harness.cli.values import parse_axes, parse_nfe, parse_policies
from harness.cli.verb import json_target
from harness.errors import EXIT_FAILED, EXIT_INTERRUPTED, UsageError
from harness.screen import Screen
from harness.trackers import HELP as TRACKERS
from harness.trackers import require_trackers

if TYPE_CHECKING:
    from harness.analysis.summary import Summary
    from harness.latency.to_ledger import ProbeSession

EXAMPLES = examples(
    "harness probe --policy flow --nfe 1,2,5,10 --out reports/latency",
    "harness probe --policy flow --batch-size 1,8 --min-seconds 5",
    "harness probe --policy lerobot:pi05?weights=random --nfe 1,10 --hardware a100-sxm-80gb --out reports/a100",
    "harness probe --policy lerobot:pi05?weights=random --dtype none,bfloat16 --graphs none,true --out reports/fast",
    "harness probe --policy lerobot:pi05?weights=random --compile none,default --vary compile_scope=parts",
    "harness probe --policy lerobot:smolvla?weights=random --cameras 1,2 --prompt-words 8,32 --process-per variant",
)


def command(
    ctx: typer.Context,
    policy: Annotated[list[str], typer.Option("--policy", "-p", help="Policy to time; repeat for several.")],
    nfe: Annotated[str | None, typer.Option(help="NFE values, e.g. 1,2,5,10.", show_default="the default")] = None,
    batch_size: Annotated[str, typer.Option(help="Observations in one decision, e.g. 1,8.")] = "1",
    out: Annotated[
        str | None, typer.Option(help="Directory or URI of the ledger.", show_default="reports/probe-TIME")
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(help="Hardware profile of this node.", show_default="matched automatically")
    ] = None,
    launches: Annotated[
        int, typer.Option(help="Fresh processes in which each configuration is measured; 1 is a quick look.")
    ] = 5,
    min_seconds: Annotated[float, typer.Option(help="Measure each launch for at least this long.")] = 10.0,
    min_samples: Annotated[int, typer.Option(help="… and at least this often.")] = 50,
    max_seconds: Annotated[
        float | None,
        typer.Option(help="Stop measuring a launch after this long.", show_default="300, or --min-seconds if longer"),
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Axis: parameter dtypes, e.g. none,bfloat16.")] = None,
    compile_: Annotated[
        str | None, typer.Option("--compile", help="Axis: torch.compile modes, e.g. none,default.")
    ] = None,
    graphs: Annotated[str | None, typer.Option(help="Axis: CUDA graphs of the parts, e.g. none,true.")] = None,
    quantize: Annotated[str | None, typer.Option(help="Axis: weights, e.g. none,int8.")] = None,
    vision: Annotated[str | None, typer.Option(help="Axis: vision tower, e.g. none,tf32,bfloat16.")] = None,
    tf32: Annotated[str | None, typer.Option(help="Axis: TF32 in float32 products, e.g. true,false.")] = None,
    cameras: Annotated[
        str | None, typer.Option(help="Axis: cameras of random weights, any number, e.g. 1,2,3.")
    ] = None,
    prompt_tokens: Annotated[
        str | None, typer.Option(help="Axis: padded prompt length of random weights, tokens, e.g. 48,200.")
    ] = None,
    prompt_words: Annotated[
        str | None, typer.Option(help="Axis: words of the instruction.", show_default="LIBERO's own")
    ] = None,
    vary: Annotated[
        list[str] | None, typer.Option(help="Axis: any option of the policy, OPTION=VALUE,VALUE; repeat for several.")
    ] = None,
    warmup_seconds: Annotated[
        float, typer.Option(help="Most time for a latency to settle after the first call.")
    ] = 60.0,
    components_every: Annotated[int, typer.Option(help="Time one decision by component after so many end to end.")] = 1,
    process_per: Annotated[
        str, typer.Option(help="configuration, or variant: compile once for all its NFE and batch sizes.")
    ] = "configuration",
    compare: Annotated[bool, typer.Option(help="Compare each variant's answers with its reference's.")] = True,
    allow_shared: Annotated[
        bool, typer.Option("--allow-shared", help="Measure beside another process on the accelerator, and mark it.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Add to the ledger that lies in --out.")] = False,
    log_to: Annotated[list[str] | None, typer.Option(help=TRACKERS)] = None,
) -> None:
    """Time a policy's decision by component: preprocess, vision, prefix, each denoise step, postprocess.

    Needs neither Ray nor LIBERO. Each configuration runs in several fresh processes, in turn with the others; every
    sample is kept. Axes take lists, "none" leaves the option out, and every combination is probed. Each variant's
    answers are compared with those of its reference: the policy without dtype, compile, graphs, quantize, vision,
    merge_cameras and tf32.
    """
    from harness.policies.registry import POLICIES
    from harness.spec.resolve import parse
    from harness.spec.suite import Suite

    require_trackers(log_to or [])
    named = {
        "dtype": dtype,
        "compile": compile_,
        "graphs": graphs,
        "quantize": quantize,
        "vision": vision,
        "tf32": tf32,
        "cameras": cameras,
        "tokenizer_max_length": prompt_tokens,
    }
    plan = {
        "policies": [spec.model_dump() for spec in parse_policies(policy)],
        "nfe": parse_nfe(nfe) if nfe else (),
        "batch_sizes": _integers("--batch-size", batch_size),
        "budget": {
            "min_seconds": min_seconds,
            "min_samples": min_samples,
            **({} if max_seconds is None else {"max_seconds": max_seconds}),
            "warmup_seconds": warmup_seconds,
            "components_every": components_every,
        },
        "launches": launches,
        "axes": parse_axes({name: text for name, text in named.items() if text is not None}, vary or []),
        "prompt_words": _integers("--prompt-words", prompt_words) if prompt_words else (),
        "process_per": process_per,
        "compare": compare,
        "allow_shared": allow_shared,
    }
    suite = parse(
        Suite, {"name": "probe", "description": "harness probe", "protocol": "lerobot", "probe": plan}, "probe"
    )
    for variant in suite.probe.variants if suite.probe else ():
        POLICIES.check(variant.spec)
    from harness.analysis.summary import Summary
    from harness.latency import SCOPE
    from harness.latency.node import hardware_of_node
    from harness.latency.to_ledger import probe_to_ledger
    from harness.ledger import read
    from harness.report import render_terminal, write_summary
    from harness.time_source import WallTime

    target = out or f"reports/probe-{WallTime().now():%Y%m%d-%H%M%S}"
    screen = Screen()
    screen.say(f"e2e: {SCOPE}")
    session = probe_to_ledger(
        suite,
        target,
        clock=WallTime(),
        hardware=hardware_of_node(hardware),
        append=resume,
        on_message=screen.say,
    )
    summary = Summary(read(target))
    write_summary(summary, screen.say)
    failures = [str(failure) for result in session.results for failure in result.failures]
    write_texts([(json_target(ctx), lambda: _json(target, session, failures, summary))])
    render_terminal(summary, screen)
    tell_trackers(log_to, summary, target, screen)
    screen.say(f"Ledger: {target}")
    if session.interrupted:
        screen.say("Interrupted: what was measured is in the ledger.")
        raise typer.Exit(EXIT_INTERRUPTED)
    if failures:
        raise typer.Exit(EXIT_FAILED)


def _json(target: str, session: ProbeSession, failures: list[str], summary: Summary) -> str:
    """The object of `--json`."""
    from harness.report.json import json_text, report_dict

    return json_text(
        {
            "ledger": target,
            "run_id": session.run_id,
            "interrupted": session.interrupted,
            "failures": failures,
            "report": report_dict(summary),
        }
    )


def _integers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} is {text!r}; write whole numbers with commas between them.") from None
