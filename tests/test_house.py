"""The rules of the house, held by tests: who imports whom, what is pure, how long a file may be."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "timeproto"
BASE = {"errors", "limits", "params"}
EVERYTHING = {"model", "wire", "consensus", "storage", "network", "wallet", "masternode", "web", "sim", "devnet",
              "bench", "cli"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "limits": set(),
    "params": set(),
    "model": {"model"},
    "wire": {"wire", "model"},
    "consensus": {"consensus", "model", "wire.messages"},
    "storage": {"storage", "model", "wire"},
    "network": {"network", "model", "wire"},
    "wallet": {"wallet", "model", "wire", "network"},
    "masternode": {"masternode", "model", "wire", "consensus", "storage", "network", "web"},
    "web": {"web", "model", "wire", "network.budget", "network.costs", "network.notifications"},
    "sim": {"sim", "model", "wire", "consensus", "storage.memory"},
    "devnet": EVERYTHING - {"bench", "cli", "sim", "web"},
    "bench": EVERYTHING - {"cli"},
    "cli": EVERYTHING,
}
"""Room → rooms it may import. The base is open to all; ``wire.messages`` is that package alone."""

IMPURE = {"twisted", "time", "random", "secrets", "os", "sys", "io", "pathlib", "threading", "multiprocessing",
          "logging", "socket", "asyncio", "subprocess", "datetime", "rocksdict", "treq"}
NEVER: dict[str, set[str]] = {
    "errors": IMPURE,
    "limits": IMPURE,
    "params": IMPURE,
    "model": IMPURE,
    "consensus": IMPURE | {"json"},
    "wire": {"twisted", "time", "random", "os", "threading", "socket", "asyncio"},
    "storage": {"twisted", "asyncio"},
    "sim": IMPURE - {"random"},
}
"""Room → modules from outside that have no place in it."""

MAY_PRINT = {"cli", "devnet", "bench"}
LONGEST = 400


def sources() -> Iterator[Path]:
    return iter(sorted(PACKAGE.rglob("*.py")))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    """The room a file stands in; a file of the base is its own room."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, anywhere in it, as a dotted name with its line."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{named(path)}:{node.lineno} imports relatively"
            module = node.module or ""
            # `from timeproto.wire import codec` imports timeproto.wire.codec.
            for alias in node.names:
                yield (f"{module}.{alias.name}" if module.split(".")[0] == "timeproto" else module), node.lineno


def allowed(room: str, imported: str) -> bool:
    """Whether ``room`` may import ``imported``, a dotted name that begins with ``timeproto``."""
    parts = imported.split(".")[1:]
    if not parts or parts[0] in BASE or parts[0].startswith("__"):
        return True
    return parts[0] in MAY_IMPORT[room] or ".".join(parts[:2]) in MAY_IMPORT[room]


class Layers(SynchronousTestCase):
    def test_every_room_is_in_the_table(self) -> None:
        """A new room must be given its place."""
        rooms = {room_of(path) for path in sources()} - {"__init__"}
        self.assertEqual(rooms - set(MAY_IMPORT), set())

    def test_imports_go_down(self) -> None:
        """No room imports one that the table does not give it."""
        wrong = [
            f"{named(path)}:{line} imports {imported}"
            for path in sources()
            if room_of(path) != "__init__"
            for imported, line in imports(path)
            if imported.split(".")[0] == "timeproto" and not allowed(room_of(path), imported)
        ]
        self.assertEqual(wrong, [])

    def test_the_core_is_pure(self) -> None:
        """No clock, chance, thread, file or reactor where decisions are made."""
        wrong = [
            f"{named(path)}:{line} imports {imported}"
            for path in sources()
            for imported, line in imports(path)
            if imported.split(".")[0] in NEVER.get(room_of(path), set())
        ]
        self.assertEqual(wrong, [])

    def test_only_the_edges_know_the_global_reactor(self) -> None:
        """The reactor comes in by the front door; only tap, cli, devnet and bench may go and fetch it."""
        wrong = [
            f"{named(path)}:{line}"
            for path in sources()
            for imported, line in reactor_imports(path)
            if room_of(path) not in MAY_PRINT and named(path) != "timeproto/masternode/tap.py"
        ]
        self.assertEqual(wrong, [])

    def test_the_table_can_fail(self) -> None:
        """The rule itself: what it must refuse it refuses, what it must allow it allows."""
        for room, imported in (("model", "timeproto.wire"), ("consensus", "timeproto.wire.codec"),
                               ("network", "timeproto.consensus.replica"), ("wallet", "timeproto.masternode"),
                               ("masternode", "timeproto.wallet.hd"), ("masternode", "timeproto.devnet"),
                               ("devnet", "timeproto.cli.main"), ("storage", "timeproto.consensus.verifier")):
            self.assertFalse(allowed(room, imported), (room, imported))
        for room, imported in (("model", "timeproto.errors.Refusal"), ("consensus", "timeproto.wire.messages.Ping"),
                               ("masternode", "timeproto.storage.rocks"), ("cli", "timeproto.bench.finality"),
                               ("wallet", "timeproto.limits"), ("model", "timeproto.__version__")):
            self.assertTrue(allowed(room, imported), (room, imported))


