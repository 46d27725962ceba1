import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainers.verl.processes.prefork import warm_python

SLEEPER = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    with warm_python(tmp_path_factory.mktemp("warm"), modules=("json", "calendar")) as program:
        yield program


def ends(process, within_s=10.0):
    """Whether a process goes away; time is only a limit here."""
    deadline = time.monotonic() + within_s
    while Path(f"/proc/{process}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not Path(f"/proc/{process}").exists()


def started_sleeper(python):
    caller = subprocess.Popen([python, "-c", SLEEPER], stdout=subprocess.PIPE)
    return caller, int(caller.stdout.readline())


def test_a_fork_gets_what_its_caller_was_given_and_its_caller_gets_its_status(python, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "print(sys.argv[1:], os.getcwd(), os.environ['GIVEN'], __name__, 'calendar' in sys.modules)\n"
        "print(sys.stdin.read(), file=sys.stderr)\n"
        "sys.exit(7)\n"
    )
    done = subprocess.run(
        [python, "-B", script, "a", "b c"],
        env=os.environ | {"GIVEN": "x"},
        cwd="/",
        input="said",
        capture_output=True,
        text=True,
    )
    assert done.stdout.split("\n")[0] == "['a', 'b c'] / x __main__ True"
    assert (done.stderr.strip(), done.returncode) == ("said", 7)


def test_only_the_owner_may_ask_for_a_fork(tmp_path):
    before = os.umask(0)
    try:
        with warm_python(tmp_path, modules=("json",)):
            assert (tmp_path / "prefork").stat().st_mode & 0o777 == 0o600
            assert (tmp_path / "python").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_open_files_keep_their_numbers(python):
    read_end, write_end = os.pipe()
    code = f"import os; os.write({write_end}, b'here'); print(*os.listdir('/proc/self/fd'))"
    done = subprocess.run([python, "-c", code], pass_fds=[write_end], capture_output=True, text=True, check=True)
    assert os.read(read_end, 4) == b"here"
    listing = 3
    assert {int(number) for number in done.stdout.split()} == {0, 1, 2, listing, write_end}
    os.close(read_end)
    os.close(write_end)


def test_a_signal_to_the_caller_reaches_the_fork_and_ends_both_alike(python):
    caller, process = started_sleeper(python)
    caller.terminate()
    assert caller.wait() == -15
    assert ends(process)


def test_a_killed_caller_takes_its_fork_along(python):
    caller, process = started_sleeper(python)
    caller.kill()
    caller.communicate()
    assert ends(process)


def test_a_process_of_multiprocessing_is_a_fork_and_returns_values(python):
    code = (
        "import multiprocessing, os\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    reader, writer = context.Pipe(duplex=False)\n"
        "    child = context.Process(target=writer.send, args=({'one': 1},))\n"
        "    child.start()\n"
        "    print(reader.recv(), open(f'/proc/{child.pid}/cmdline').read().count('prefork_client'))\n"
        "    child.join()\n"
        "    print(child.exitcode)\n"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["{'one': 1} 1", "0"], done.stderr


def test_forks_end_with_the_server_and_later_callers_start_cold(tmp_path):
    with warm_python(tmp_path, modules=("json",)) as python:
        caller, process = started_sleeper(python)
    assert ends(process)
    caller.communicate()
    done = subprocess.run([python, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
    assert done.stdout.strip() == sys.executable
    assert "starting a cold one" in done.stderr
