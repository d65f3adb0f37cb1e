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
# The tests start servers of their own. Unless this file says otherwise, Debian makes one for the machine with the package.
if [[ " $* " == *" postgresql "* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
  "${as_root[@]}" mkdir -p /etc/postgresql-common
  echo "create_main_cluster = false" | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends \
  -o Dpkg::Options::=--force-confold "$@" >/dev/null
