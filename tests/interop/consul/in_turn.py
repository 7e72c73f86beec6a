"""Runs a program against nodes in turn: in_turn.py NODE,NODE PROGRAM ARGUMENT..

`BOTH` in an argument is a balancer that sends each request to the next node.
"""

import subprocess
import sys

import balancer

both = balancer.start(sys.argv[1].split(","))
sys.exit(subprocess.call([text.replace("BOTH", both) for text in sys.argv[2:]]))
