"""Latents from a perception service, for programs with an old Python: one file, Python 3.6 or newer, nothing but its standard library.

Copy it beside your program:

    from latents import Latents

    encoder = Latents("http://127.0.0.1:8000/RUN")
    latents = encoder(observation["pov"], first=True)          # the first frame of an episode
    latents = encoder(observation["pov"], action=[...])        # each one after it; `action` for encoders that are told actions

A frame is a numpy array uint8 (H, W, 3), or anything else that has its shape and bytes; the service resizes it. Latents are an
`array.array("f")`, of which `numpy.asarray(latents).reshape(encoder.shape)` makes an array without copying. A batch of frames
(B, H, W, 3) gives a list of them, and then `first` and `action` have an entry a row.

The service keeps nothing: the encoder's memory is here, so a service that was restarted in between changes nothing.
"""

import array
import http.client
import json
import os
import ssl
import sys
import time
from urllib.parse import urlsplit

PASSING = (408, 425, 429, 502, 503, 504)
"""What a service answers that may do better in a moment; a fault, 500, may be a worker that died, and is asked about again twice."""
LENGTH = "Inference-Header-Content-Length"


class LatentsError(Exception):
    """The service cannot be had, or does not take what it was sent."""


class Latents:
    """An encoder of a service, with the memory of one batch of episodes.

    `reading` names other latents than the encoder's own; `token` is the service's, by default that of the environment variable
    MINERL_PERCEPTION_TOKEN, or the first line of the file that MINERL_PERCEPTION_TOKEN_FILE names. A service that is away is waited for, at
    most `patience` seconds. Use one object a thread.
    """

    def __init__(self, address, reading=None, token=None, patience=300.0):
        parts = urlsplit(address)
        self.name = parts.path.strip("/")
        if parts.scheme not in ("http", "https") or not parts.hostname or not self.name or "/" in self.name:
            raise LatentsError(f"an encoder's address is http://HOST:PORT/NAME, got {address!r}")
        self.address, self.patience = address, patience
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._token = token or _token_of_environment()
        self._connection = None
        about = json.loads(self._asked("GET", "")[0].decode())["properties"]
        readings = json.loads(about["readings"])
        self.reading = reading or about["default_reading"]
        if self.reading not in readings:
            raise LatentsError("no latents named {!r}; this encoder has: {}".format(self.reading, ", ".join(readings)))
        self.shape = tuple(readings[self.reading]["shape"])
        self.frames_per_second = float(about["frames_per_second"])
        self.action_size = int(about["action_size"])
        self.weights = about["weights_sha256"]
        self._output = readings[self.reading]["output"]
        self._state_size = int(about["state_size"])
        # with the bits of an encoder of one's own, unless the service is meant to be fast
        self._parameters = {"batching": "fast" if about["batching"] == "fast" else "alone"}
        self._state = b""

    def __call__(self, frames, action=None, first=None, keep=True):
        """Return the latents of a frame, or a list of them for a batch.

        `first` says that an episode begins: True, or an entry a row; nothing need be said of the very first call. `action` are the numbers
        that led to the frame, where `action_size` is not 0. With `keep` False the memory stays as it was: for the last frame of an episode
        whose next one has begun.
        """
        content, shape = _bytes_of(frames)
        single = len(shape) == 3
        rows = 1 if single else shape[0]
        if rows < 1:
            raise LatentsError("a batch of no frames")
        before = self._state or bytes(rows * self._state_size)
        if len(before) != rows * self._state_size:
            raise LatentsError(f"{rows} frames, and the memory is of {len(before) // self._state_size} episodes")
        begins = [bool(first)] * rows if first is None or not hasattr(first, "__len__") else [bool(one) for one in first]
        inputs = [("frames", "UINT8", [rows, *list(shape[-3:])], content), ("reset", "BOOL", [rows], bytes(bytearray(begins)))]
        if self._state_size:
            inputs.append(("state", "UINT8", [rows, self._state_size], before))
        if self.action_size:
            inputs.append(("action", "FP32", [rows, self.action_size], self._actions(action, rows)))
        outputs = [self._output] + (["state"] if self._state_size else [])
        found = self._inferred(inputs, outputs)
        if keep:
            self._state = found.get("state", b"")
        numbers = array.array("f")
        numbers.frombytes(found[self._output])
        if sys.byteorder == "big":
            numbers.byteswap()
        size = len(numbers) // rows
        return numbers if single else [numbers[row * size : (row + 1) * size] for row in range(rows)]

    def close(self):
        """Close the connection; the next call makes another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _actions(self, action, rows):
        numbers = array.array("f", [0.0] * (rows * self.action_size))
        if action is not None:
            given = [float(number) for row in action for number in (row if hasattr(row, "__len__") else [row])]
            if len(given) != len(numbers):
                raise LatentsError(f"action has {len(given)} numbers, and {len(numbers)} are needed")
            numbers = array.array("f", given)
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers.tobytes()

    def _inferred(self, inputs, outputs):
        """Return the bytes of some outputs by name. Inputs are (name, datatype, shape, bytes)."""
        head = {
            "inputs": [
                {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(content)}}
                for name, kind, shape, content in inputs
            ],
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
            "parameters": self._parameters,
        }
        text = json.dumps(head).encode()
        body = b"".join([text] + [content for _, _, _, content in inputs])
        headers = {"Content-Type": "application/octet-stream", LENGTH: str(len(text))}
        content, length = self._asked("POST", "/infer", body, headers)
        answer, at, found = json.loads(content[: int(length)].decode()), int(length), {}
        for output in answer["outputs"]:
            size = output["parameters"]["binary_data_size"]
            found[output["name"]] = content[at : at + size]
            at += size
        weights = answer.get("parameters", {}).get("weights_sha256", self.weights)
        if weights != self.weights:
            raise LatentsError(f"{self.address}: has the weights {weights[:16]} by now, and had {self.weights[:16]}")
        return found

    def _asked(self, method, path, body=None, headers=None):
        """Return an answer's bytes, and how many of them are JSON; ask again while the service is away."""
        deadline, pause, faults = time.time() + self.patience, 0.1, 0
        headers = dict(headers or {}, **({"Authorization": "Bearer " + self._token} if self._token else {}))
        while True:
            try:
                if self._connection is None:
                    kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
                    self._connection = kind(self._host, self._port, timeout=60)
                self._connection.request(method, "/v2/models/" + self.name + path, body, headers)
                answer = self._connection.getresponse()
                content = answer.read()
                if answer.status == 200:
                    return content, answer.getheader(LENGTH)
                trouble = "status {}, {}".format(answer.status, content[:300].decode("utf-8", "replace"))
                faults += answer.status == 500
                # a proxy says 404 in its own words while no service is behind it
                away = answer.status in PASSING or (answer.status == 404 and not content.startswith(b'{"error"'))
                if not away and not (answer.status == 500 and faults < 3):
                    raise LatentsError(f"{self.address}: {trouble}")
            except ssl.CertificateError as error:
                raise LatentsError(f"{self.address}: its certificate is not trusted ({error})") from error
            except (OSError, http.client.HTTPException) as error:
                self.close()
                trouble = str(error) or type(error).__name__
            if time.time() + pause > deadline:
                raise LatentsError(f"{self.address}: no answer for {self.patience:g} s ({trouble})")
            time.sleep(pause)
            pause = min(2 * pause, 2.0)


