#!/usr/bin/env python3
"""Breaks the crate on purpose, one line at a time, and expects the named test to fail each time.

A test that can not fail proves nothing. `tests/break-on-purpose.py [TEST ...]`. The concurrent core's models have
`loom-tests/break-on-purpose.py`. Works on a copy of the tree; needs cargo and nothing else.

`--table` prints which test saw what broken, and docs/testing.md has it; `--check-table` compares the two, and looks whether all lines to
break are still there.
"""

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

# (file of tests, test, [(file, what is there, what it is broken into)], what that means)
BREAKS = [
    ("faults_denial", "every_try_is_asked",
     [("src/engine/denial.rs", "self.locked(|state| self.shut_all(state));", "self.locked(|_| ());")],
     "magazines serve who was not asked"),
    ("faults_denial", "a_pool_that_may_deny_works",
     [("src/engine/mod.rs", "(!class.is_open()).then(|| class.pop_locked())?", "None")],
     "what is queued is not used again while the pool may deny"),
    ("faults_denial", "a_denied_reservation_waits_in_its_place",
     [("src/engine/wait.rs", "            waker.wake_by_ref();\n            engine.bell()", "            engine.bell()")],
     "nobody polls a denied reservation again"),
    ("faults_denial", "a_denied_reservation_is_granted_after_the_faults",
     [("src/engine/denial.rs", "if self.injector.is_there() {", "if self.injector.may_deny() {")],
     "who was denied is forgotten when the faults end"),
    ("faults_denial", "denial_comes_last",
     [("src/engine/denial.rs", " && !self.is_closed() && self.class_for(n, 0).is_some()", "")],
     "a denial hides what is impossible"),
    ("faults_os", "any_mprotect_may_fail",
     [("src/engine/mod.rs", "                self.give_back(class.pages());\n                Err(error)", "                Err(error)")],
     "a charge is kept though the system refused"),
    ("faults_os", "a_waiter_whose_grant_is_refused",
     [("src/engine/mod.rs", "                    self.account.uncharge_locked(class.pages());\n                    Err(Refused::Os(error))",
       "                    Err(Refused::Os(error))")],
     "a charge for a waiter is kept though the system refused"),
    ("faults_os", "one_of_many_is_refused",
     [("src/engine/wait.rs", "                Some(refused) => {\n                    claim.release();\n",
       "                Some(refused) => {\n                    claim.hand_out(|granted| std::mem::forget(granted));\n")],
     "what was granted of many before the system refused the rest is lost"),
    ("faults_os", "memory_that_does_not_go_back",
     [("src/arena/class.rs", "                Err(_) => kept.push(Chain::of(block), stamp),", "                Err(_) => drop((stamp, &mut kept)),")],
     "blocks that can not be decommitted are lost"),
    ("faults_os", "no_one_waits_for_ever_when_it_is_over",
     [("src/reclaim/mod.rs", "        engine.help();\n", "")],
     "the reclaimer does not look again for who waits"),
    ("faults_reclaimer", "a_reclaimer_that_dies_once",
     [("src/reclaim/driver.rs", "        next.run_on_thread();", "        std::mem::forget(next);")],
     "a reclaimer that panicked is not started again"),
    ("faults_reclaimer", "a_dead_reclaimer",
     [("src/reclaim/driver.rs", "const MAX_RESTARTS: u32 = 8;", "const MAX_RESTARTS: u32 = 20;")],
     "a reclaimer that always panics is started again and again"),
    ("faults_reclaimer", "runtimes_dropped_at_random_moments",
     [("src/engine/wait.rs", "                }\n                claim.release();\n            });\n        }",
       "                }\n                claim.hand_out(|granted| std::mem::forget(granted));\n            });\n        }")],
     "a cancelled grant is lost"),
    ("faults_reclaimer", "threads_that_end_with_full_magazines",
     [("src/arena/class.rs", "        if more {\n            self.take_owned(", "        if more && pages == 0 {\n            self.take_owned(")],
     "what ended threads had for themselves is out of reach"),
    ("faults_reclaimer", "wakers_that_panic",
     [("src/budget/waiters.rs", "catch_unwind(AssertUnwindSafe(|| waker.wake()))", "Ok::<(), Box<dyn std::any::Any + Send>>(waker.wake())")],
     "a waker's panic comes out of a drop"),
    ("fork", "a_child_that_drops_and_exits_does_no_harm",
     [("src/sys/mmap.rs", "MapFlags::PRIVATE | MapFlags::NORESERVE", "MapFlags::SHARED | MapFlags::NORESERVE")],
     "a child's drops are its parent's"),
    ("soft_cache", "the_least_recently_used_goes_first_and_no_more_than_is_needed",
     [("src/bytes/soft.rs", "            entry.used.fetch_max(now, Ordering::Relaxed);\n", "            let _ = now;\n")],
     "the cache forgets what was used"),
    ("model", "with_many_handles",
     [("src/bytes/direct_bytes.rs", "        let (begin, end) = range::within(range, self.len);\n        self.part(begin, end - begin)",
       "        let (begin, end) = range::within(range, self.len);\n        self.part(begin / 2, end - begin)")],
     "a slice shows other bytes"),
    ("model", "with_many_handles",
     [("src/bytes/direct_bytes_mut.rs", "        self.cap = at;\n        self.len = self.len.min(at);\n        self.fit();\n        back",
       "        self.len = self.len.min(at);\n        self.fit();\n        back")],
     "two halves may both write behind where they were split"),
    ("model", "with_many_handles",
     [("src/arena/header.rs", "            let next = rest | next_generation(state);\n            // Acquire: what a handle",
       "            let next = rest | (state & u64::from(GENERATION));\n            // Acquire: what a handle")],
     "a weak handle sees a buffer that became writable"),
    ("model", "in_any_order",
     [("src/reserve.rs", "buffer.resize(*this.zeroed, 0);", "buffer.resize(*this.zeroed, 1);")],
     "what is to be zero is not"),
    ("model", "in_any_order",
     [("src/reserve.rs", "wait.as_mut().ask(Claim::one(0, Location::caller()));", "let _ = wait;")],
     "a `PollReserve` that gave up keeps its place"),
    ("model", "with_many_handles",
     [("src/engine/last_resort.rs", "while self.need().is_some() && self.evict_one() {", "while self.need().is_none() && self.evict_one() {")],
     "someone waits, and what is only cached stays"),
    ("security", "no_byte_of_a_tenant_is_left",
     [("src/engine/unclean.rs", "ptr::write_bytes(start.as_ptr().add(from), 0, count)", "ptr::write_bytes(start.as_ptr().add(from), 0, count - 1)")],
     "the last byte of a block is not wiped"),
    ("security", "streams_take_any_argument",
     [("src/io/frame/length.rs", "        self.length_field_offset\n            .saturating_add(self.length_field_length)",
       "        self.length_field_offset + self.length_field_length")],
     "the place of a length field overflows"),
    ("security", "peers_that_do_not_read_take_the_pool_from_nobody",
     [("src/io/flow.rs", "ready!(room(writer, cx))?.max(WORTHWHILE)", "{ let _ = &room; 256 << 10 }")],
     "a relay reads what its other end does not take"),
    ("security", "many_blocks_above_4_gib",
     [("src/observe/stats.rs", "        stats.live += census.live * size;", "        stats.live += (census.live * size) as u32 as u64;")],
     "a figure wraps at 4 GiB"),
    ("security", "pools_take_any_argument",
     [("src/pool.rs", "(self.floor as u64).min(max_limit as u64)", "self.floor as u64")],
     "a floor above the limit is taken for a limit"),
]


