"""Nothing of a test lands in the user's cache."""

import os
import tempfile

os.environ["FTENG_CACHE"] = tempfile.mkdtemp(prefix="fteng-test-cache-")
