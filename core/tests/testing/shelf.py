"""A source that keeps every promise, on a database that is a folder of two files: for broken ones to be built on."""

import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from penstock.api import (
    Capability,
    ChildOutput,
    Dump,
    DumpPlan,
    DumpStream,
    Inspection,
    InventoryItem,
    LeftOut,
    PluginSettings,
    Restore,
    RestoreFailed,
    RestorePlan,
    RestoreTarget,
    Secret,
    SecretRef,
    Source,
    SourceUnreachable,
    StreamSpec,
    TargetNotEmpty,
    UsageError,
    env_for_child,
    run_child,
)
from penstock.testing.source_conformance import (
    BadObject,
    ChildProgram,
    Differences,
    NotApplicable,
    SourceLab,
    Target,
    dump_all,
)

END = b"-- the end of the shelf\n"
PASSWORD = "s3cret of the shelf"
_PROGRAM = """\
#!/bin/sh
if [ "$1" = --version ]; then echo 1.0; exit; fi
cat "$1" && echo "-- the end of the shelf"
"""


#: What an engine that runs inside the process keeps its writers out with; other processes know nothing of it.
IN_PROCESS = threading.Lock()


class ShelfSettings(PluginSettings):
    path: Path
    server: tuple[str, int] | None = None
    connect_timeout: float = 0.2
    program: Path
    loader: Path
    password: SecretRef | None = None
    stall_timeout: float = 60


