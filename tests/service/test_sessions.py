"""Memory that the service keeps: limited, never shared, and never a fresh state in disguise."""

import asyncio
import sys
import threading

import numpy as np
import pytest

from service.errors import ServiceError
from service.sessions import Sessions
from service.tokens import Tokens
from tests.fixtures.service import Client, random_frames, save_small, with_limits

DIGEST = b"12345678"
TOKENS = ("first-token-of-all", "second-token-of-all")


def key(name, owner="", model="memory"):
    return owner, model, name


def rows(count=1, size=100, value=0):
    return np.full((count, size), value, np.uint8)


@pytest.fixture
def clock():
    return [0.0]


def make(clock, most=10, most_bytes=10**6, idle=900.0):
    return Sessions(most, most_bytes, idle, lambda: clock[0])


def test_a_sequence_that_is_unknown_ended_or_idle_is_an_error(clock):
    sessions = make(clock)
    with pytest.raises(ServiceError, match="sequence 7 to model 'memory' must specify the START flag on the first request of the sequence"):
        sessions.find(key(7), DIGEST)
    session = sessions.start(key(7), rows(), DIGEST)
    assert sessions.find(key(7), DIGEST) is session
    sessions.end(key(7), session)
    with pytest.raises(ServiceError, match="START"):
        sessions.find(key(7), DIGEST)
    sessions.start(key(7), rows(), DIGEST)
    clock[0] = 899
    sessions.find(key(7), DIGEST)
    clock[0] = 1799.5
    with pytest.raises(ServiceError, match="START"):
        sessions.find(key(7), DIGEST)
    assert (len(sessions), sessions.bytes) == (0, 0)


def test_one_in_use_does_not_keep_idle_ones_alive(clock):
    sessions = make(clock)
    for name in (1, 2, 3):
        sessions.start(key(name), rows(), DIGEST)
    clock[0] = 500
    sessions.find(key(1), DIGEST)
    clock[0] = 1000
    sessions.end_idle()
    assert len(sessions) == 1
    sessions.find(key(1), DIGEST)


def test_a_sequence_of_other_weights_is_an_error(clock):
    sessions = make(clock)
    sessions.start(key(7), rows(), DIGEST)
    with pytest.raises(ServiceError, match=f"START.*{DIGEST.hex()}.*{b'abcdefgh'.hex()}"):
        sessions.find(key(7), b"abcdefgh")
    with pytest.raises(ServiceError, match="START"):
        sessions.find(key(7), DIGEST)


def test_there_are_at_most_so_many_and_so_large(clock):
    sessions = make(clock, most=2, most_bytes=350)
    for name in (1, 2):
        sessions.start(key(name), rows(), DIGEST)
    with pytest.raises(ServiceError, match="2 sequences are open") as refused:
        sessions.start(key(3), rows(), DIGEST)
    assert (refused.value.status, refused.value.retry_after) == (503, 1)
    with pytest.raises(ServiceError, match="hold 200 bytes"):
        sessions.start(key(2), rows(3), DIGEST)
    sessions.start(key(2), rows(2), DIGEST)
    assert sessions.bytes == 300


def test_whose_id_it_is_and_of_which_kind_matters(clock):
    sessions = make(clock)
    names = [key(1), key("1"), key(1, "a"), key(1, "b"), key(1, "a", "other")]
    for index, name in enumerate(names):
        sessions.start(name, rows(value=index), DIGEST)
    assert [int(sessions.find(name, DIGEST).rows[0, 0]) for name in names] == list(range(5))


def test_what_is_kept_is_a_copy_as_large_as_its_rows(clock):
    sessions = make(clock)
    batch = rows(64, 5393)
    session = sessions.start(key(1), batch[:1], DIGEST)
    sessions.keep(key(1), session, batch[3:4] + 7)
    assert session.rows.base is None
    assert session.rows.nbytes == 5393
    assert (session.rows == 7).all()


def test_a_thousand_sequences_of_cwvae_tiny_hold_less_than_twice_their_states(clock):
    sessions = make(clock, most=1000, most_bytes=10**9)
    batch = rows(64, 5393)
    for name in range(1000):
        session = sessions.start(key(name), batch[:1], DIGEST)
        sessions.keep(key(name), session, batch[5:6])
    held = sum(
        sys.getsizeof(session.rows) + sys.getsizeof(session) + sys.getsizeof(session.__dict__) + 200
        for session in sessions._sessions.values()
    )
    assert held < 2 * 5.4e6