def _token_of_environment():
    token, path = os.environ.get("MINERL_PERCEPTION_TOKEN"), os.environ.get("MINERL_PERCEPTION_TOKEN_FILE")
    if token or not path:
        return token
    try:
        with open(path, encoding="utf-8") as file:
            # Windows says of every file that all may read it
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                raise LatentsError(f"{path}: holds a token and can be read or written by others; chmod 600 {path}")
            return file.readline(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", "no text")
        raise LatentsError(f"{path}, which MINERL_PERCEPTION_TOKEN_FILE names, cannot be read ({why})") from error


def _bytes_of(frames):
    """Return the bytes of frames in row-major order, and their shape."""
    view = memoryview(frames)
    if view.format != "B" or view.ndim not in (3, 4):
        raise LatentsError(f"frames must be uint8 (H, W, 3) or (B, H, W, 3), got {view.format!r} {view.shape}")
    return view.tobytes(), view.shape


def main(words):
    """Encode grey frames, or those of a file of raw RGB bytes, and print the first latents of each: a check that the way is free."""
    if not words or words[0].startswith("-"):
        print("usage: python latents.py http://HOST:PORT/NAME [FILE HEIGHT WIDTH]    FILE: frames of RGB bytes, one after the other")
        return 2
    encoder = Latents(words[0], patience=10.0)
    height, width = (int(words[2]), int(words[3])) if len(words) == 4 else (64, 64)
    if len(words) == 4:
        with open(words[1], "rb") as file:
            content = file.read()
    else:
        content = b"".join(bytes([level]) * (height * width * 3) for level in range(0, 256, 16))
    size, begun = height * width * 3, time.time()
    count = len(content) // size
    for number in range(count):
        frame = memoryview(content[number * size : (number + 1) * size]).cast("B", [height, width, 3])
        latents = encoder(frame, first=number == 0)
        print("frame {}: {}".format(number, " ".join(f"{one:+.4f}" for one in latents[:6])))
    print(f"{count} frames, {len(latents)} latents each {encoder.shape}, {count / (time.time() - begun):.0f} frames/s")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LatentsError as error:
        sys.exit(f"error: {error}")
