#!/usr/bin/env bash
# Build wheel and source archive into dist/, check both, and try the wheel in a fresh environment with the base install.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf dist
python -m build --outdir dist . >/dev/null
twine check --strict dist/*
check-wheel-contents dist/*.whl
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
python -m venv "$fresh/venv"
"$fresh/venv/bin/pip" install --quiet --disable-pip-version-check dist/*.whl
wanted=$(python -c 'import harness; print(harness.__version__)')
cd "$fresh" # outside the repository, so that the installed package is what is imported
venv/bin/harness --help >/dev/null
test "$(venv/bin/harness --version)" = "vla-harness $wanted"
venv/bin/python -c 'import harness.spec; harness.spec.load_suite("libero_spatial")'
echo "The wheel of $wanted installs and answers."
