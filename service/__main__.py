"""Entry point: ``python -m service`` serves, ``python -m service <command>`` runs one command."""

import sys

from service.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
