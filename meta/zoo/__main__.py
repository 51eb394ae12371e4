"""`python -m meta.zoo RUN NAME`."""

import sys

from meta.zoo import main

sys.exit(main())
