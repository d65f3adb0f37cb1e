#!/usr/bin/env bash
# Gets what the comparison runs: get_tools.sh PYTHON CACHE
# wrk, Go and Node through apt where they are missing; the contenders' packages into CACHE, never into this folder.
# What cannot be had is named and left out; compare.py sees what is there.
set -uo pipefail
python=$1 cache=$2
here="$(cd "$(dirname "$0")" && pwd)"
mkdir -p "$cache"

missed() { echo "NOT AVAILABLE: $*" >&2; }

# A command and the Debian package that has it; one at a time, so that one failure is only one.
need() { command -v "$1" >/dev/null || "$here/../support/apt_install.sh" "$2" || missed "$1"; }
need redis-server redis-server
need wrk wrk
need taskset util-linux
need go golang
need npm npm

get_fastify() {
  local source="$here/contenders/fastify" target="$cache/fastify"
  mkdir -p "$target"
  if ! cmp -s "$source/package.json" "$target/package.json" || [ ! -d "$target/node_modules/fastify" ]; then
    rm -rf "$target/node_modules"
    cp "$source/package.json" "$target/"
    (cd "$target" && npm install --omit=dev --no-package-lock --no-audit --no-fund --silent) || return 1
  fi
  cp "$source/server.js" "$target/"
}

get_fastapi() {
  local list="$here/contenders/fastapi/requirements.txt" venv="$cache/venv" uvicorn
  uvicorn="uvicorn==$("$python" -c 'import uvicorn; print(uvicorn.__version__)')" || return 1
  if ! { cat "$list"; echo "$uvicorn"; "$python" -VV; } | cmp -s - "$venv/installed.txt"; then
    "$python" -m venv --clear "$venv" || return 1
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$list" "$uvicorn" || return 1
    { cat "$list"; echo "$uvicorn"; "$python" -VV; } > "$venv/installed.txt"
  fi
}

get_go() { (cd "$here/contenders/go" && go build -trimpath -o "$cache/go-server" .); }

get_fastify || { missed "Fastify (npm install failed)"; rm -rf "$cache/fastify"; }
get_fastapi || { missed "FastAPI and the bare handlers (pip install failed)"; rm -rf "$cache/venv"; }
get_go || { missed "the Go server (go build failed)"; rm -f "$cache/go-server"; }
exit 0
