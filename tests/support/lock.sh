#!/usr/bin/env bash
# Writes the locks that the image installs from: lock.sh BIN [uv's options, as --upgrade]
set -euo pipefail
bin=$1
shift
lock() {
  "$bin/uv" --no-config pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --annotation-style line --custom-compile-command "make lock" "$@"
}
lock pyproject.toml --output-file requirements.lock "$@"
lock pyproject.toml --extra otel --constraint requirements.lock --output-file requirements-otel.lock "$@"
"$bin/python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' |
  lock - --output-file requirements-build.lock "$@"
# An index that only this machine knows must not get in.
if grep -n '://\|--index\|--find-links' requirements*.lock; then
  echo "The lock names an address; see above" >&2
  exit 1
fi
