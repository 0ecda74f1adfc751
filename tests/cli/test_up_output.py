"""What the runner prints must never hold it up."""

import os
import threading

from rerank_cli.up.output import MOST_WAITING, text_output


def test_a_reader_that_has_stopped_does_not_hold_the_writer_up() -> None:
    reader, writer = os.pipe()
    output = text_output(writer)
    done = threading.Event()

    def write() -> None:
        for _ in range(2 * MOST_WAITING):
            output.write("a line that nobody reads\n")
        done.set()

    threading.Thread(target=write, daemon=True).start()
    assert done.wait(60)
    os.close(reader)
    output.close()
    os.close(writer)


def test_everything_that_was_written_comes_in_order() -> None:
    reader, writer = os.pipe()
    output = text_output(writer)
    for number in range(100):
        output.write(f"{number}\n")
    with os.fdopen(reader, encoding="ascii") as lines:
        assert [int(next(lines)) for _ in range(100)] == list(range(100))
        output.close()
        os.close(writer)
        assert lines.read() == ""


def test_a_reader_that_is_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    output = text_output(writer)
    output.write("hello?\n")
    output.close()
    os.close(writer)
