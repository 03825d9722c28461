"""Folders of pictures: one unordered episode each, single frames and no clips."""

from collections.abc import Iterator

import cv2
import numpy as np

from frames.readers.recording import BadRecording, Folder, Layout, Recording

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


class PictureFolder(Recording):
    """Pictures that do not decode are left out one by one, and named in `skipped`."""

    ordered = False

    def expected_frames(self) -> int:
        return len(self.files)

    def frames_per_second(self) -> float:
        return 1.0

    def frames(self) -> Iterator[np.ndarray]:
        for file in self.files:
            # read by us: OpenCV cannot open every name
            content = np.frombuffer(file.read_bytes(), np.uint8)
            picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
            if picture is None:
                self.skipped.append((f"{self.name}/{file.name}", "does not decode as a picture"))
            else:
                yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        if len(self.skipped) == len(self.files):
            raise BadRecording("no picture decodes")


def find(folder: Folder) -> list[Recording]:
    pictures = folder.with_suffix(*PICTURE_SUFFIXES)
    return [PictureFolder(folder.name(), folder.path, pictures)] if pictures else []


PICTURES = Layout("pictures", f"folders of pictures ({', '.join(PICTURE_SUFFIXES)})", find)
