"""For all tests."""

import os

# A stray call into Ray after a test has shut it down must fail. Ray would start a cluster for it instead, and end the
# whole process a minute after that cluster is gone.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
