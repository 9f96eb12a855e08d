"""This package without one of its tricks: see `tricks`."""

import tricks
from common import request

tricks.switch_off(request()["without"])  # before aioca is imported

import aioca_client  # noqa: E402

if __name__ == "__main__":
    aioca_client.main()
