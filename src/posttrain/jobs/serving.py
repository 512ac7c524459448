"""`posttrain serve`: a model behind an OpenAI-compatible address, with the template that it was trained with.

Keys lie in a YAML file, `name: {key: ..., guard: file name without ending, admin: true}`, or in POSTTRAIN_API_KEYS with commas between.
Without keys the server listens on this machine only.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import Field, PositiveFloat, PositiveInt

from posttrain.guard.file import GuardFile, read_guard
from posttrain.jobs import assembly
from posttrain.jobs.front import LocalFront
from posttrain.jobs.job import Context, Job
from posttrain.jobs.sample import device_of
from posttrain.models.load import load
from posttrain.serve.app import Key, Server
from posttrain.serve.engine import Engine


class Serve(Job):
    """Serve a model over HTTP, as OpenAI clients expect it."""

    name: ClassVar[str] = "serve"
    produces: ClassVar[Literal["run", "file", "text"]] = "text"
    positional: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    """Model to serve: a run, a directory or a hub id."""
    host: str = "127.0.0.1"
    """Address to listen on; another than this machine's own asks for keys."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port; 0 takes a free one and prints it."""
    served_name: str | None = None
    """Name that the server gives its model; requests may use any."""
    keys: str | None = None
    """YAML file of keys."""
    guard: tuple[str, ...] = ()
    """Guard files. The first is everybody's; keys and requests name the others by their file name."""
    slots: PositiveInt = 32
    """Answers decoded together."""
    context: PositiveInt | None = None
    """Longest prompt and answer in tokens; none takes the model's own."""
    deadline: PositiveFloat = 300.0
    """Seconds after which a request ends with what it has."""
    queue: PositiveInt = 1024
    """Requests handled at a time; more wait at the door."""
    body: Annotated[int, Field(ge=1024, le=64 << 20)] = 4 << 20
    """Largest request in bytes."""
    template: str | None = None
    """Chat template: a built-in name or a .jinja file; none takes the one saved with the model."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""

    def run(self, context: Context | None = None) -> None:
        """Serve until interrupted."""
        import uvicorn

        context = context or Context()
        server = self.server()
        config = uvicorn.Config(
            server.app(),
            host=self.host,
            port=self.port,
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=int(min(self.deadline, 30)),
            http="h11",
            ws="none",
        )
        made = _announced()(config)
        made.say = lambda port: context.say(f"serving {server.front.name} at http://{self.host}:{port}/v1")
        made.run()

    def server(self) -> Server:
        """The server, its model loaded, not yet listening. Raises ValueError for an open address without keys."""
        keys = read_keys(self.keys)
        if not keys and not _loopback(self.host):
            raise ValueError(f"host {self.host} can be reached from other machines: give keys, or listen on 127.0.0.1")
        guards: dict[str, GuardFile] = {Path(p).stem: read_guard(p) for p in self.guard}
        for key in keys.values():
            if key.guard is not None and key.guard not in guards:
                raise ValueError(f"key {key.name}: no guard file is called {key.guard!r}; give it with --guard")
        loaded = load(assembly.resolve(self.model), template=self.template, device=device_of(self.device))
        loaded.model.eval()
        config: Any = loaded.model.config
        own = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 4096
        front = LocalFront(
            loaded,
            self.served_name or Path(self.model).name,
            min(self.context or own, own),
            guards,
            Path(self.guard[0]).stem if self.guard else None,
        )
        engine = Engine(front.sampler(self.slots), self.deadline)
        return Server(engine, front, keys, front.reads_whole, self.queue, self.body)


def read_keys(path: str | None) -> dict[str, Key]:
    """SHA-256 of each key to who it is; keys are not kept."""
    out = {}
    for i, plain in enumerate(filter(None, os.environ.get("POSTTRAIN_API_KEYS", "").split(","))):
        out[_digest(plain.strip())] = Key(f"environment {i}")
    if path is None:
        return out
    try:
        body = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        raise ValueError(f"{path}: cannot be read as YAML; write `name: {{key: secret}}`") from None
    for name, value in (body if isinstance(body, dict) else {}).items():
        if not isinstance(value, dict) or not isinstance(value.get("key"), str) or len(value["key"]) < 8:
            raise ValueError(f"{path}: {name}: needs a `key` of at least 8 characters, in quotes")
        out[_digest(value["key"])] = Key(str(name), value.get("guard"), bool(value.get("admin", False)))
    if not out:
        raise ValueError(f"{path}: holds no key; write `name: {{key: secret}}`")
    return out


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _announced() -> Any:
    """uvicorn's server, which says where it listens once it does; made late so that reading recipes does not import it."""
    import uvicorn

    class Told(uvicorn.Server):
        say: Any = None

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started and self.say is not None:
                self.say(self.servers[0].sockets[0].getsockname()[1])

    return Told
