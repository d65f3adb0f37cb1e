#!/usr/bin/env bash
# Installs Debian packages, and says so: apt_install.sh PACKAGE...
set -euo pipefail
as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "Please install, as root: apt-get install $*" >&2; exit 1; }
  as_root=(sudo)
fi
command -v apt-get >/dev/null || { echo "Please install, with your system's package manager: $*" >&2; exit 1; }
echo "Installing with apt: $*" >&2
"${as_root[@]}" apt-get update -qq >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@" >/dev/null
