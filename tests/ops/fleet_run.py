"""A fleet's coordinator in a process of its own, so that a test can kill it."""

import sys
from pathlib import Path

from faceproof.batch import ScanOptions
from faceproof.ops.fleet import scan_fleet

if __name__ == "__main__":
    options = ScanOptions(detector="toy", precision="fp32", threads=1)
    scan_fleet(sys.argv[1], sys.argv[2], Path(sys.argv[3]), options, ahead=4, lease=8)
