"""The console script ``timeproto``: one module for each command, and :mod:`timeproto.cli.main`, which runs them."""
