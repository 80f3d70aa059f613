"""What the programs here share: they are run one by one, as their users would run them."""

import time


def eventually(check, what, within_s=20):
    """Until `check` is true."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)
