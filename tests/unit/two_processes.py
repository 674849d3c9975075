"""How tests start two processes of one run: put before a script's path, or before `-m` and a module."""

import sys

TWO_PROCESSES = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