class ShelfSource(Source):
    name = "shelf"
    schemes = ("shelf",)
    Settings: ClassVar[type[PluginSettings]] = ShelfSettings
    possible_capabilities = frozenset({Capability.CONSISTENT, Capability.PARALLEL_STREAMS})
    settings: ShelfSettings

    #: Every child of a stream, to clean up what a broken source leaves.
    children: ClassVar[list[ChildOutput]] = []

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        parts = urlsplit(url)
        if parts.netloc or parts.query:
            raise UsageError("the URL of a shelf is a path, without host, password and query")
        return {"path": parts.path}

    @property
    def location(self) -> str:
        return str(self.settings.path)

    def inspect(self) -> Inspection:
        self._look()
        version = run_child([str(self.settings.program), "--version"], name="shelfdump", timeout=30).decode().strip()
        return Inspection(
            engine="shelf",
            server_version="1.0",
            client_version=version,
            size_estimate=self._file("main").stat().st_size,
            inventory=self._inventory(self.settings.path),
            streams=(StreamSpec("notes.txt", "shelf", 0), StreamSpec("data/main.txt", "shelf", 1)),
            consistency="one copy",
        )

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        inspection = self.inspect()
        with tempfile.TemporaryDirectory() as folder:
            view = self._view(Path(folder))
            inspection = replace(inspection, inventory=self._inventory(view))
            main = StreamSpec(
                "data/main.txt", "shelf", 1, inspection.size_estimate, False, {"file": str(view / "main")}
            )
            notes = StreamSpec("notes.txt", "shelf", 0, None, True, {"file": str(view / "notes")})
            yield Dump(DumpPlan(inspection, (notes, main), "one copy"), self.attach)

    def attach(self, spec: StreamSpec) -> DumpStream:
        return self._child(spec)

    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        if target.options:
            raise UsageError(f"a shelf has no option {', '.join(target.options)}")
        if self._file("main").exists() and not target.clean:
            raise TargetNotEmpty(f"{self.location} is not empty")
        return RestorePlan(tuple(streams), target, left_out=tuple(self.foreseen(streams)))

    @contextmanager
    def restore(self, plan: RestorePlan) -> Iterator[Restore]:
        whole: dict[Path, bytes] = {}

        def finish() -> None:
            self.load()
            for file, data in {file: self.taken(plan, data) for file, data in whole.items()}.items():
                self.put(file, data)

        yield Restore(lambda spec, blocks: self.write(spec, blocks, whole), finish)

    def load(self, **more: Any) -> None:
        """Have the loader look at the place, as programs that restore do."""
        secret = self._secret()
        chosen: dict[str, Any] = {"env": env_for_child({"SHELF_PASSWORD": secret}), "secrets": [secret]}
        command = [str(self.settings.loader), str(self.settings.path)]
        run_child(command, name="shelfload", timeout=30, error=RestoreFailed, **(chosen | more))

    def foreseen(self, streams: Sequence[StreamSpec]) -> Iterator[LeftOut]:
        """The marks that the attributes of a stream name: no shelf takes one, and these need no look at the bytes."""
        for spec in streams:
            for name in spec.attributes.get("marks", "").split():
                yield LeftOut("mark", name, "no shelf takes a mark")

    def taken(self, plan: RestorePlan, data: bytes) -> bytes:
        """The data without its marks, each of which is told unless the plan has named it."""
        kept = []
        for line in data.splitlines(keepends=True):
            if not line.startswith(b"mark "):
                kept.append(line)
                continue
            _, name, words = line.decode().rstrip().split(" ", 2)
            self.refuse(plan, name, words)
        return b"".join(kept)

    def refuse(self, plan: RestorePlan, name: str, words: str) -> None:
        reason = self.masked(f"no shelf takes a mark that says: {words}")
        one = LeftOut("mark", name, reason, f"mark {name} {words}", secret="password=" in words)
        if name in {known.name for known in plan.left_out}:
            return
        if plan.target.strict:
            raise RestoreFailed(f"the shelf does not take everything: {one}")
        self.report.left_out(one)

    def masked(self, said: str) -> str:
        return re.sub("password=.*", "password=***", said)

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview], whole: dict[Path, bytes]) -> None:
        whole[self._file(Path(spec.name).stem)] = self.received(spec, blocks)

    def received(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> bytes:
        data = b"".join(bytes(block) for block in blocks)
        if not data.endswith(END):
            raise RestoreFailed(f"{spec.name} has no end")
        return data.removesuffix(END)

    def put(self, file: Path, data: bytes) -> None:
        file.write_bytes(data)

    def _child(self, spec: StreamSpec, **more: Any) -> ChildOutput:
        secret = self._secret()
        chosen: dict[str, Any] = {
            "name": f"shelfdump of {spec.name}",
            "env": env_for_child({"SHELF_PASSWORD": secret}),
            "stall_timeout": self.settings.stall_timeout,
            "end_marker": END,
            "secrets": [secret],
            "stop": self.stop,
        }
        child = ChildOutput(self._command(spec), **(chosen | more))
        self.children.append(child)
        return child

    def _command(self, spec: StreamSpec) -> list[str]:
        return [str(self.settings.program), spec.attributes["file"]]

    def _secret(self) -> Secret:
        return self.settings.password.resolve() if self.settings.password else Secret("none")

    def _view(self, folder: Path) -> Path:
        for name in ("main", "notes"):
            shutil.copy(self._file(name), folder / name)
        return folder

    def _inventory(self, folder: Path) -> tuple[InventoryItem, ...]:
        return tuple(
            InventoryItem("lines", name, rows=(folder / name).read_bytes().count(b"\n"), exact=True)
            for name in ("main", "notes")
        )

    def _look(self) -> None:
        if self.settings.server is not None:
            try:
                with socket.create_connection(self.settings.server, self._deadline()) as link:
                    link.recv(1)
            except OSError as error:
                raise SourceUnreachable(f"{self.location} does not answer: {error}") from error
        if not self._file("main").exists():
            raise SourceUnreachable(f"there is no shelf in {self.settings.path}")

    def _deadline(self) -> float | None:
        return self.settings.connect_timeout

    def _file(self, name: str) -> Path:
        return self.settings.path / name


class ShelfLab(SourceLab):
    MARKED = "of a mark, and secret"
    differences: Differences | None = None
    undoes: NotApplicable | None = None
    unfinished: NotApplicable | None = None

    def __init__(self, kind: Callable[[ShelfSettings], ShelfSource], folder: Path) -> None:
        self.folder = folder
        self._kind = kind
        (folder / "seed").mkdir(parents=True)
        (folder / "password").write_text(PASSWORD)
        (folder / "seed" / "main").write_text("".join(f"ördér {n}\t{n * 7919 % 10007}\n" for n in range(6000)))
        (folder / "seed" / "notes").write_text("notes\n" * 300)
        self._program = folder / "bin" / "shelfdump"
        self._program.parent.mkdir()
        self._program.write_text(_PROGRAM)
        self._program.chmod(0o755)
        self._loader = folder / "bin" / "shelfload"
        self._loader.write_text('#!/bin/sh\ntest -d "$1"\n')
        self._loader.chmod(0o755)
        self._source = self._make("seed")
        self.targets = 0

    @property
    def source(self) -> Source:
        return self._source

    @property
    def secrets(self) -> tuple[str, ...]:
        return (PASSWORD,)

    @property
    def program(self) -> ChildProgram | NotApplicable:
        return ChildProgram(self._program)

    def variant(self, *, program: Path | None = None, stall_timeout: float | None = None) -> Source:
        return self._make("seed", program=program or self._program, stall_timeout=stall_timeout or 60)

    @property
    def restore_program(self) -> ChildProgram:  # type: ignore[override]
        return ChildProgram(self._loader, probes=())

    def restoring_with(self, program: Path) -> Target:
        place = self.target().source.settings
        source = self._kind(place.model_copy(update={"loader": program}))  # type: ignore[arg-type]
        return Target(source, lambda: None)

    def unreachable(self) -> Source:
        return self._make("missing")

    def content(self) -> object:
        return self._content("seed")

    def change(self) -> None:
        with IN_PROCESS, (self.folder / "seed" / "main").open("a") as file:
            file.write("late\n")

    @property
    def change_command(self) -> tuple[str, ...]:
        return ("sh", "-c", 'echo later >>"$0"', str(self.folder / "seed" / "main"))

    def silent(self, host: str, port: int) -> Source:
        return self._make("seed", server=(host, port))

    def rows(self) -> Mapping[str, int]:
        return {name: text.count("\n") for name, text in self._content("seed").items()}

    def bad_objects(self) -> list[BadObject]:
        return [
            self._marked("unforeseen", "mark unforeseen late"),
            self._marked("foreseen", "mark foreseen early", marks="foreseen"),
            self._marked("login", f"mark login password={self.MARKED}", secrets=(self.MARKED,)),
        ]

    def _marked(self, name: str, line: str, marks: str = "", secrets: tuple[str, ...] = ()) -> BadObject:
        """A dump whose main stream has a mark in its middle."""
        dump = dump_all(self.source)
        spec, data = dump["data/main.txt"]
        half = data.index(b"\n", len(data) // 2) + 1
        marked = replace(spec, attributes={**spec.attributes, "marks": marks})
        dump["data/main.txt"] = marked, data[:half] + f"{line}\n".encode() + data[half:]
        return BadObject(dump, name, self.content(), foreseen=bool(marks), secrets=secrets)

    def target(self) -> Target:
        self.targets += 1
        name = f"target-{self.targets}"
        (self.folder / name).mkdir()
        return Target(self._make(name), lambda: self._content(name))

    def _make(self, name: str, **more: Any) -> ShelfSource:
        chosen: dict[str, Any] = {"path": self.folder / name, "program": self._program, "loader": self._loader}
        chosen |= {"password": {"file": self.folder / "password"}}
        settings = getattr(self._kind, "Settings", ShelfSettings)
        return self._kind(settings.model_validate(chosen | more))

    def _content(self, name: str) -> dict[str, str]:
        return {path.name: path.read_text(errors="replace") for path in sorted((self.folder / name).iterdir())}
