"""Access to Ray: start or join a cluster, reserve bundles, wait with a deadline.

A cluster started here ends with this process. A cluster joined by its address keeps running; only
the actors and reservations made here end.
"""

import asyncio
import logging
import os
import secrets
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from rlnorm.errors import InputError, one_line, with_place
from rlnorm.lookup import load_object
from rlnorm.trainers.errors import RunError

Bundle = Mapping[str, float]
EventHandler = Callable[[Mapping[str, Any]], None]

_QUIET = {
    "OMP_WAIT_POLICY": "passive",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class ClusterError(RunError):
    """A part of the cluster failed or did not answer within its deadline; one line, with cause."""


class ActorLost(ClusterError):
    """The process of an actor died, so a new one may be started."""


class RemoteError(RuntimeError):
    """An error inside an actor as text, so that the driver can read it without importing vllm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """Bundles held for one group of actors."""

    group: Any
    nodes: tuple[str, ...]
    """IP address of each bundle's node."""


class Host:
    """The class of every actor: builds an object of `module:class` and forwards calls to it.

    The driver therefore never imports vllm or deepspeed, and a failure to load is returned as the
    error of a call, with its cause, instead of killing the actor.
    """

    def __init__(self, target: str, options: Mapping[str, Any]) -> None:
        self._target = target
        self._options = options
        self._object: Any = None

    def build(self, **more: Any) -> None:
        """Import and construct. more: options that were not known when the actor was created."""
        with _as_text():
            self._object = load_object(self._target, "actor")(**self._options, **more)

    def pid(self) -> int:
        """Process id, for diagnosis."""
        return os.getpid()

    def free_port(self) -> int:
        """A port that was free on this node a moment ago."""
        with socket.socket() as s:
            s.bind(("", 0))
            return int(s.getsockname()[1])

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the object."""
        with _as_text():
            return getattr(self._object, method)(*args, **kwargs)


class Cluster:
    """A connection to Ray, made by `connect`; `close` ends everything that was started here."""

    def __init__(self, address: str, owned: bool) -> None:
        self.address = address
        self.owned = owned
        self._groups: list[Any] = []
        self._actors: list[Any] = []

    @classmethod
    def connect(
        cls,
        *,
        address: str | None = None,
        object_store_mb: int = 512,
        deadline_s: float = 60.0,
    ) -> Self:
        """Start Ray on this machine (address None) or join `host:port`, on a node of that cluster.

        The token is RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token; a cluster started
        here creates one if the environment has none.
        """
        os.environ.update({k: os.environ.get(k, v) for k, v in _QUIET.items()})
        options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if address is None:
            _ensure_token()
            options |= {
                "address": "local",
                "num_cpus": max(os.cpu_count() or 1, 8),  # scheduling slots, not threads
                "object_store_memory": object_store_mb * 2**20,
                "include_dashboard": False,
            }
        else:
            _probe(address, min(deadline_s, 10.0))
            options["address"] = address
        import ray

        if ray.is_initialized():
            current = ray.get_runtime_context().gcs_address
            raise ClusterError(f"Ray: this process is already connected to {current}")
        # Ray's own limits for reaching the head, read when it connects
        os.environ.setdefault("RAY_gcs_server_request_timeout_seconds", str(int(deadline_s)))
        os.environ.setdefault("RAY_gcs_rpc_server_connect_timeout_s", str(int(deadline_s)))
        # outside the main thread Ray warns that it cannot handle SIGTERM, which is intended
        logging.getLogger("ray._private.worker").addFilter(_not_about_sigterm)
        try:
            context = ray.init(**options)
        except Exception as error:
            if address is None:
                ray.shutdown()  # ends processes that a failed start has left
                raise ClusterError(f"Ray: cannot start here: {_first_words(error)}") from error
            raise ClusterError(
                f"Ray: cannot use {address}: {_first_words(error)}; this must be a node of that "
                "cluster, with the head's RAY_AUTH_MODE and RAY_AUTH_TOKEN in its environment"
            ) from error
        info = context.address_info  # type: ignore[attr-defined]  # only Ray's client lacks it
        return cls(str(info["address"]), owned=address is None)

    @property
    def gpus(self) -> float:
        """GPUs of all nodes."""
        import ray

        return float(ray.cluster_resources().get("GPU", 0.0))

    def reserve(
        self,
        bundles: Sequence[Bundle],
        *,
        what: str,
        deadline_s: float = 60.0,
    ) -> Reservation:
        """Reserve `bundles` for one group of actors, spread over the nodes.

        Raises ClusterError with a table of requested and available resources: immediately when no
        node is large enough for a bundle, after deadline_s when the resources stay in use.
        """
        import ray
        from ray.util.placement_group import placement_group, placement_group_table

        nodes = [n for n in ray.nodes() if n["Alive"]]
        totals = {n["NodeManagerAddress"]: n["Resources"] for n in nodes}
        if any(not any(_holds(total, b) for total in totals.values()) for b in bundles):
            table = resource_table(bundles, totals)
            raise ClusterError(f"{what}: no node is large enough\n{table}")
        group = placement_group([dict(b) for b in bundles], strategy="SPREAD")
        if not group.wait(timeout_seconds=deadline_s):
            ray.util.remove_placement_group(group)
            free = ray._private.state.available_resources_per_node()
            present = {n["NodeManagerAddress"]: free.get(n["NodeID"], {}) for n in nodes}
            table = resource_table(bundles, present)
            raise ClusterError(f"{what}: not placed after {deadline_s:.0f} s\n{table}")
        self._groups.append(group)
        by_id = {n["NodeID"]: n["NodeManagerAddress"] for n in nodes}
        placed = placement_group_table(group)["bundles_to_node_id"]
        return Reservation(group=group, nodes=tuple(by_id[placed[i]] for i in range(len(bundles))))

    def spawn(
        self,
        target: str,
        options: Mapping[str, Any],
        *,
        reservation: Reservation,
        bundle: int,
        env: Mapping[str, str],
    ) -> Any:
        """Start an actor for `module:class` in one bundle; its `build` must be called next."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        held = reservation.group.bundle_specs[bundle]
        strategy = PlacementGroupSchedulingStrategy(
            placement_group=reservation.group, placement_group_bundle_index=bundle
        )
        quiet = {k: v for k, v in _QUIET.items() if not k.startswith("RAY_")}
        actor = (
            ray.remote(Host)
            .options(
                num_cpus=held.get("CPU", 0),
                num_gpus=held.get("GPU", 0),
                scheduling_strategy=strategy,
                runtime_env={"env_vars": quiet | dict(env)},
            )
            .remote(target, dict(options))
        )
        self._actors.append(actor)
        return actor

    def kill(self, actors: Sequence[Any]) -> None:
        """End the processes of actors made by `spawn`."""
        import ray

        for actor in actors:
            ray.kill(actor, no_restart=True)
            self._actors.remove(actor)

    def release(self, reservation: Reservation) -> None:
        """Return the bundles of a reservation to the cluster."""
        import ray

        ray.util.remove_placement_group(reservation.group)
        self._groups.remove(reservation.group)

    def close(self) -> None:
        """End the actors and reservations made here, and Ray itself if it was started here."""
        import ray

        if ray.is_initialized():
            self.kill(list(self._actors))
            for group in self._groups:
                ray.util.remove_placement_group(group)
            self._groups.clear()
            ray.shutdown()


async def wait_for(refs: Sequence[Any], *, deadline_s: float, what: str) -> list[Any]:
    """Results of Ray calls in order. The first failure ends the wait, so that the driver does not
    wait for ranks that are stuck in a collective with a dead rank.

    Raises ActorLost if a process died, ClusterError if a call failed or the deadline passed.
    """
    import ray

    waiting = [asyncio.ensure_future(asyncio.wrap_future(ref.future())) for ref in refs]
    started = time.monotonic()
    try:
        done, pending = await asyncio.wait(
            waiting, timeout=deadline_s, return_when=asyncio.FIRST_EXCEPTION
        )
        for task in done:
            task.result()
        if pending:
            raise ClusterError(
                f"{what}: no answer from {len(pending)} of {len(refs)} after {deadline_s:.0f} s"
            )
        return [task.result() for task in waiting]
    except ray.exceptions.RayTaskError as error:
        remote = isinstance(error.cause, RemoteError)
        cause = str(error.cause) if remote else one_line(error.cause)
        raise ClusterError(f"{what}: {cause}") from error
    except ray.exceptions.RayActorError as error:
        cause = f"its process died after {time.monotonic() - started:.0f} s: {_first_words(error)}"
        raise ActorLost(f"{what}: {cause}") from error
    except ray.exceptions.RayError as error:
        raise ClusterError(f"{what}: {_first_words(error)}") from error
    finally:
        for task in waiting:
            task.cancel()


def resource_table(bundles: Sequence[Bundle], nodes: Mapping[str, Bundle]) -> str:
    """The requested bundles and the resources of each node, as lines."""
    kinds = sorted({k for b in bundles for k in b})
    asked = Counter(tuple(b.get(k, 0.0) for k in kinds) for b in bundles)
    rows = [(f"asked {count} x", key) for key, count in asked.items()]
    rows += [(f"node {ip}", tuple(n.get(k, 0.0) for k in kinds)) for ip, n in nodes.items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(
        f"  {name:<{width}}  " + "  ".join(f"{k} {v:g}" for k, v in zip(kinds, key, strict=True))
        for name, key in rows
    )


def _first_words(error: BaseException) -> str:
    """The first 400 characters of an error of Ray, which may be very long."""
    return one_line(error)[:400]


@contextmanager
def _as_text() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        traceback.print_exc()  # into the actor's own log
        text = one_line(error) if isinstance(error, InputError) else with_place(error)
        raise RemoteError(text) from None


def _holds(node: Bundle, bundle: Bundle) -> bool:
    return all(node.get(k, 0.0) >= v for k, v in bundle.items())


def _not_about_sigterm(record: logging.LogRecord) -> bool:
    return "SIGTERM handler is not set" not in record.getMessage()


def _ensure_token() -> None:
    """Use token authentication for a cluster started here, unless RAY_AUTH_MODE says otherwise,
    with a new token if the environment has none."""
    if "ray" not in sys.modules:
        # Ray reads the mode once, at import; if it was imported without, it uses tokens anyway
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "RAY_AUTH_TOKEN" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _probe(address: str, deadline_s: float) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"cluster.address = {address!r}: expected host:port of a Ray head node")
    try:
        socket.create_connection((host, int(port)), timeout=deadline_s).close()
    except OSError as error:
        raise InputError(
            f"cluster.address = {address!r}: nothing answers there ({one_line(error)}); start the "
            "head with `ray start --head`, or leave out the address to start a cluster here"
        ) from error
