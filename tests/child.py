"""The child of `tests/test_child_process.py`: does what a message says, and answers with the rest of the message."""

import os
import time

from app.child_process import parent


def main() -> None:
    connection = parent()
    setup = connection.recv_bytes()
    connection.send_bytes(b"")
    while True:
        order, _, rest = connection.recv_bytes().partition(b" ")
        match order:
            case b"setup":
                rest = setup
            case b"print":
                os.write(1, b"noise")
                os.system("echo noise; cat")
            case b"sleep":
                time.sleep(60)
            case b"exit":
                os._exit(3)
            case b"half":
                os.write(connection.fileno(), b"\0\0\1\0half")
                time.sleep(60)
            case b"deaf":
                connection.send_bytes(rest)
                time.sleep(60)
            case _:
                pass
        connection.send_bytes(rest)


if __name__ == "__main__":
    main()
