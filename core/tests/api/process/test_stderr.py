"""What errors quote of stderr: its end, harmless, without secrets."""

import os

import pytest
from core.tests.api.process.children import (
    NAME,
    python,
    read_all,
)

from penstock.api import (
    ChildInput,
    ChildOutput,
    DumpFailed,
    RestoreFailed,
    Secret,
    SourceError,
    env_for_child,
    run_child,
)
from penstock.api.process.stderr import STDERR_LINE_BYTES, Stderr


@pytest.mark.slow
def test_a_lot_of_it_does_not_block_and_its_tail_is_kept() -> None:
    code = "import sys\nfor i in range(200_000): print('x' * 50, i, file=sys.stderr)\nprint('done')"
    stream = ChildOutput(python(code), name=NAME)
    assert read_all(stream) == b"done\n"
    stream._child.end()
    assert stream._child._stderr.total > 10_000_000
    assert len(stream._child._stderr.tail) == 16 * 1024
    lines = stream._child.failure("").details
    assert lines == tuple(f"{'x' * 50} {i}" for i in range(199_980, 200_000))
    stream.close()


def test_one_endless_line_is_bounded() -> None:
    stream = ChildOutput(python("import sys\nsys.stderr.write('é' * 5_000_000)\nsys.exit(1)"), name=NAME)
    read_all(stream)
    with pytest.raises(DumpFailed) as caught:
        stream.close()
    assert sum(map(len, caught.value.details)) <= 16 * 1024


def test_control_characters_and_broken_text_are_shown_harmlessly() -> None:
    code = r"import os; os.write(2, b'\x1b[31mred\r\n\n \nbell\x07 \xff\xfe\0 end'); raise SystemExit(1)"
    stream = ChildOutput(python(code), name=NAME)
    read_all(stream)
    with pytest.raises(DumpFailed) as caught:
        stream.close()
    assert caught.value.details == ("?[31mred", "bell? \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}? end")


def test_secrets_are_masked() -> None:
    secrets = [Secret("hunter2"), Secret("hunter2/3 ü"), Secret("ter2xyz"), Secret("")]
    code = "import sys\nprint(sys.argv[1], file=sys.stderr)\nsys.exit(1)"
    said = "a hunter2 b hunter2/3 ü c hunter2%2F3%20%C3%BC d hunter2xyz e hunter2hunter2 f hunter"
    stream = ChildOutput([*python(code), said], name=NAME, secrets=secrets)
    read_all(stream)
    with pytest.raises(DumpFailed) as caught:
        stream.close()
    assert caught.value.details == ("a *** b *** c *** d *** e *** f hunter",)


@pytest.mark.parametrize("padding", range(16 * 1024 - 8, 16 * 1024 + 12))
def test_a_secret_that_the_tail_cuts_does_not_show_in_part(padding: int) -> None:
    read, write = os.pipe()
    stderr = Stderr(os.fdopen(read, "rb", buffering=0), [Secret("SECRET/TEXT")], NAME)
    stderr.start()
    with os.fdopen(write, "wb") as pipe:
        lines = (b"." * 999 + b"\n") * 30
        pipe.write(lines + b"SECRET/TEXT" + lines[:padding])
    stderr.finish(60)
    shown = "".join(stderr.last_lines())
    assert not set(shown) - set(".*")
    assert 14 * 1024 < len(shown) < 16 * 1024 + len("***")


@pytest.mark.parametrize("at", [0, *range(STDERR_LINE_BYTES - 12, STDERR_LINE_BYTES + 3), 99_000, 99_999])
@pytest.mark.parametrize("secret", ["SECRET/TEXT", "SECRET\nTEXT"])
def test_a_secret_in_a_long_line_does_not_show_in_part(at: int, secret: str) -> None:
    read, write = os.pipe()
    stderr = Stderr(os.fdopen(read, "rb", buffering=0), [Secret(secret), Secret("twelve bytes")], NAME)
    stderr.start()
    with os.fdopen(write, "wb") as pipe:
        pipe.write(b"." * at + secret.encode() + b"." * (100_000 - at) + b"\n.")
    stderr.finish(60)
    lines = stderr.last_lines()
    assert not set("".join(lines)) - set(".* …")
    assert all(len(line) <= STDERR_LINE_BYTES + len("*** …") for line in lines)


@pytest.mark.parametrize("padding", range(14_300, 14_430))
def test_a_secret_in_a_long_line_that_the_tail_cuts_does_not_show_in_part(padding: int) -> None:
    read, write = os.pipe()
    stderr = Stderr(os.fdopen(read, "rb", buffering=0), [Secret("SECRET/TEXT")], NAME)
    stderr.start()
    with os.fdopen(write, "wb") as pipe:
        # The secret ends in what is dropped of the line.
        lines = (b"." * 999 + b"\n") * 30
        pipe.write(lines + b"." * (STDERR_LINE_BYTES + 5) + b"SECRET/TEXT" + b"." * 9000 + b"\n" + lines[:padding])
    stderr.finish(60)
    assert not set("".join(stderr.last_lines())) - set(".* …")


def test_a_long_line_does_not_push_out_what_was_said_before() -> None:
    """As pg_dump does it, which quotes a statement that names all tables."""
    said = "'out of memory', 'HINT: more', 'x' * 99_999, 'end'"
    code = f"import sys; print({said}, sep='\\n', file=sys.stderr); sys.exit(1)"
    stream = ChildOutput(python(code), name=NAME)
    read_all(stream)
    with pytest.raises(DumpFailed) as caught:
        stream.close()
    assert caught.value.details == ("out of memory", "HINT: more", "x" * STDERR_LINE_BYTES + " …", "end")


def test_secrets_are_masked_in_the_errors_of_all_kinds_ofchildren() -> None:
    argv = ["sh", "-c", 'echo "password $PGPASSWORD refused" >&2; exit 2']
    secret = Secret("hunter2")
    env = env_for_child({"PGPASSWORD": secret})
    with pytest.raises(SourceError) as caught:
        run_child(argv, name=NAME, env=env, timeout=60, secrets=[secret])
    assert caught.value.details == ("password *** refused",)
    child = ChildInput(argv, name=NAME, env=env, secrets=[secret])
    with pytest.raises(RestoreFailed) as caught:
        child.finish()
    assert caught.value.details == ("password *** refused",)
