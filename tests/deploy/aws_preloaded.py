"""The aws CLI without its half second of imports: one process has them, and forks for each call.

    python aws_preloaded.py FOLDER      serves FOLDER/socket, and makes FOLDER/aws, the command

The command hands over its arguments, environment, folder and standard streams, and ends as the CLI
does. What runs is the installed CLI as it is.
"""

import json
import os
import pathlib
import socket
import sys

CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({path!r})
    call = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(line, [len(call).to_bytes(4)], [0, 1, 2])
    line.sendall(call)
    code = line.recv(1)
sys.exit(code[0] if code else 255)
"""


def serve(line):
    """In a process of its own, which ends with the CLI's exit code."""
    head, streams, _, _ = socket.recv_fds(line, 4, 3)
    left = int.from_bytes(head)
    text = b""
    while len(text) < left:
        text += line.recv(left - len(text))
    arguments, environment, folder = json.loads(text)
    child = os.fork()
    if child == 0:
        line.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        # The one that the CLI sets for itself as it is loaded.
        data = os.environ["AWS_DATA_PATH"]
        os.environ.clear()
        os.environ.update(environment | {"AWS_DATA_PATH": data})
        os.chdir(folder)
        sys.argv = ["aws", *arguments]
        try:
            code = awscli.clidriver.main()
        except SystemExit as end:
            code = end.code or 0
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    for stream in streams:
        os.close(stream)
    _, status = os.waitpid(child, 0)
    line.send(bytes([os.waitstatus_to_exitcode(status) & 255]))


def main(folder):
    path = str(folder / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        client = folder / "aws"
        client.write_text(CLIENT.format(python=sys.executable, path=path))
        client.chmod(0o755)
        while True:
            line, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                serve(line)
                os._exit(0)
            line.close()
            # Those that have ended.
            while os.waitpid(-1, os.WNOHANG)[0] > 0:
                pass


if __name__ == "__main__":
    import awscli.clidriver
    import awscli.handlers  # noqa: F401  # loaded before the first fork
    import botocore.session  # noqa: F401

    main(pathlib.Path(sys.argv[1]))
