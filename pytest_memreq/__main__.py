"""`python -m pytest_memreq` is the command `memreq`."""

from pytest_memreq.cli import main

raise SystemExit(main())
