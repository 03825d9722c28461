"""The service on Ray Serve: replicas on a Ray of this machine or on a cluster, from the command's start to its end."""

import logging
import math
import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

import torch

from foundation.environment import environment_variables
from foundation.errors import UserError, in_one_line
from foundation.local_ray import local_ray
from foundation.progress import say
from foundation.ray_cluster import connected
from service.cluster_options import Cluster
from service.models import Models
from service.options import Serve
from service.replica import COMMAND, DEPLOYMENT, ingress, placed
from service.server import listen
from service.tokens import Tokens
from service.upkeep import say_served

_LOOK_SECONDS = 0.5
_WAIT_SECONDS = 20.0
"""After which it is said that there is no room for the replicas yet."""
_GONE_SECONDS = 45.0
"""For which Serve may give no answer, as while its controller starts anew."""
_END_SECONDS = 15.0
"""For which Serve may take longer than the replicas have."""
_PREFIX_USED = re.compile(r'is being used by application "([^"]*)"')
_LAST_SECONDS = 0.3
"""How long the proxies have for the last bytes of answers."""
_ON_ONE_MACHINE = {
    # what opens ports on every interface, and Serve's lines in the middle of ours
    "RAY_SERVE_ENABLE_HA_PROXY": "0",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
}


class Asked:
    """Whether, and how often, the command was asked to end."""

    def __init__(self) -> None:
        self.once, self.again = threading.Event(), threading.Event()

    def heed(self, number: int, frame: FrameType | None) -> None:
        (self.again if self.once.is_set() else self.once).set()


def serve_on_cluster(options: Serve, cluster: Cluster, tokens: Tokens) -> None:
    """Serve from replicas until SIGTERM or SIGINT; raises `UserError` for what cannot be loaded, started or reached."""
    torch.set_num_threads(options.threads)
    options = _listening(options)
    app_options = placed(options, cluster)
    # what is wrong with a folder is said at once, and not by a replica's traceback
    models = Models(options.runs, "cpu")
    # Ray has handlers of its own once it runs
    with _ray(options, cluster), _signals() as asked:
        application = Application(_started(options, cluster), cluster)
        try:
            handle = application.deploy(ingress(app_options, tokens, cluster, options.ray.address is None, application.command))
            answers = _running(application, asked)
            if answers:
                say_served(options, models, options.port, app_options.device)
                del models
                _look_after(application, asked)
            # another command may have replaced it just now
            application.look()
            if answers:
                _drain(handle, options, asked)
        except Replaced as error:
            say(str(error))
        finally:
            application.delete(asked)


@contextmanager
def _ray(options: Serve, cluster: Cluster) -> Iterator[None]:
    """Have a Ray for the time of the block: the user's, or one of this machine with room for all replicas."""
    with ExitStack() as stack:
        if options.ray.address is not None:
            stack.enter_context(connected(options.ray.address))
        else:
            cores = len(os.sched_getaffinity(0))
            if cluster.num_cpus > cores:
                raise UserError(f"a replica asks for {cluster.num_cpus:g} CPUs; this machine has {cores} cores: lower num_cpus")
            stack.enter_context(environment_variables(_ON_ONE_MACHINE))
            stack.enter_context(local_ray(math.ceil(cluster.num_cpus * cluster.most_replicas)))
            _check_gpus(cluster)
        yield


def _check_gpus(cluster: Cluster) -> None:
    import ray

    there, wanted = ray.cluster_resources().get("GPU", 0.0), cluster.num_gpus * cluster.most_replicas
    if wanted > there:
        raise UserError(f"the replicas ask for {wanted:g} GPUs; this machine has {there:g}: lower num_gpus, or the number of replicas")


def _listening(options: Serve) -> Serve:
    """Return the options with a port that is free on this machine, where the Ray is of this machine."""
    if options.ray.address is not None:
        return options
    with listen(options.host, options.port) as found:
        return replace(options, port=found.getsockname()[1])


def _started(options: Serve, cluster: Cluster) -> Any:
    """Start Serve, which listens for the replicas, and return its module."""
    from ray import serve
    from ray.serve.context import _get_global_client

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    files = {"ssl_certfile": options.certificate, "ssl_keyfile": options.key}
    tls = {name: os.path.abspath(path) for name, path in files.items() if path is not None}
    wanted = {"host": options.host, "port": options.port, **tls}
    others = {"keep_alive_timeout_s": int(options.limits.idle_seconds)}
    try:
        serve.start(proxy_location=cluster.proxy_location, http_options={**wanted, **others}, logging_config={"enable_access_log": False})
    except Exception as error:  # of many kinds, bare ones too
        raise UserError(f"Ray Serve did not start ({in_one_line(error, 300)})") from error
    # one that runs already goes on as it was started: on every interface, perhaps, and without TLS
    client: Any = _get_global_client()
    found = client.http_config
    if other := [name for name in (*wanted, "ssl_certfile", "ssl_keyfile") if getattr(found, name) != wanted.get(name)]:
        has = ", ".join(f"{name} {getattr(found, name)}" for name in other)
        raise UserError(f"Ray Serve runs on this cluster already, with {has}: give the same options, or run: serve shutdown")
    return serve


class Replaced(UserError):
    """Another command's application has taken the place of this one's."""


