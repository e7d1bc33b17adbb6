#!/usr/bin/env bash
# Make sure that Debian packages are there: install what is missing when root, else print the exact command.
# With --optional a package that cannot be installed is reported and passed over.
set -euo pipefail
optional=no
if [ "${1:-}" = --optional ]; then optional=yes; shift; fi
command -v dpkg-query >/dev/null 2>&1 || { echo "Not a Debian system: install what matches $* yourself if rendering fails." >&2; exit 0; }
missing=()
for package in "$@"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
command="apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" = 0 ]; then
  echo "Installing ${missing[*]}" >&2
  if (apt-get update -qq && DEBIAN_FRONTEND=noninteractive $command -qq) >/tmp/vla-harness-apt.$$.log 2>&1; then
    rm -f /tmp/vla-harness-apt.$$.log; exit 0
  fi
  tail -n 5 /tmp/vla-harness-apt.$$.log >&2; rm -f /tmp/vla-harness-apt.$$.log
fi
echo "Missing: ${missing[*]}. Run: sudo $command" >&2
[ "$optional" = yes ]
