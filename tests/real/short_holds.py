"""`harness`, except that a hold ends after seconds: what nobody answers cannot be waited for in a test."""

from harness_stream.__main__ import main
from harness_stream.core import limits

# A command of a person takes some seconds on a busy machine, and finds the hold still open.
limits.HOLD_MS_DEFAULT = 12_000

if __name__ == "__main__":
    main()
