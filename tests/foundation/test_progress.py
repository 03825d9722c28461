import re

from foundation.progress import progress_bar


def test_without_a_terminal_a_line_tells_how_far_how_fast_and_how_long_still(capsys):
    with progress_bar("decoding", 100, "frames", done=50) as advance:
        for _ in range(5):
            advance(10, "2/3 recordings")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" frames, ")[0] for line in lines] == [f"decoding: {done}/100" for done in (60, 70, 80, 90, 100)]
    assert all(re.search(r"frames, [\d,.]+ frames/s, [\d,]+ s left  2/3 recordings$", line) for line in lines[:-1])
    assert re.search(r"100/100 frames, [\d,.]+ frames/s  2/3 recordings$", lines[-1])


def test_a_total_that_turns_out_smaller_moves_the_bar_on(capsys):
    with progress_bar("decoding", 1000, "frames") as advance:
        advance(50, total=100)
    assert capsys.readouterr().err.startswith("decoding: 50/100 frames")


def test_the_bar_of_a_note_with_brackets_prints_it_as_it_is(capsys):
    with progress_bar("training", 10) as advance:
        advance(1, "[loss] 3")
    assert capsys.readouterr().err.rstrip().endswith("[loss] 3")
