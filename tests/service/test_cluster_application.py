"""The command's application on a Serve that is only said to be one: refused, away for a while, deleted, replaced, slow to end."""

from types import SimpleNamespace
from typing import Any

import pytest

from foundation.errors import UserError

pytest.importorskip("ray.serve", reason="needs Ray Serve: pip install -e '.[cluster]'")
from service import cluster as module
from service.cluster import Application, Asked, Replaced, _look_after, _running
from service.cluster_options import Cluster
from service.replica import DEPLOYMENT


class FakeServe:
    """Answers as Ray Serve's module does, for one application; `failing` is how many times it does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refusing: Exception | None = None) -> None:
        self.refusing, self.failing, self.deleted, self.looks = refusing, 0, list[str](), 0
        self.applications: dict[str, Any] = {}
        self.command: str | None = None
        self.at_look: dict[int, Any] = {}
        """What happens before an answer, by its number."""
        monkeypatch.setattr(module, "_deployed_by", lambda _: self.command)
        monkeypatch.setattr(module, "_LOOK_SECONDS", 0.001)
        monkeypatch.setattr(module, "_LAST_SECONDS", 0.0)

    def run_many(self, targets: Any, wait_for_applications_running: bool) -> list[str]:
        if self.refusing is not None:
            raise self.refusing
        states = SimpleNamespace(replica_states={"RUNNING": 1}, message="")
        self.applications[targets[0].name] = SimpleNamespace(status="RUNNING", message="", deployments={DEPLOYMENT: states})
        return ["handle"]

    def status(self) -> Any:
        self.looks += 1
        self.at_look.get(self.looks, lambda: None)()
        if self.failing:
            self.failing -= 1
            raise RuntimeError("the controller is starting anew")
        return SimpleNamespace(applications=dict(self.applications))

    def delete(self, name: str, _blocking: bool = True) -> None:
        assert not _blocking
        self.deleted.append(name)


def deployed(serve: FakeServe, **options: Any) -> Application:
    application = Application(serve, Cluster(**options))
    serve.command = application.command
    assert application.deploy("app") == "handle"
    return application


def test_a_path_that_another_application_has_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = RuntimeError('Prefix / is being used by application "theirs". Failed to deploy application "perception".')
    serve = FakeServe(monkeypatch, taken)
    application = Application(serve, Cluster())
    with pytest.raises(UserError, match=r"the application 'theirs' of this cluster has the path '/'.* say name: theirs"):
        application.deploy("app")
    # nothing of ours is there, but something of that name may be
    application.delete(Asked())
    assert serve.deleted == []


def test_proxies_that_do_not_come_are_one_sentence_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    serve = FakeServe(monkeypatch, TimeoutError("Proxies not available after 60s."))
    application = Application(serve, Cluster())
    with pytest.raises(UserError, match=r"Serve did not take the application \(Proxies not available after 60s"):
        application.deploy("app")
    application.delete(Asked())
    assert serve.deleted == ["perception"]


def test_a_serve_that_does_not_answer_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    serve, asked = FakeServe(monkeypatch), Asked()
    application = deployed(serve)
    serve.failing = 3
    assert _running(application, asked)
    serve.failing, serve.at_look = 3, {serve.looks + 6: asked.once.set}
    _look_after(application, asked)
    assert serve.failing == 0


def test_a_serve_that_does_not_answer_any_more_is_said_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    serve = FakeServe(monkeypatch)
    application = deployed(serve)
    application.look()
    monkeypatch.setattr(module, "_GONE_SECONDS", 0.0)
    serve.failing = 1000
    with pytest.raises(UserError, match=r"the Ray cluster is gone \(the controller is starting anew"):
        _look_after(application, Asked())


def test_an_application_that_was_deleted_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    serve = FakeServe(monkeypatch)
    application = deployed(serve)
    serve.at_look = {3: serve.applications.clear}
    with pytest.raises(UserError, match="'perception' was deleted on the cluster"):
        _running(application, Asked()) and _look_after(application, Asked())
    application.delete(Asked())
    assert serve.deleted == []


def test_an_application_that_another_command_replaced_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    serve = FakeServe(monkeypatch)
    application = deployed(serve)
    assert _running(application, Asked())
    serve.at_look = {serve.looks + 3: lambda: setattr(serve, "command", "theirs")}
    with pytest.raises(Replaced, match="'perception' was replaced on the cluster by another command"):
        _look_after(application, Asked())
    application.delete(Asked())
    assert serve.deleted == []


def test_one_that_it_replaces_itself_is_not_taken_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    serve = FakeServe(monkeypatch)
    application = deployed(serve)
    serve.command, own = "theirs", serve.command
    serve.at_look = {5: lambda: setattr(serve, "command", own)}
    assert _running(application, Asked())
    assert serve.looks == 5


def test_an_end_is_waited_for_as_long_as_replicas_may_take_and_until_asked_again(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    serve, asked = FakeServe(monkeypatch), Asked()
    serve.at_look = {5: serve.applications.clear}
    deployed(serve).delete(asked)
    assert (serve.looks, serve.deleted) == (5, ["perception"])
    assert capsys.readouterr().err == ""
    serve = FakeServe(monkeypatch)
    serve.at_look = {5: asked.again.set}
    deployed(serve, graceful_shutdown_timeout_s=3600).delete(asked)
    assert serve.looks == 5
    serve, never = FakeServe(monkeypatch), Asked()
    monkeypatch.setattr(module, "_END_SECONDS", 0.0)
    deployed(serve, graceful_shutdown_timeout_s=0).delete(never)
    assert "'perception' does not end" in capsys.readouterr().err
