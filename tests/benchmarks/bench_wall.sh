#!/bin/bash
# The wall clock against its own prediction in virtual time, on a host whose frames take far less than a control step (a GPU):
#   tests/benchmarks/bench_wall.sh 125 OUT      server padded to 125 ms; POLICY, WORKERS (12), EPISODES (20 a task), PORT by environment
# Asked of 25, 125 and 325 ms over at least 200 episodes: the paired difference's interval contains 0, at least 95 % of decisions get the
# same integer delay, fewer than 1 % of control steps overrun.
set -u
h() { python3 -c "from harness.cli import main; main()" "$@"; }
total=${1:?total in ms, e.g. 125} out=${2:?a new directory} policy=${POLICY:-flow} port=${PORT:-8000}
mkdir -p "$out"
serve() {
  python3 -c "from harness.cli import main; main()" serve --policy "$policy" --port "$port" "$@" >"$out/serve.log" 2>&1 &
  server=$!
  for _ in $(seq 120); do
    curl -sf "http://127.0.0.1:$port/healthz" >/dev/null && return
    kill -0 $server || break
    sleep 0.5
  done
  cat "$out/serve.log"
  exit 1
}
play() {  # CLOCK
  h run libero_spatial --policy "openpi://127.0.0.1:$port" --episodes "${EPISODES:-20}" --workers "${WORKERS:-12}" \
    --clock "$1" --latency "constant:${total}ms" --out "$out/$1" || exit
}
trap 'kill $server 2>/dev/null' EXIT
serve && play asynchronous && kill $server && wait $server
serve --pad-to "${total}ms" && play wall && kill $server && wait $server
h compare "$out/asynchronous" "$out/wall" --base-clock asynchronous --clock wall --allow clock
h report "$out/asynchronous" "$out/wall" --html "$out/report.html"
