#!/usr/bin/env bash
# Gets what the tests run beside Python, through apt when it is missing: get_tools.sh [operate]
set -euo pipefail
PATH=$PATH:/usr/sbin
missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need redis-server redis-server
need jq jq
need curl curl
need haproxy haproxy
need openssl openssl
if [ "${1-}" = operate ]; then
  need chromium chromium
fi
if [ ${#missing[@]} -gt 0 ]; then
  "$(dirname "$0")/apt_install.sh" "${missing[@]}"
fi
