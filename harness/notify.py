"""Tell people: a command or a webhook, with a time limit. Whatever happens here changes no verdict."""

from __future__ import annotations

import json
import shlex
import string
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from urllib.parse import quote

from harness.errors import UsageError

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class News:
    """What there is to tell; its fields are those of a template."""

    verdict: str
    """PASS, FAIL, INCONCLUSIVE, or ERROR when nothing could be judged; "" without rules."""
    report: str
    """Path of the report."""
    ledger: str
    name: str
    """Checkpoint or policy."""
    summary: str
    """One sentence."""
    step: str = ""


FIELDS = tuple(News.__dataclass_fields__)


def check_template(template: str) -> None:
    """Refuse a template that could not be filled in.

    Raises:
        UsageError: It is empty, its quotes do not match, or it names a field that does not exist.
    """
    try:
        words = [template] if _is_url(template) else shlex.split(template)
        named = {field for word in words for _, field, _, _ in string.Formatter().parse(word) if field is not None}
    except ValueError as error:
        raise UsageError(f"--notify {template!r} cannot be read: {error}.") from error
    if not words or not words[0]:
        raise UsageError("--notify is empty; give a command or an https:// address.")
    unknown = sorted(named - set(FIELDS))
    if unknown:
        raise UsageError(f"--notify has no field {{{unknown[0]}}}. It knows {', '.join(f'{{{f}}}' for f in FIELDS)}.")


def notify(template: str, news: News, timeout_s: float = TIMEOUT_S) -> str | None:
    """Run the command, or post to the address, that a template stands for.

    Args:
        template: A command, whose words may hold {verdict}, {report}, {ledger}, {name}, {step} and {summary} (no shell
            reads it), or an http(s) address, to which the same fields are posted as JSON, with `text` for chats.
        news: Verdict, report, ledger and summary that fill the template's fields.
        timeout_s: Time limit, seconds.

    Returns:
        What went wrong; None if nothing did.
    """
    fields = asdict(news)
    try:
        if _is_url(template):
            return _post(
                template.format_map({key: quote(value, safe="") for key, value in fields.items()}), fields, timeout_s
            )
        words = [word.format_map(fields) for word in shlex.split(template)]
        done = subprocess.run(
            words, timeout=timeout_s, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the command took longer than {timeout_s:g} s and was killed"
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    if done.returncode == 0:
        return None
    said = (done.stderr or done.stdout).strip().splitlines()
    return f"the command exited with {done.returncode}" + (f": {said[-1]}" if said else "")


def _post(url: str, fields: Mapping[str, str], timeout_s: float) -> str | None:
    body = json.dumps({"text": fields["summary"], **fields}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - http(s) only
    try:
        with urllib.request.urlopen(request, timeout=timeout_s):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        return f"{url.partition('?')[0]} answered {error.code}"


def _is_url(template: str) -> bool:
    return template.startswith(("https://", "http://"))
