#!/usr/bin/env python3
"""Breaks the crate on purpose, once for each fuzz target, and expects the target to find it.

Run by hand or by `.ci/nightly fuzz`. Works on a copy of the tree; needs cargo-fuzz.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

SECONDS = 120

# (target, file, what is there, what it is broken into, what that means)
BREAKS = [
    ("pool", "src/engine/mod.rs",
     "            wakers.extend(state.queue.finish_head());\n        }\n        self.settle(state);",
     "            wakers.extend(state.queue.finish_head());\n            break;\n        }\n        self.settle(state);",
     "one release serves one waiter"),
    ("buffers", "src/bytes/growth.rs",
     "        let site = Location::caller();\n        let engine = Engine::of(handle);\n        let n = self.len().saturating_add(additional);",
     "        let site = Location::caller();\n        let engine = Engine::of(handle);\n        let n = self.len().max(additional);",
     "a buffer grows to what is asked for in addition"),
    ("ropes", "src/bytes/rope.rs",
     "Some(part) if part.len() > wanted =>",
     "Some(part) if part.len() > wanted + 12 =>",
     "a part that is a little too long is not split"),
    ("frames", "src/io/frame/lines.rs", "                self.seen = 0;\n", "",
     "how far a line was looked at is not forgotten with the line"),
    ("parse_bytes", "src/units.rs",
     ".and_then(|number| number.checked_mul(*factor))",
     ".map(|number| number.wrapping_mul(*factor))",
     "a unit overflows"),
]


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    wanted = sys.argv[1:]
    missed = []
    flags = os.environ.get("RUSTFLAGS", "--cfg offheap_asan")
    environment = dict(os.environ, RUSTC_BOOTSTRAP="1", RUSTFLAGS=flags, RUST_BACKTRACE="0")
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / "tree"
        shutil.copytree(root, tree, ignore=shutil.ignore_patterns("target", ".git", "artifacts"))
        for target, file, there, broken, meaning in BREAKS:
            if wanted and target not in wanted:
                continue
            text = (tree / file).read_text()
            if text.count(there) != 1:
                sys.exit(f"{target}: {file} has changed, and with it the line to break:\n{there}")
            (tree / file).write_text(text.replace(there, broken))
            common = ["--target-dir", str(root / "fuzz" / "target"), target]
            subprocess.run(["cargo", "fuzz", "build", *common], cwd=tree, env=environment, check=True, capture_output=True)
            corpus = tree / "fuzz" / "corpus" / target
            corpus.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(["cargo", "fuzz", "run", *common, str(corpus), "--", f"-max_total_time={SECONDS}", "-max_len=512"],
                                  cwd=tree, env=environment, capture_output=True, text=True)
            (tree / file).write_text(text)
            caught = done.returncode != 0 and "deadly signal" in done.stderr
            why = next((line for line in done.stderr.splitlines() if "panicked" in line), "")
            print(f"{target}: {'finds' if caught else 'DOES NOT FIND'} that {meaning} {why}", flush=True)
            if not caught:
                missed.append(target)
    if missed:
        sys.exit("not found: " + ", ".join(missed))


main()
