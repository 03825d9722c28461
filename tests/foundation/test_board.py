"""TensorBoard's thread on a full disk: one line, and never its traceback."""

import subprocess
import sys
from pathlib import Path

from tests.fixtures.processes import limited_files

ROOT = Path(__file__).resolve().parents[2]
_CODE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from foundation.command import run
def main():
    import numpy as np
    from foundation.board import open_board
    board = open_board(Path(sys.argv[1]))
    for step in range(200):
        board.add_image("noise", np.random.default_rng(step).integers(0, 256, (32, 32, 3), np.uint8), step, dataformats="HWC")
        board.flush()
run(main)
"""


def test_a_full_disk_under_tensorboard_is_one_line(tmp_path: Path) -> None:
    command = limited_files(20_000, [sys.executable, "-c", _CODE, str(tmp_path)])
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    line = "error: TensorBoard's record: cannot be written (File too large); free some space and run the command again\n"
    assert (ended.returncode, ended.stderr) == (2, line)
