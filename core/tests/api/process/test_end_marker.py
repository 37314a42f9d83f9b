"""The end marker, without which an exit with 0 is no success."""

import pytest
from core.tests.api.process.children import NAME, python, read_all

from penstock.api import ChildOutput, DumpFailed

MARKER = b"-- dump complete"


def test_its_absence_is_a_failure_although_the_child_exits_with_0() -> None:
    stream = ChildOutput(["echo", "half of it"], name=NAME, end_marker=MARKER)
    read_all(stream)
    with pytest.raises(DumpFailed, match="end marker is missing"):
        stream.close()


@pytest.mark.parametrize("size", [1, 5, 4096, 4097, 65536])
@pytest.mark.parametrize("after", [0, 1, 4096 - 16])
def test_it_is_found_however_reads_cut_it(size: int, after: int) -> None:
    code = f"print('x' * 9000 + '{MARKER.decode()}' + 'y' * {after}, end='')"
    stream = ChildOutput(python(code), name=NAME, end_marker=MARKER)
    read_all(stream, size)
    stream.close()


@pytest.mark.parametrize("size", [5, 4096, 65536])
def test_it_does_not_count_far_from_the_end(size: int) -> None:
    code = f"print('{MARKER.decode()}' + 'y' * {4096 - 15}, end='')"
    stream = ChildOutput(python(code), name=NAME, end_marker=MARKER)
    read_all(stream, size)
    with pytest.raises(DumpFailed, match="end marker is missing"):
        stream.close()


def test_it_does_not_excuse_a_failure() -> None:
    stream = ChildOutput(["sh", "-c", "echo '-- dump complete'; exit 1"], name=NAME, end_marker=MARKER)
    read_all(stream)
    with pytest.raises(DumpFailed, match="exited with 1"):
        stream.close()


@pytest.mark.parametrize("marker", [b"", bytes(4097)])
def test_one_that_cannot_be_found_is_refused(marker: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 4096 bytes"):
        ChildOutput(["true"], name=NAME, end_marker=marker)
