"""The model of docs/protocol.md: python3 test/model [--soak] [--fault NAME]…

Runs every sequence of operations of the scenarios, with a power cut and a kill at each step; then plants each fault, which must be found. Prints the
counts; ends with 1, and says which sequence broke what, if something does not hold or a fault is not found. The same in every run.
"""

import argparse
import sys
import time

from disk import Violation
from explore import counts
from faults import FAULTS
from scenarios import LONG, SHORT, finds, run


def main() -> int:
    parser = argparse.ArgumentParser(description='The model of docs/protocol.md')
    parser.add_argument('--soak', action='store_true', help='longer sequences (ten minutes)')
    parser.add_argument('--fault', action='append', choices=FAULTS, help='plant this one only')
    options = parser.parse_args()

    for scenario in () if options.fault else LONG if options.soak else SHORT:
        began = time.monotonic()
        try:
            run(scenario)
        except Violation as error:
            print(f'BROKEN  {scenario.family}: {error}')
            return 1
        if options.soak:
            print(f'{scenario} ({time.monotonic() - began:.0f} s)', flush=True)
    summary = f'{counts.operations} operations, {counts.cuts} power cuts, {counts.kills} kills, {counts.watched} strangers'

    missed = []
    for fault in options.fault or FAULTS:
        rule, scenario = FAULTS[fault]
        found = finds(fault, scenario)
        if not found:
            missed.append(fault)
        if not found or options.fault:
            print(f'{"caught" if found else "MISSED"}  {fault}: {rule}\n        {found or scenario}')
    planted = len(options.fault or FAULTS)
    print(f'protocol: {summary}; all hold; {planted - len(missed)} of {planted} faults caught')
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
