"""A replica by itself, without Ray: which encoder is well, and what `serve deploy` is not given."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from service.core import Service
from service.errors import ServiceError
from service.models import Models
from service.options import Limits, Serve
from service.replica import Replica
from tests.fixtures.service import with_limits


async def replica_of(folder: Path, limits: Limits) -> Replica:
    """Return a replica as it is once Serve has started it, in this process, which its own start would change."""
    made = Replica.__new__(Replica)
    made.options = Serve(runs=(folder,), limits=limits)
    made.service = Service(Models([folder], "cpu"), limits, "exact", asyncio.get_running_loop())
    return made


@pytest.mark.parametrize("rows", [4096, 1], ids=["waits", "refused"])
def test_a_replica_whose_encoder_hangs_is_not_well(rows: int, small_encoders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        replica = await replica_of(small_encoders["plain"], with_limits(answer_seconds=0.4, rows=rows))
        await replica.check_health()
        go_on = threading.Event()
        loaded = replica.service.models.served["plain"].loaded
        monkeypatch.setattr(loaded, "encode", lambda *_: go_on.wait(60))
        try:
            # what the encoder hangs at, and what waits behind it
            hung = []
            while replica.service.encoder.batch_seconds < 0.3:
                hung.append(asyncio.ensure_future(replica.service.encode_nothing()))
                await asyncio.sleep(0.1)
            hung.append(asyncio.ensure_future(replica.service.encode_nothing()))
            await asyncio.sleep(0)
            with pytest.raises(ServiceError) as told:
                await replica.check_health()
            assert told.value.status == (504 if rows > 1 else 503)
            await asyncio.gather(*hung, return_exceptions=True)
        finally:
            go_on.set()
            replica.service.close()

    asyncio.run(check())


def test_a_replica_that_has_too_much_to_do_is_well(small_encoders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        replica = await replica_of(small_encoders["plain"], with_limits(answer_seconds=60.0, rows=1))
        go_on = threading.Event()
        loaded = replica.service.models.served["plain"].loaded
        encode = loaded.encode

        def slow(*given: Any) -> Any:
            go_on.wait(60)
            return encode(*given)

        monkeypatch.setattr(loaded, "encode", slow)
        waiting = [asyncio.ensure_future(replica.service.encode_nothing()) for _ in range(2)]
        while replica.service.encoder.batch_seconds == 0 or not replica.service.encoder.waiting_rows:
            await asyncio.sleep(0.01)
            waiting.append(asyncio.ensure_future(replica.service.encode_nothing()))
        with pytest.raises(ServiceError, match="rows wait"):
            await replica.service.encode_nothing()
        await replica.check_health()
        go_on.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        replica.service.close()

    asyncio.run(check())
