"""How fast `minerl.data` serves a data root, for `benchmarks/frames.py`; run by an interpreter with minerl 0.4.4 in it.

python benchmarks/minerl_batches.py ROOT ENVIRONMENT BATCH_SIZE BUFFER CLIP_LENGTH
Prints one line of JSON: transitions/s with and without decoding, frames/s of clips, and the SHA-256 of every recording's frames.
"""

import hashlib
import json
import os
import sys
import time

import minerl
from minerl.data import BufferedBatchIter


def main() -> None:
    root, environment = sys.argv[1:3]
    batch_size, buffer, clip_length = map(int, sys.argv[3:])
    pipeline = minerl.data.make(environment, root, num_workers=1)
    found = {
        "an epoch": epoch(pipeline, batch_size, buffer),
        "from its buffer": from_buffer(pipeline, batch_size),
        "clips": clips(pipeline, clip_length),
        "content": {name: content(pipeline, name) for name in pipeline.get_trajectory_names()},
    }
    print(json.dumps(found), flush=True)
    # its pool of processes may keep an interpreter from ending
    os._exit(0)


def epoch(pipeline, batch_size, buffer):
    """Transitions/s over one pass through all recordings, decoding included."""
    count, began = 0, time.perf_counter()
    for batch in BufferedBatchIter(pipeline, buffer).buffered_batch_iter(batch_size, num_epochs=1):
        count += len(batch[2])
    return count / (time.perf_counter() - began)


def from_buffer(pipeline, batch_size):
    """Transitions/s when everything had been decoded before."""
    batches = BufferedBatchIter(pipeline, 10**9)
    batches.optionally_fill_buffer()
    count, began = len(batches.data_buffer) // batch_size, time.perf_counter()
    for _ in range(count):
        batches.get_batch(batch_size)
    return count * batch_size / (time.perf_counter() - began)


def clips(pipeline, clip_length):
    """Frames/s of the sequences of `batch_iter` over one pass, decoding included."""
    count, began = 0, time.perf_counter()
    for batch in pipeline.batch_iter(batch_size=4, seq_len=clip_length, num_epochs=1):
        count += batch[2].size
    return count / (time.perf_counter() - began)


def content(pipeline, name):
    """The hash of a recording's frames: each transition's picture, and the last one's next."""
    digest = hashlib.sha256()
    transitions = list(pipeline.load_data(name))
    for state, *_ in transitions:
        digest.update(state["pov"].tobytes())
    digest.update(transitions[-1][3]["pov"].tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
