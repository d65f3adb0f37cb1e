#!/usr/bin/env bash
# Makes the virtual environment: make_venv.sh PYTHON FOLDER
set -euo pipefail
python=$1 venv=$2
if [ -z "$python" ]; then
  echo "Python 3.11 or newer is needed and was not found; install it, or name it: make PYTHON=/path/to/python3" >&2
  exit 1
fi
echo "Making $venv with everything in it; that takes about a minute" >&2
if ! said="$("$python" -m venv "$venv" 2>&1)"; then
  # Debian ships Python without what venv needs.
  if "$python" -c 'import ensurepip' 2>/dev/null; then
    echo "$said" >&2
    exit 1
  fi
  package="$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
  echo "$python cannot make a virtual environment; installing $package" >&2
  "$(dirname "$0")/apt_install.sh" "$package"
  rm -rf "$venv"
  "$python" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable . --group dev
