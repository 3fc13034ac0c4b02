"""`python -m guardclash`: the command line."""

from __future__ import annotations

from guardclash.cli.app import main

if __name__ == "__main__":  # a process that a run starts imports this file again
    main()