class Application:
    """This command's application on Serve, for as long as nobody deletes or replaces it."""

    def __init__(self, serve: Any, cluster: Cluster) -> None:
        self._serve, self.cluster, self._name = serve, cluster, cluster.name
        self.command = secrets.token_hex(8)
        """Stands for this command in what is deployed: Serve itself does not tell who deployed it."""
        self.there = False
        """Whether Serve has begun with it; before, it may still tell of one that this one replaces."""
        self._is_own = False
        self._answered = 0.0

    def deploy(self, app: Any) -> Any:
        """Deploy it and return its handle; raise `UserError` where Serve does not take it."""
        from ray.serve.api import RunTarget

        self._is_own, self._answered = True, time.monotonic()
        try:
            # not `serve.run`, which says nothing while it waits for room
            return self._serve.run_many([RunTarget(app, self._name)], wait_for_applications_running=False)[0]
        except Exception as error:  # of many kinds
            if other := _PREFIX_USED.search(str(error)):
                self._is_own = False
                has = f"the application '{in_one_line(other[1])}' of this cluster has the path '/' that this one needs"
                raise UserError(f"{has}: say name: {in_one_line(other[1])} to replace it, or end it (serve shutdown ends all)") from error
            # of what a task has raised, the text is all of its traceback
            raise UserError(f"Serve did not take the application ({in_one_line(getattr(error, 'cause', None) or error, 300)})") from error

    def look(self) -> Any:
        """Return what Serve says of it; None where Serve does not answer just now.

        Raises `Replaced`, and `UserError` where it was deleted or Serve has not answered for long.
        """
        try:
            found = self._serve.status().applications.get(self._name)
            command = None if found is None or DEPLOYMENT not in found.deployments else _deployed_by(self._name)
        except Exception as error:  # of many kinds, as the cluster goes; from a lost controller Serve recovers
            if time.monotonic() > self._answered + _GONE_SECONDS:
                raise UserError(f"the Ray cluster is gone ({in_one_line(error)})") from error
            return None
        self._answered = time.monotonic()
        if found is None or found.status == "DELETING":
            self._is_own = False
            raise UserError(f"'{self._name}' was deleted on the cluster, by another command perhaps")
        self.there = self.there or command == self.command
        if self.there and command != self.command:
            self._is_own = False
            raise Replaced(f"'{self._name}' was replaced on the cluster by another command")
        return found

    def delete(self, asked: Asked) -> None:
        """Delete it where it is this command's, and wait until its replicas have answered what they hold; a second signal does not wait."""
        if not self._is_own:
            return
        end = time.monotonic() + self.cluster.graceful_shutdown_timeout_s + _END_SECONDS
        try:
            # one that waits does so for a minute, whatever the replicas may take
            self._serve.delete(self._name, _blocking=False)
            while self._name in self._serve.status().applications and not asked.again.wait(_LOOK_SECONDS):
                if time.monotonic() > end:
                    say(f"'{self._name}' does not end; `serve status` says why")
                    break
            time.sleep(_LAST_SECONDS)
        except Exception as error:  # the cluster may be what has ended
            say(f"'{self._name}' could not be deleted ({in_one_line(error)})")


def _deployed_by(name: str) -> str | None:
    """Return what stands for the command that deployed the application; None where it was deployed otherwise."""
    from ray.serve.context import _get_global_client

    client: Any = _get_global_client()
    told = client.get_deployment_info(DEPLOYMENT, name)[0].deployment_config.user_config
    return told.get(COMMAND) if isinstance(told, dict) else None


def _running(application: Application, asked: Asked) -> bool:
    """Wait until the replicas answer, or the command is asked to end before; tell whether they do."""
    begun, told = time.monotonic(), False
    while not asked.once.wait(_LOOK_SECONDS):
        found, cluster = application.look(), application.cluster
        if found is not None and found.status == "RUNNING" and application.there:
            return True
        if found is not None and found.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise UserError(f"the replicas cannot start: {_reason(found)}")
        if not told and time.monotonic() > begun + _WAIT_SECONDS:
            told = True
            needs = f"num_cpus {cluster.num_cpus:g}, num_gpus {cluster.num_gpus:g}"
            say(f"waiting for replicas ({needs} each); `ray status` says what the cluster has")
    return False


def _reason(found: Any) -> str:
    """Return what Serve says, or the last line of the replica's own error in it."""
    text = " ".join(one.message for one in found.deployments.values()) or found.message
    errors = [line for line in text.splitlines() if "Error: " in line]
    return in_one_line(errors[-1].partition("Error: ")[2] if errors else text, 300)


def _look_after(application: Application, asked: Asked) -> None:
    """Tell of replicas that come and go until the command is asked to end."""
    answering = None
    while not asked.once.wait(_LOOK_SECONDS):
        found = application.look()
        if found is None:
            continue
        states = found.deployments[DEPLOYMENT].replica_states
        count = states.get("RUNNING", 0)
        if answering is not None and count != answering:
            say(f"{count} replica{'' if count == 1 else 's'} answer{'s' if count == 1 else ''}, of {sum(states.values())}")
        answering = count


def _drain(handle: Any, options: Serve, asked: Asked) -> None:
    """Have every replica be not ready any more, go on for a while, then answer what was accepted; a second signal does not wait."""
    try:
        handle.broadcast("drain").results(timeout_s=options.limits.answer_seconds, return_exceptions=True)
        asked.again.wait(options.drain_seconds)
        if not asked.again.is_set():
            handle.broadcast("close").results(timeout_s=options.limits.answer_seconds, return_exceptions=True)
    except Exception as error:  # a replica that dies meanwhile has nothing left to answer
        say(f"not all replicas could be asked to end ({in_one_line(error)})")


@contextmanager
def _signals() -> Iterator[Asked]:
    asked = Asked()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, asked.heed) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
