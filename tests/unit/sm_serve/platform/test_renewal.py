"""A server that starts anew keeps its process, its port and what clients had loaded."""

import subprocess
import sys

from sm_serve.platform.renewal import Changes

PROGRAM = """
import os, socket
from pathlib import Path
from sm_serve.platform.renewal import Changes, HandedOn, hand_on, received

told = received(os.environ)
if told.listener < 0:
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    listener = socket.create_server(("127.0.0.1", 0))
    print(os.getpid(), listener.getsockname()[1])
    hand_on(HandedOn(listener.fileno(), 3, Changes({"a b": "/x"}, ["c"]), [("m", "/m")]))
listener = socket.socket(fileno=told.listener)
socket.create_connection(listener.getsockname())
print(os.getpid(), listener.getsockname()[1])
open_ones = [name for name in os.listdir("/proc/self/fd") if int(name) > 2]
null = [name for name in open_ones if Path(f"/proc/self/fd/{name}").resolve() == Path("/dev/null")]
print([told.deaths, told.changes, told.models, null, [n for n in os.environ if "HANDED" in n]])
"""


def test_the_process_and_its_port_stay_and_nothing_else_is_left_open():
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=True
    )
    first, second, third = told.stdout.splitlines()
    assert first == second
    changes = Changes({"a b": "/x"}, ["c"])
    assert third == str([3, changes, [("m", "/m")], [], []])


def test_changes_are_what_a_fresh_engine_lacks(tmp_path):
    changes = Changes()
    changes.load("mine", tmp_path)
    changes.unload("its")
    changes.load("gone", tmp_path)
    changes.unload("gone")
    assert changes == Changes({"mine": str(tmp_path)}, ["its"])
