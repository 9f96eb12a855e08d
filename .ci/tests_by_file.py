"""Prints how many tests of each file passed, failed and were skipped: tests_by_file.py XML."""

from __future__ import annotations

import sys
from collections import Counter
from xml.etree import ElementTree

OUTCOMES = {"failure": "failed", "error": "failed", "skipped": "skipped"}

counts: dict[str, Counter[str]] = {}
for test in ElementTree.parse(sys.argv[1]).iter("testcase"):
    module = test.get("classname", "").partition(".Test")[0]
    outcome = next((OUTCOMES[part.tag] for part in test if part.tag in OUTCOMES), "passed")
    counts.setdefault(f"{module.replace('.', '/')}.py", Counter())[outcome] += 1
print("| file | passed | failed | skipped |", "| --- | ---: | ---: | ---: |", sep="\n")
counts = {**dict(sorted(counts.items())), "all": sum(counts.values(), Counter())}
for file, count in counts.items():
    print(f"| {file} | {count['passed']} | {count['failed']} | {count['skipped']} |")
