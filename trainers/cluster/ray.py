"""Ray, in one place: reach or start a cluster, reserve its bundles, wait with a deadline.

A cluster started here belongs to this process and ends with it; one that was reached by address
is left as it was found, less the actors and reservations made through this object.
"""

import asyncio
import logging
import os
import secrets
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from rlnorm.errors import InputError, one_line, with_place
from rlnorm.lookup import load_object
from rlnorm.trainers.errors import RunError

Bundle = Mapping[str, float]
EventSink = Callable[[Mapping[str, Any]], None]

_QUIET = {
    "OMP_WAIT_POLICY": "passive",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class ClusterError(RunError):
    """A part of the cluster failed or kept silent past its deadline; one line, with the cause."""


class ActorLost(ClusterError):
    """The process of an actor is gone, so that a fresh one may be tried."""


class RemoteError(RuntimeError):
    """What went wrong inside an actor, as text: the driver need not import vllm to read it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """Bundles held for one group of actors."""

    group: Any
    nodes: tuple[str, ...]
    """IP address of the node that holds each bundle."""


class Host:
    """The body of every actor: builds `module:class` in its own process and forwards calls.

    The driver thus never imports vllm or deepspeed, and a failure to load comes back as the
    error of a call, with its cause, instead of as the death of an actor.
    """

    def __init__(self, target: str, options: Mapping[str, Any]) -> None:
        self._target = target
        self._options = options
        self._object: Any = None

    def build(self, **more: Any) -> None:
        """Import and construct. more: options known only by now."""
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
    """A connection to Ray. `connect` makes one; `close` undoes exactly what it did."""

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
        num_cpus: int | None = None,
        object_store_mb: int = 512,
        deadline_s: float = 60.0,
    ) -> Self:
        """Start Ray on this machine (address None) or join `host:port`, on a node of that cluster.

        num_cpus: scheduling slots of a cluster started here, not threads; None for one a core and
        at least 8. The token is RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token; a
        cluster started here makes its own where the environment has none.
        """
        os.environ.update({k: os.environ.get(k, v) for k, v in _QUIET.items()})
        options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if address is None:
            _ensure_token()
            slots = num_cpus or max(os.cpu_count() or 1, 8)
            options |= {
                "address": "local",
                "num_cpus": slots,
                "object_store_memory": object_store_mb * 2**20,
                "include_dashboard": False,
            }
        else:
            _probe(address, min(deadline_s, 10.0))
            options["address"] = address
        import ray

        if ray.is_initialized():
            raise ClusterError(f"Ray: this process is already connected to {_current(ray)}")
        _limit_handshake(deadline_s)
        # off the main thread Ray cannot take SIGTERM for itself, which is as it should be
        logging.getLogger("ray._private.worker").addFilter(_no_word_of_sigterm)
        try:
            context = ray.init(**options)
        except Exception as error:
            if address is None:
                ray.shutdown()  # ends what a failed start has left
                raise ClusterError(f"Ray: cannot start here: {_first_words(error)}") from error
            raise ClusterError(
                f"Ray: cannot use {address}: {_first_words(error)}; this must be a node of that "
                "cluster, with the head's RAY_AUTH_MODE and RAY_AUTH_TOKEN in its environment"
            ) from error
        info = context.address_info  # type: ignore[attr-defined]  # only a client would lack it
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
        strategy: str = "SPREAD",
        deadline_s: float = 60.0,
    ) -> Reservation:
        """Hold `bundles` for one group of actors, spread over (or packed into) the nodes.

        Raises ClusterError with a table of asked and present resources: at once when no node
        could ever hold a bundle, after deadline_s when they stay taken.
        """
        import ray
        from ray.util.placement_group import placement_group, placement_group_table

        nodes = [n for n in ray.nodes() if n["Alive"]]
        totals = {n["NodeManagerAddress"]: n["Resources"] for n in nodes}
        if any(not any(_holds(total, b) for total in totals.values()) for b in bundles):
            table = resource_table(bundles, totals)
            raise ClusterError(f"{what}: no node is large enough\n{table}")
        group = placement_group([dict(b) for b in bundles], strategy=strategy)
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
        """Start an actor in one bundle, for `module:class`; `build` has still to be called."""
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
        """Give the bundles of a reservation back."""
        import ray

        ray.util.remove_placement_group(reservation.group)
        self._groups.remove(reservation.group)

    def close(self) -> None:
        """End the actors and reservations made here, then Ray itself where it was started here."""
        import ray

        if ray.is_initialized():
            self.kill(list(self._actors))
            for group in self._groups:
                ray.util.remove_placement_group(group)
            self._groups.clear()
            ray.shutdown()


async def wait_for(refs: Sequence[Any], *, deadline_s: float, what: str) -> list[Any]:
    """Results of Ray calls in order. The first failure ends the wait, so that ranks stuck in a
    collective with a dead one do not hold the driver.

    Raises ActorLost when a process died, ClusterError when a call raised or time ran out.
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
        spent = time.monotonic() - started
        raise ActorLost(
            f"{what}: its process died after {spent:.0f} s: {_first_words(error)}"
        ) from error
    except ray.exceptions.RayError as error:
        raise ClusterError(f"{what}: {_first_words(error)}") from error
    finally:
        for task in waiting:
            task.cancel()


def resource_table(bundles: Sequence[Bundle], nodes: Mapping[str, Bundle]) -> str:
    """Asked bundles and what each node has, as lines."""
    kinds = sorted({k for b in bundles for k in b})
    asked: dict[tuple[float, ...], int] = {}
    for bundle in bundles:
        key = tuple(bundle.get(k, 0.0) for k in kinds)
        asked[key] = asked.get(key, 0) + 1
    rows = [(f"asked {count} x", key) for key, count in asked.items()]
    rows += [(f"node {ip}", tuple(n.get(k, 0.0) for k in kinds)) for ip, n in nodes.items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(
        f"  {name:<{width}}  " + "  ".join(f"{k} {v:g}" for k, v in zip(kinds, key, strict=True))
        for name, key in rows
    )


def _first_words(error: BaseException) -> str:
    """An error of Ray's own, which may run over pages: at most 400 characters."""
    return one_line(error)[:400]


@contextmanager
def _as_text() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        traceback.print_exc()  # into the actor's own log
        told = one_line(error) if isinstance(error, InputError) else with_place(error)
        raise RemoteError(told) from None


def _holds(node: Bundle, bundle: Bundle) -> bool:
    return all(node.get(k, 0.0) >= v for k, v in bundle.items())


def _current(ray: Any) -> str:
    return str(ray.get_runtime_context().gcs_address)


def _no_word_of_sigterm(record: logging.LogRecord) -> bool:
    return "SIGTERM handler is not set" not in record.getMessage()


def _ensure_token() -> None:
    """Token authentication for a cluster started here, unless RAY_AUTH_MODE says otherwise, with a
    token of its own where the environment names none."""
    if "ray" not in sys.modules:
        # Ray reads the mode once, at import; imported without it, it turns this mode on itself
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
            "head with `ray start --head` or leave the address out to start one here"
        ) from error


def _limit_handshake(deadline_s: float) -> None:
    """Ray's own limit on reaching the head's store, read when it connects."""
    os.environ.setdefault("RAY_gcs_server_request_timeout_seconds", str(int(deadline_s)))
    os.environ.setdefault("RAY_gcs_rpc_server_connect_timeout_s", str(int(deadline_s)))
