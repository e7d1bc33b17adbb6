#!/usr/bin/env bash
# A nightly gate, for cron:
#
#   17 2 * * *  cd /srv/vla && POLICY=lerobot:me/pi05 flock -n /tmp/vla-nightly.lock examples/gate/nightly.sh >>nightly.log 2>&1
#
# Runs the suite, judges it against the accepted baseline, and looks for step changes over all nights. The first night
# becomes the baseline. Exits as `harness gate` does: 0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 not judged; 4 is a step
# change behind a PASS.
set -euo pipefail

: "${POLICY:?set POLICY, e.g. lerobot:me/pi05}"
SUITE=${SUITE:-nightly}
RULES=${RULES:-nightly}
REPORTS=${REPORTS:-reports/nightly}
ACCEPT=${ACCEPT:-no} # yes: a night that passes becomes the new baseline
NIGHT=$REPORTS/$(date -u +%Y%m%d-%H%M%S)

# A cut-off night is picked up where it stopped: one retry is usually enough.
harness run "$SUITE" --policy "$POLICY" --out "$NIGHT" ||
    harness run "$SUITE" --policy "$POLICY" --out "$NIGHT" --resume

if [[ ! -d $REPORTS/baselines ]]; then
    harness baseline set "$NIGHT" --root "$REPORTS" --note "first night"
    exit 0
fi

verdict=0
harness gate "$NIGHT" --baseline "$REPORTS" --rules "$RULES" \
    --markdown "$NIGHT/gate.md" --junit "$NIGHT/gate.xml" --json "$NIGHT/gate.json" || verdict=$?

steps=0
harness baseline history --root "$REPORTS" --plot "$REPORTS/history.svg" --strict || steps=$?

if [[ $verdict -eq 0 && $ACCEPT == yes ]]; then
    harness baseline set "$NIGHT" --root "$REPORTS" --note "passed $RULES"
fi
if [[ $verdict -eq 0 && $steps -ne 0 ]]; then
    # 1 is a step change; anything else says that the history could not be read.
    [[ $steps -eq 1 ]] && exit 4
    exit "$steps"
fi
exit "$verdict"
