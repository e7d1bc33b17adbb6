"""A gate as JUnit XML: one test case per rule, so that every CI shows it."""

from __future__ import annotations

import re
from datetime import datetime
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from harness.gate.gate import GateResult
from harness.gate.verdict import Verdict

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped."""


def render_gate_junit(result: GateResult, now: datetime) -> str:
    """Render a gate as JUnit XML.

    A failed rule is a failure, an inconclusive one an error: no CI then shows "cannot tell" as a pass.

    Args:
        result: The gate.
        now: Time stamp of the report.
    """
    verdicts = [found.verdict for found in result.results]
    suite = Element(
        "testsuite",
        name=f"vla-harness gate: {result.rules.name}",
        tests=str(len(verdicts)),
        failures=str(verdicts.count(Verdict.FAIL)),
        errors=str(verdicts.count(Verdict.INCONCLUSIVE)),
        skipped="0",
        timestamp=now.isoformat(timespec="seconds"),
        time="0",
    )
    properties = SubElement(suite, "properties")
    for name, value in (
        ("verdict", result.verdict.value),
        ("base", result.comparison.base),
        ("candidate", result.comparison.candidate),
    ):
        SubElement(properties, "property", name=name, value=_clean(value))
    for found in result.results:
        case = SubElement(suite, "testcase", classname=f"gate.{result.rules.name}", name=_clean(found.rule), time="0")
        reason = _clean(found.reason)
        if found.verdict is Verdict.FAIL:
            SubElement(case, "failure", message=reason, type="GateFailure").text = reason
        elif found.verdict is Verdict.INCONCLUSIVE:
            SubElement(case, "error", message=reason, type="GateInconclusive").text = reason
        else:
            SubElement(case, "system-out").text = reason
    root = Element("testsuites")
    root.append(suite)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _clean(value: str) -> str:
    return _FORBIDDEN.sub("\ufffd", value)
