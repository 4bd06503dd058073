"""`python -m fteng.export WORKDIR --out=PLACE`."""

import sys

from fteng.export import main

sys.exit(main(sys.argv[1:]))
