"""A gate as JUnit XML: one test case per rule, so that every CI shows it."""

from __future__ import annotations

import re
from datetime import datetime
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from harness.gate.judge import GateResult
from harness.gate.verdict import Verdict

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped."""


def render_gate_junit(result: GateResult, now: datetime) -> str:
    """Render a gate as JUnit XML.

    A failed rule is a failure, an inconclusive one an error: no CI then shows "cannot tell" as a pass. A rule that only
    reports is skipped.

    Args:
        result: Verdicts of all rules.
        now: Time stamp of the report.
    """
    verdicts = [found.verdict for found in result.results]
    suite = Element(
        "testsuite",
        name=f"vla-harness gate: {result.rules.name}",
        tests=str(len(verdicts)),
        failures=str(verdicts.count(Verdict.FAIL)),
        errors=str(verdicts.count(Verdict.INCONCLUSIVE)),
        skipped=str(sum(found.reported for found in result.results)),
        timestamp=now.isoformat(timespec="seconds"),
        time="0",
    )
    properties = SubElement(suite, "properties")
    for name, value in (
        ("verdict", result.verdict.value),
        ("base", result.comparison.base),
        ("candidate", result.comparison.candidate),
    ):
        SubElement(properties, "property", name=name, value=value)
    for found in result.results:
        case = SubElement(suite, "testcase", classname=f"gate.{result.rules.name}", name=found.rule, time="0")
        reason = found.reason
        if found.reported:
            SubElement(case, "skipped", message=reason)
        elif found.verdict is Verdict.FAIL:
            SubElement(case, "failure", message=reason, type="GateFailure").text = reason
        elif found.verdict is Verdict.INCONCLUSIVE:
            SubElement(case, "error", message=reason, type="GateInconclusive").text = reason
        else:
            SubElement(case, "system-out").text = reason
    return _document(suite)


def render_error_junit(name: str, error: Exception, now: datetime) -> str:
    """Render a gate that could not judge: an error, never a failure.

    Args:
        name: Name of the rules.
        error: What went wrong.
        now: Time stamp of the report.
    """
    suite = Element(
        "testsuite",
        name=f"vla-harness gate: {name}",
        tests="1",
        failures="0",
        errors="1",
        skipped="0",
        timestamp=now.isoformat(timespec="seconds"),
        time="0",
    )
    case = SubElement(suite, "testcase", classname=f"gate.{name}", name="nothing was judged", time="0")
    SubElement(case, "error", message=str(error), type=type(error).__name__).text = str(error)
    return _document(suite)


def _document(suite: Element) -> str:
    root = Element("testsuites")
    root.append(suite)
    indent(root)
    text = _FORBIDDEN.sub("\ufffd", tostring(root, encoding="unicode"))
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + text + "\n"
