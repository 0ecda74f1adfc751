"""The rulers themselves: agreement of scores, requests, loops of clients, workers, what Linux says."""

import os
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.agreement import kendall_tau, largest_difference
from bench.load import Target, seconds_for
from bench.machine import Machine
from bench.proc import cpu_time, forget_peak, peak, resident
from bench.processes import StartError, answers, free_port, running
from bench.server.workers import alternate, times_faster, worker
from bench.workload import Request, make_requests, parts, small_mix

WORDS = ["panda", "bear", "table", "river", "cloud"]
ECHO = (
    "from bench.peers.rounds import serve; serve(lambda query, documents: map(len, documents), engine='len')"
)


@pytest.mark.parametrize(
    ("mine", "other", "tau"),
    [
        pytest.param([1.0, 2.0, 3.0], [10.0, 20.0, 30.0], 1.0, id="the same order"),
        pytest.param([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], -1.0, id="the reverse"),
        pytest.param([1.0, 2.0, 3.0], [1.0, 3.0, 2.0], 1 / 3, id="one pair of three swapped"),
        pytest.param([1.0, 1.0, 2.0], [1.0, 2.0, 3.0], 2 / 3, id="a tie agrees with nothing"),
        pytest.param([1.0], [2.0], 1.0, id="one document has one order"),
    ],
)
def test_kendalls_tau_counts_pairs_in_the_same_order(mine, other, tau):
    assert kendall_tau([mine], [other]) == pytest.approx(tau)


def test_the_largest_difference_is_that_of_the_worst_document_of_all_requests():
    assert largest_difference([[1.0, 2.0], [3.0]], [[1.5, 2.0], [5.0]]) == 2.0


def test_parts_of_a_request_ask_for_the_whole_of_it():
    [whole] = make_requests(WORDS, count=1, documents=7)
    cut = parts(whole, 3)
    assert [len(part.documents) for part in cut] == [3, 3, 1]
    assert sum((part.documents for part in cut), ()) == whole.documents


def test_the_same_seed_makes_the_same_requests():
    assert make_requests(WORDS, count=3, documents=2) == make_requests(WORDS, count=3, documents=2)
    assert list(small_mix(WORDS, count=300)) == list(small_mix(WORDS, count=300))


def test_the_mix_is_small_but_for_a_large_one_now_and_then():
    sizes = [len(request.documents) for request in small_mix(WORDS, count=500)]
    assert Counter(size > 10 for size in sizes) == {False: 498, True: 2}


@pytest.fixture
def counting_server():
    seen = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen[body] += 1
            self.send_response(500 if body == b"bad" else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Target(server.server_address[1]), seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_body_is_sent_once_however_many_clients_share_them(counting_server):
    target, seen = counting_server
    bodies = [str(number).encode() for number in range(20)]
    assert seconds_for(target, bodies, 3) > 0
    assert seen == Counter(bodies)


def test_an_answer_that_is_no_200_ends_the_measurement(counting_server):
    target, _ = counting_server
    with pytest.raises(RuntimeError, match="500"):
        seconds_for(target, [b"good", b"bad", b"good"], 1)


def test_workers_score_the_same_requests_in_rounds():
    requests = [Request("q", ("a", "bear")), Request("q", ("panda",))]
    with worker([sys.executable, "-c", ECHO]) as one, worker([sys.executable, "-c", ECHO]) as other:
        taken = alternate({"one": one, "other": other}, requests, 2)
    assert one.about["engine"] == "len"
    assert [each.scores for each in taken["one"]] == [((1.0, 4.0), (5.0,))] * 2
    assert times_faster(taken["one"], taken["other"]) > 0


def test_a_worker_that_ends_says_why():
    with (
        pytest.raises(StartError, match="no such model"),
        worker([sys.executable, "-c", "raise SystemExit('no such model')"]),
    ):
        pass


def test_a_worker_that_ends_between_two_rounds_says_why():
    code = "import sys; print('{}', flush=True); sys.stdin.close(); sys.exit('out of memory')"
    with (
        pytest.raises(StartError, match="out of memory"),
        worker([sys.executable, "-c", code]) as ending,
    ):
        ending.round([Request("q", ("a" * 1_000_000,))])


def test_a_process_that_ends_before_it_answers_says_what_it_printed(tmp_path):
    command = [sys.executable, "-c", "print('this is why')"]
    with pytest.raises(StartError, match="this is why"), running(command, tmp_path / "log", port=free_port()):
        pass


def test_nobody_answers_on_a_free_port():
    assert not answers(free_port(), "/")


def test_memory_and_cpu_time_of_a_process_are_read():
    code = (
        "import sys; x = bytearray(64 << 20); del x; sum(range(10**7)); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        highest, now, used = peak(process.pid), resident(process.pid), cpu_time(process.pid)
        forget_peak(process.pid)
        assert peak(process.pid) < highest
        process.stdin.close()
    assert highest - now > 50e6
    assert 0 < used.main <= used.total


def test_the_machine_is_described_from_proc(tmp_path):
    (tmp_path / "cpuinfo").write_text("model name\t: A CPU\nflags\t\t: fpu avx2 avx512f\n", "utf-8")
    (tmp_path / "meminfo").write_text("MemTotal:       8388608 kB\n", "ascii")
    machine = Machine.here(tmp_path)
    assert (machine.cpu, machine.instructions, machine.memory_gb) == ("A CPU", ["avx2", "avx512f"], 8.0)
    assert machine.cores == len(os.sched_getaffinity(0))
