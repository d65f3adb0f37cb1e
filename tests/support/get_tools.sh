#!/usr/bin/env bash
# Gets what the tests run beside Python, through apt when it is missing; with `operate` also what make test-operate runs.
set -euo pipefail
PATH=$PATH:/usr/sbin
missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need redis-server redis-server
need jq jq
need curl curl
need haproxy haproxy
need openssl openssl
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || missing+=(postgresql)
if [ "${1:-}" = operate ]; then
  need kubectl kubernetes-client
  need prometheus prometheus
  need chromium chromium
fi
if [ ${#missing[@]} -gt 0 ]; then
  "$(dirname "$0")/apt_install.sh" "${missing[@]}"
fi
