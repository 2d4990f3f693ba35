"""A process that is killed by kill -9 at the n-th change it makes to a folder: for what must survive that.

The changes are counted by an audit hook of Python (renames, new folders, deletions, files opened for writing), so that
the code under test knows nothing of it. One process imports everything once and forks for each try.
"""

import json
import subprocess
import sys

PROGRAM = """
import json, os, signal, sys
from pathlib import Path

exec(sys.argv[1])
for line in sys.stdin:
    n, folder, code = json.loads(line)
    pid = os.fork()
    if pid:
        status = os.waitpid(pid, 0)[1]
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status), flush=True)
        continue
    left = n

    def count(event, arguments):
        global left
        if event == "open":
            is_change = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            is_change = event in ("os.rename", "os.mkdir", "os.remove", "shutil.rmtree")
        if is_change and str(arguments[0]).startswith(folder):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    try:
        exec(code)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
"""


class Killer:
    """`kill_at(3, folder, "deploy(...)")` runs that code and kills it at its third change to the folder."""

    def __init__(self, imports):
        command = [sys.executable, "-c", PROGRAM, imports]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def kill_at(self, n, folder, code):
        """True when it was killed, False when it had fewer changes to make and ended."""
        self._process.stdin.write(json.dumps([n, str(folder), code]) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        assert status in (0, 9), f"the code failed: {code}"
        return status == 9

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