def table():
    rows = ["| test | it was seen to fail when |", "| --- | --- |"]
    rows += [f"| `{test}` in `tests/{file_of_tests}.rs` | {meaning} |" for file_of_tests, test, _, meaning in BREAKS]
    return "\n".join(rows)


def check_table(root):
    if table() not in (root / "docs/testing.md").read_text():
        sys.exit("docs/testing.md does not have the table that `tests/break-on-purpose.py --table` prints")
    for file_of_tests, test, edits, _ in BREAKS:
        if f"fn {test}(" not in (root / "tests" / f"{file_of_tests}.rs").read_text():
            sys.exit(f"tests/{file_of_tests}.rs has no {test}")
        for file, there, _ in edits:
            if (root / file).read_text().count(there) != 1:
                sys.exit(f"{test}: {file} has changed, and with it the line to break:\n{there}")
    print(f"{len(BREAKS)} faults, as in docs/testing.md")


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    wanted = sys.argv[1:]
    if wanted == ["--table"]:
        return print(table())
    if wanted == ["--check-table"]:
        return check_table(root)
    failed = []
    (root / "target").mkdir(exist_ok=True)
    # Two at a time would take each other's builds for their own.
    alone = open(root / "target" / "broken.lock", "w")
    fcntl.flock(alone, fcntl.LOCK_EX)
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / "tree"
        shutil.copytree(root, tree, ignore=shutil.ignore_patterns("target", ".git"))
        environment = dict(os.environ, CARGO_TARGET_DIR=str(root / "target" / "broken"), RUST_BACKTRACE="0", PROPTEST_CASES="4000")
        for file_of_tests, test, edits, meaning in BREAKS:
            if wanted and test not in wanted and file_of_tests not in wanted:
                continue
            before = {}
            for file, there, broken in edits:
                text = (tree / file).read_text()
                before.setdefault(file, text)
                if text.count(there) != 1:
                    sys.exit(f"{test}: {file} has changed, and with it the line to break:\n{there}")
                (tree / file).write_text(text.replace(there, broken))
            command = ["cargo", "test", "-q", "-p", "offheap", "--features", "test-util", "--test", file_of_tests, "--", test]
            # Another tree's build may look as if it were this one's.
            subprocess.run(["cargo", "clean", "-q", "-p", "offheap"], cwd=tree, env=environment, check=True)
            try:
                done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=300)
                built = "could not compile" not in done.stderr
                caught = built and done.returncode != 0
                why = next((line for line in done.stdout.splitlines() + done.stderr.splitlines() if "panicked" in line), "")
                if not built:
                    why = done.stderr[-600:]
            except subprocess.TimeoutExpired:
                # A hang is a failure that the tests' own watchdogs may be too patient for.
                caught, why = True, "hangs"
            for file, text in before.items():
                (tree / file).write_text(text)
            # A seed of a broken crate says nothing about this one.
            shutil.rmtree(tree / "tests" / "regressions", ignore_errors=True)
            print(f"{file_of_tests}::{test}: {'fails as it should' if caught else 'DOES NOT FAIL'} when {meaning} {why}", flush=True)
            if not caught:
                failed.append(test)
    if failed:
        sys.exit("not seen to fail: " + ", ".join(failed))


if __name__ == "__main__":
    main()