def test_requests_of_one_sequence_are_answered_in_turn(start_service, small_encoders):
    running = start_service(small_encoders["memory"])
    one, frames = Client(running.port), [random_frames(1, seed=step) for step in range(6)]
    expected = [one.infer("memory", None, {"sequence_id": 1, "sequence_start": step == 0}, frames=frames[step]) for step in range(6)]
    assert len({found["latents"].tobytes() for found in expected}) == 6
    # two clients race with the same frame: one of both is second, and none is lost
    others = [Client(running.port) for _ in range(2)]
    others[0].infer("memory", None, {"sequence_id": 2, "sequence_start": True}, frames=frames[0])
    got = [None, None]

    def ask(index):
        got[index] = others[index].infer("memory", None, {"sequence_id": 2}, frames=frames[1])["latents"]

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(np.array_equal(expected[1]["latents"], one_of_both) for one_of_both in got) == 1


def test_a_start_that_failed_leaves_no_sequence(start_service, small_encoders):
    running = start_service(small_encoders["told"])
    client, frames = Client(running.port), random_frames(1)
    start = {"sequence_id": 1, "sequence_start": True}
    status, _, _ = client.try_infer("told", None, {**start, "batching": "none"}, frames=frames)
    assert status == 400
    status, _, answer = client.try_infer("told", None, {"sequence_id": 1}, frames=frames, action=np.zeros((1, 3), np.float32))
    assert (status, "START" in answer["error"]) == (400, True)


def test_rows_may_not_change_within_a_sequence_and_the_sequence_survives_the_try(client):
    name = {"sequence_id": "rows"}
    client.infer("memory", None, {**name, "sequence_start": True}, frames=random_frames(2))
    status, _, answer = client.try_infer("memory", None, name, frames=random_frames(3))
    assert (status, answer["error"]) == (400, "this sequence has 2 rows, got 3; start it anew to change that")
    assert client.infer("memory", None, name, frames=random_frames(2))["latents"].shape == (2, 20)


def test_two_tokens_with_one_sequence_id_do_not_meet(start_service, small_encoders):
    running = start_service(small_encoders["memory"], tokens=Tokens(TOKENS))
    first, second = (Client(running.port, token) for token in TOKENS)
    frames = [random_frames(1, seed=step) for step in range(3)]
    start = {"sequence_id": 1, "sequence_start": True}
    first.infer("memory", None, start, frames=frames[0])
    assert second.try_infer("memory", None, {"sequence_id": 1}, frames=frames[0])[0] == 400
    second.infer("memory", None, start, frames=frames[1])
    a = first.infer("memory", None, {"sequence_id": 1}, frames=frames[2])["latents"]
    alone = Client(running.port, TOKENS[0])
    for step in (0, 2):
        expected = alone.infer("memory", None, {"sequence_id": 2, "sequence_start": step == 0}, frames=frames[step])["latents"]
    np.testing.assert_array_equal(a, expected)


def test_new_weights_end_the_sequences_of_the_old_ones(start_service, tmp_path):
    folder = save_small("cwvae_debug", tmp_path / "memory")
    running = start_service(folder)
    client = Client(running.port)
    kept = client.infer("memory", frames=random_frames(1))["state"]
    client.infer("memory", None, {"sequence_id": 1, "sequence_start": True}, frames=random_frames(1))
    before = client.get("/v2/models/memory")["properties"]["weights_sha256"]
    save_small("cwvae_debug", folder, seed=1)
    running.service.models.reload_changed()
    after = client.get("/v2/models/memory")["properties"]["weights_sha256"]
    assert before != after
    status, _, answer = client.try_infer("memory", None, {"sequence_id": 1}, frames=random_frames(1))
    assert status == 400
    assert all(text in answer["error"] for text in ("START", before[:16], after[:16]))
    status, _, answer = client.try_infer("memory", frames=random_frames(1), state=kept)
    assert status == 400
    assert all(digest[:16] in answer["error"] for digest in (before, after))


def test_the_limit_on_sequences_is_told(start_service, small_encoders):
    running = start_service(small_encoders["memory"], limits=with_limits(sequences=1))
    client = Client(running.port)
    client.infer("memory", None, {"sequence_id": 1, "sequence_start": True}, frames=random_frames(1))
    status, headers, _ = client.try_infer("memory", None, {"sequence_id": 2, "sequence_start": True}, frames=random_frames(1))
    assert (status, headers["Retry-After"]) == (503, "1")
    client.infer("memory", None, {"sequence_id": 1, "sequence_end": True}, frames=random_frames(1))
    client.infer("memory", None, {"sequence_id": 2, "sequence_start": True}, frames=random_frames(1))


def test_a_turn_that_is_waited_for_ends_with_its_sequence(clock):
    sessions = make(clock)

    async def scene():
        session = sessions.start(key(1), rows(2), DIGEST)
        await session.turn.acquire()
        again = sessions.find(key(1), DIGEST)
        sessions.end(key(1), session)
        with pytest.raises(ServiceError, match="has ended"):
            again.check(key(1), 2)

    asyncio.run(scene())
