#!/usr/bin/env python3
"""Reads an lcov file: coverage by part of the crate, and the lines of unsafe blocks that no test reached."""

import collections
import pathlib
import re
import sys



def unsafe_lines(path):
    """The numbers of the lines that lie in an unsafe block or function, or have one."""
    found, depth, opened = set(), 0, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        code = re.sub(r"//.*|\"(\\.|[^\"])*\"", "", line)
        if re.search(r"\bunsafe (\{|fn\b(?!.*;))", code):
            opened.append(depth)
        if opened:
            found.add(number)
        depth += code.count("{") - code.count("}")
        while opened and depth <= opened[-1] and ("{" in code or "}" in code):
            opened.pop()
    return found


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    lines, branches, missed = collections.Counter(), collections.Counter(), []
    path = None
    for row in pathlib.Path(sys.argv[1]).read_text().splitlines():
        kind, _, rest = row.partition(":")
        if kind == "SF":
            path = pathlib.Path(rest)
            inside = path.is_relative_to(root / "src")
            part = path.relative_to(root / "src").parts[0] if inside else None
            unsafe = unsafe_lines(path) if inside else set()
            # Tests inside the crate are not what is measured.
            text = path.read_text().splitlines() if inside else []
            tests = next((n for n, line in enumerate(text, 1) if line == "#[cfg(test)]"), len(text) + 1)
        elif kind == "DA" and inside:
            number, count = map(int, rest.split(",")[:2])
            if number >= tests:
                continue
            lines[part, count > 0] += 1
            if count == 0 and number in unsafe:
                missed.append((path.relative_to(root), number, text[number - 1].strip()))
        elif kind == "BRDA" and inside:
            number, _, _, taken = rest.split(",")
            if int(number) < tests:
                branches[part, taken not in ("-", "0")] += 1

    def share(counts, part):
        hit, miss = (sum(n for (p, yes), n in counts.items() if part in (p, None) and yes == want) for want in (True, False))
        return f"{hit}/{hit + miss} ({100 * hit / max(1, hit + miss):.1f} %)"

    print("| part | lines | branches |\n| --- | --- | --- |")
    for part in sorted({part for part, _ in lines}):
        print(f"| `{part}` | {share(lines, part)} | {share(branches, part)} |")
    print(f"| all | {share(lines, None)} | {share(branches, None)} |")
    print(f"\n{len(missed)} lines of unsafe code were not reached:")
    for path, number, text in missed:
        print(f"{path}:{number}: {text}")


main()
