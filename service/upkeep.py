"""What a process that serves does beside answering, whatever server its application runs on."""

import asyncio
import gc
import sys
import warnings

import torch

from foundation.errors import UserError
from foundation.progress import say
from service.core import Service
from service.models import Models
from service.options import Serve

_SWITCH_SECONDS = 0.0005
"""How long the event loop may keep the encoder's thread waiting for the interpreter."""
_IDLE_SECONDS = 60.0


def prepare_process() -> None:
    """Set this process up for serving: short turns of its threads, and no warnings of what is meant."""
    # what clients send is read where it came, and never written to
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    sys.setswitchinterval(_SWITCH_SECONDS)
    # thousands of modules that never go away need not be looked through again and again
    gc.freeze()


async def watch(service: Service, seconds: float) -> None:
    """Look for new weights every so many seconds (0: never), and end sequences that nobody uses; until cancelled."""
    while True:
        await asyncio.sleep(seconds or _IDLE_SECONDS)
        service.sessions.end_idle()
        if seconds:
            await asyncio.get_running_loop().run_in_executor(None, service.models.reload_changed)


def device_of(name: str) -> str:
    """Return the device of an option; `auto` is CUDA where there is one."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.device(name)
    except RuntimeError as error:
        raise UserError(f"no device '{name}': use auto, cpu or cuda") from error
    return name


def say_served(options: Serve, models: Models, port: int, device: str) -> None:
    """Print the address of each encoder, and where it computes."""
    scheme = "http" if options.certificate is None else "https"
    for name, served in models.served.items():
        parts = f"{served.loaded.frozen.parameter_count:,} parameters, {options.batching} batches, {device}"
        say(f"{scheme}://{url_host(options.host)}:{port}/{name}: a '{served.loaded.info.name}' with {parts}")


def url_host(host: str) -> str:
    """Return a host as it stands in an address."""
    return f"[{host}]" if ":" in host else host