def reactor_imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "twisted.internet":
            for alias in node.names:
                if alias.name == "reactor":
                    yield "reactor", node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "twisted.internet.reactor":
                    yield "reactor", node.lineno


class Files(SynchronousTestCase):
    def test_no_file_is_two_rooms(self) -> None:
        """A file past 400 lines wants to be divided."""
        lengths = {named(path): len(path.read_text("utf-8").splitlines()) for path in sources()}
        long = {name: lines for name, lines in lengths.items() if lines > LONGEST}
        self.assertEqual(long, {})

    def test_only_commands_print(self) -> None:
        """Everything else logs, or returns what it has to say."""
        wrong = [
            f"{named(path)}:{node.lineno}"
            for path in sources()
            if room_of(path) not in MAY_PRINT
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        ]
        self.assertEqual(wrong, [])

    def test_every_module_says_what_it_is_for(self) -> None:
        """The docstring of a module is where a newcomer begins."""
        silent = [named(path) for path in sources() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
        self.assertEqual(silent, [])

    def test_every_test_says_its_intent(self) -> None:
        """A test is found by what it is for: one line."""
        silent = [
            f"{named(path)}: {node.name}"
            for path in sorted((ROOT / "tests").rglob("test_*.py"))
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")
            if "\n" in (ast.get_docstring(node) or "\n").strip() or not ast.get_docstring(node)
        ]
        self.assertEqual(silent, [])

    def test_no_test_is_passed_over(self) -> None:
        """Trial collects no method named just ``test`` and no folder without ``__init__.py``."""
        for path in sorted((ROOT / "tests").rglob("test_*.py")):
            self.assertTrue((path.parent / "__init__.py").exists(), named(path))
            methods = [node.name for node in ast.walk(ast.parse(path.read_text("utf-8")))
                       if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
            self.assertNotIn("test", methods, named(path))

    def test_the_plugin_folder_is_no_package(self) -> None:
        """An ``__init__.py`` there would hide Twisted itself."""
        self.assertTrue((ROOT / "twisted" / "plugins").is_dir())
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])


class Papers(SynchronousTestCase):
    def test_every_dependency_is_accounted_for(self) -> None:
        """Each requirement of setup.cfg, and nothing else, has its row in docs/dependencies.md."""
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        lists = "\n".join([setup["options"]["install_requires"], *setup["options.extras_require"].values(), ""])
        lists += (ROOT / ".ci" / "sslyze.txt").read_text("utf-8")
        required = {re.split(r"[ <>=!~\[;]", line)[0].lower() for line in lists.splitlines() if line.strip()}
        rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "dependencies.md").read_text("utf-8"), re.MULTILINE)
        self.assertEqual({row.lower() for row in rows}, required)
        self.assertEqual(len(rows), len(set(rows)))

    def test_paths_in_the_readme_exist(self) -> None:
        """The map of the tree is the tree."""
        text = (ROOT / "README.md").read_text("utf-8")
        paths = set(re.findall(r"`((?:timeproto|tests|docs|twisted)/[\w./]+)`", text))
        self.assertGreater(len(paths), 10)
        self.assertEqual([path for path in sorted(paths) if not (ROOT / path).exists()], [])
