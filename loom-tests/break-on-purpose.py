#!/usr/bin/env python3
"""Breaks the core on purpose, one line at a time, and expects the named loom model to fail each time.

A model that can not fail proves nothing. Run by hand or by CI: `loom-tests/break-on-purpose.py [MODEL ...]`.
Works on a copy of the tree; needs cargo and nothing else. `--table` prints what is broken for which model, as
docs/testing.md has it; `--check-table` compares the two, and the models with what is broken.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

# (model, [(file, what is there, what it is broken into)], what that means)
BREAKS = [
    ("drop_against_park",
     [("src/engine/mod.rs",
       "                self.shut_all(state);\n            } else if state.asleep",
       "            } else if state.asleep")],
     "a waiter parks without shutting the magazines"),
    ("drop_of_another_size_against_park",
     [("src/engine/mod.rs", "                    state.news = true;\n                    // The helper", "                    // The helper"),
      ("src/engine/mod.rs", "state.again = true;\n                }\n                self.conclude", "}\n                self.conclude")],
     "nobody is called to clean what was dropped"),
    ("two_who_clean",
     [("src/engine/clean.rs", "            state.news |= news;\n            state.again |= news;\n", "")],
     "what is put back is no news"),
    ("last_two_of_a_span",
     [("src/engine/mod.rs", "                    state.news = true;\n                    // The helper", "                    // The helper"),
      ("src/engine/mod.rs", "state.again = true;\n                }\n                self.conclude", "}\n                self.conclude")],
     "nobody is called to clean the span that is complete"),
    ("trim_against_park",
     [("src/engine/mod.rs", "            return;\n        }\n        self.locked(|state| self.give_back_locked(state, pages));",
       "            return;\n        }\n        self.give_back_locked(&mut lock(&self.state), pages);")],
     "pages are given back without serving"),
    ("cancel_after_grant",
     [("src/engine/wait.rs",
       "                }\n                claim.release();\n            });\n        }",
       "                }\n                let site = std::panic::Location::caller();\n                std::mem::forget(std::mem::replace(claim, Claim::one(0, site)));\n            });\n        }")],
     "a cancelled grant is not passed on"),
    ("cancel_in_mid_queue",
     [("src/budget/waiters.rs",
       "Some(prev) => Self::links(unsafe { prev.as_ref() }, |links| links.next = next),",
       "Some(prev) => Self::links(unsafe { prev.as_ref() }, |links| links.next = None),")],
     "whoever stood behind the cancelled one is forgotten"),
    ("one_release_for_many_waiters",
     [("src/engine/mod.rs",
       "            wakers.extend(state.queue.finish_head());\n        }\n        self.settle(state);",
       "            wakers.extend(state.queue.finish_head());\n            break;\n        }\n        self.settle(state);")],
     "one release serves one waiter"),
    ("try_reserve_against_a_waiter",
     [("src/budget/account.rs",
      "    pub(crate) fn is_pressed(&self) -> bool {\n        self.load() & PRESSED != 0",
      "    pub(crate) fn is_pressed(&self) -> bool {\n        false"),
      ("src/arena/class.rs",
      ".or_else(|| self.depot.pop(headers, Access::Calm))?;",
      ".or_else(|| self.depot.pop(headers, Access::Locked))?;"),
      ("src/engine/mod.rs", "match self.hand_over(&mut state, class, chain) {",
       "match Err::<Option<Waker>, _>(chain) {")],
     "newcomers do not look whether anyone waits, and take from a shut depot"),
    ("newcomer_against_a_large_waiter",
     [("src/budget/account.rs",
      "    pub(crate) fn is_pressed(&self) -> bool {\n        self.load() & PRESSED != 0",
      "    pub(crate) fn is_pressed(&self) -> bool {\n        false"),
      ("src/budget/account.rs",
       "let barred = word & PRESSED != 0 && !waited;",
       "let barred = false && !waited;")],
     "newcomers do not look whether anyone waits, and charge past the queue"),
    ("push_against_steal",
     [("src/arena/magazine.rs",
       "            Ordering::AcqRel,\n            Ordering::Acquire,",
       "            Ordering::Relaxed,\n            Ordering::Relaxed,")],
     "a push publishes nothing"),
    ("pops_and_pushes_of_one_shard",
     [("src/arena/magazine.rs",
       "const TAG: u64 = 1 << 33;",
       "const TAG: u64 = 0;")],
     "the word has no tag: ABA"),
    ("owned_push_against_park",
     [("src/arena/own.rs", "        barrier::light();\n", "")],
     "the owner does not fence between saying that it is busy and looking whether it may"),
    ("due_against_park",
     [("src/engine/mod.rs", "class.give_own(self.biased && !state.pressed && class.is_open());", "class.give_own(self.biased);")],
     "an owner gets its stack though someone waits"),
    ("owned_pop_against_steal",
     [("src/arena/own.rs", "        spin_while(|| self.stack.load(Ordering::Acquire) & BUSY != 0);\n", "")],
     "a thief does not wait for the owner"),
    ("owned_push_against_the_last_handle",
     [("src/arena/class.rs", "let own = shard.take_own(self.headers());", "let own = None;")],
     "what the owner has is not collected when the pool goes"),
    ("shut_against_push",
     [("src/arena/magazine.rs",
       "            if !seen.is_open() {\n                return Pushed::Shut(Chain::of(block));\n            }\n",
       "")],
     "a push does not see that the magazine is shut"),
    ("shut_against_spill",
     [("src/arena/depot.rs",
       "access == Access::Locked || seen.is_open()",
       "true")],
     "a spill goes into a shut depot"),
    ("clean_against_take",
     [("src/budget/account.rs",
       "(word & PRESSED == 0).then(|| Self::less(word, pages))",
       "Some(Self::less(word, pages))")],
     "pages are given back past a waiter"),
    ("last_drop_against_close",
     [("src/engine/close.rs",
       "        self.closed.store(1, Ordering::Release);\n        self.settle(state);",
       "        self.closed.store(1, Ordering::Release);")],
     "the count is taken before the magazines are shut"),
    ("reserve_against_close",
     [("src/engine/close.rs",
       "state.outstanding = self.bytes_of(self.account.committed()) - queued;",
       "state.outstanding = 0;")],
     "what newcomers have in hand is not counted"),
    ("waiter_against_close",
     [("src/engine/mod.rs",
       "if let Some(claim) = state.queue.head() {\n                    claim.refuse(Refused::Closed);\n                    state.outstanding -= self.take_back(claim);\n                    wakers.extend(state.queue.finish_head());\n                } else if",
       "if")],
     "close leaves the waiters waiting"),
    ("trim_against_close",
     [("src/engine/clean.rs",
       "state.outstanding += bag.bytes();",
       "")],
     "what a cleaner has in hand is not counted"),
    ("last_drops_against_the_last_handle",
     [("src/arena/class.rs",
       "            owner.as_ref().refs().fetch_add(1, Ordering::Relaxed);\n            owner.as_ref().returned(&*class, chain);\n            super::release(owner);",
       "            owner.as_ref().returned(&*class, chain);")],
     "a drop at the lock does not keep the pool"),
    ("set_limit_against_a_release",
     [("src/engine/clean.rs", "            self.account.set_limit(pages);", "            let _ = pages;")],
     "a raised limit never reaches the account"),
    ("lowered_limit_against_a_reservation",
     [("src/budget/account.rs",
       "(!barred && committed <= word >> LIMIT_SHIFT)",
       "(!barred && committed <= u64::from(self.limit()).max(2))")],
     "a charge goes by another limit than the one in its word"),
    ("charges_race_for_the_last_page",
     [("src/budget/account.rs",
       "        match self.update(change) {\n            Ok(_) => Ok(()),",
       "        let word = self.load();\n        if change(word).is_some() {\n            self.0.fetch_add(u64::from(pages), Ordering::AcqRel);\n            return Ok(());\n        }\n        match self.update(change) {\n            Ok(_) => Ok(()),")],
     "the limit is checked in one step and charged in another"),
    ("release_against_release",
     [("src/arena/header.rs",
       "(state, less, Ordering::Release, Ordering::Acquire)",
       "(state, less, Ordering::Relaxed, Ordering::Acquire)")],
     "a release publishes nothing to the last one"),
    ("unique_against_release",
     [("src/arena/header.rs",
       "header.weight(header.state.load(Ordering::Acquire)) == self.weight()",
       "header.weight(header.state.load(Ordering::Relaxed)) == self.weight()")],
     "a unique handle does not see what others did"),
    ("last_release_against_clone",
     [("src/arena/header.rs",
       "        let state = header.state.load(Ordering::Acquire);\n        // The count",
       "        let state = header.state.load(Ordering::Relaxed);\n        // The count"),
      ("src/arena/header.rs",
       "        let state = header.state.load(Ordering::Acquire);\n        if header.weight(state) == weight",
       "        let state = header.state.load(Ordering::Relaxed);\n        if header.weight(state) == weight"),
      ("src/arena/header.rs",
       "        let mut state = header.state.load(Ordering::Acquire);\n        while (",
       "        let mut state = header.state.load(Ordering::Relaxed);\n        while ("),
      ("src/arena/header.rs",
       "(state, less, Ordering::Release, Ordering::Acquire)",
       "(state, less, Ordering::Release, Ordering::Relaxed)")],
     "the last release does not see what the owner added"),
    ("last_release_elsewhere",
     [("src/arena/header.rs",
       "(state, less, Ordering::Release, Ordering::Acquire)",
       "(state, less, Ordering::Acquire, Ordering::Acquire)")],
     "the owner's additions are not published by its releases"),
    ("two_who_become_the_owner",
     [("src/arena/header.rs",
       "thread != NO_NUMBER && adopt().is_ok()",
       "self.owner.store(ours, Ordering::Relaxed);\n        let _ = adopt;\n        thread != NO_NUMBER")],
     "both threads take themselves for the owner"),
    ("last_release_against_try_into_mut",
     [("src/arena/header.rs",
       "header.weight(header.state.load(Ordering::Acquire)) == self.weight()",
       "(header.state.load(Ordering::Acquire) >> 32) as u32 == self.weight()")],
     "a unique handle does not count what the owner added"),
    ("shrinking_against_release",
     [("src/arena/header.rs",
       "            header.state.fetch_add(added, Ordering::Relaxed);\n",
       "")],
     "a handle changes its weight and does not say so"),
    ("hook_against_reuse",
     [("src/arena/header.rs",
       "            return block.retire(state, weight);\n",
       "            block.header().end(state, weight);\n            return Class::recycle(block);\n")],
     "the last drop does not look at the marks"),
    ("death_of_the_reclaimer_against_a_drop",
     [("src/engine/unclean.rs",
       "        if self.account.is_pressed_by_now() {\n            self.call_head();\n        }\n        if seen",
       "        if seen")],
     "a drop tells only the reclaimer"),
    ("hooked_drop_against_the_last_handle",
     [("src/engine/unclean.rs",
       "        self.unclean.inbox.fetch_or(ORPHAN, Ordering::AcqRel);\n",
       "")],
     "drops are not told that the reclaimer is gone"),
    ("wipe_against_reservation",
     [("src/engine/unclean.rs",
       "ptr::write_bytes(start.as_ptr().add(from), 0, count)",
       "ptr::write_bytes(start.as_ptr().add(from), 0, 0)")],
     "nothing is wiped"),
    ("upgrade_against_recycle",
     [("src/arena/weak.rs",
       "state as u32 & GENERATION != self.generation || state",
       "state")],
     "an upgrade does not compare the generation"),
    ("upgrade_against_make_unique",
     [("src/arena/header.rs",
       "let next = rest | next_generation(state);",
       "let next = rest | state;")],
     "a buffer that becomes writable stays in its generation"),
    ("upgrade_and_clone_against_make_unique",
     [("src/arena/header.rs",
       "return header.weight(state) == self.weight();",
       "return true;")],
     "clones that the owner added meanwhile are not seen"),
    ("upgrades_against_drops",
     [("src/arena/weak.rs",
       "0 => return None,",
       "0 => self.weight,")],
     "an upgrade does not ask whether there is another handle"),
    ("weak_against_the_last_handle",
     [("src/arena/weak.rs",
       "        unsafe { Keep::count(shared.class().owner_ptr()) };\n        Weak {",
       "        Weak {")],
     "a weak handle does not keep the headers"),
    ("delivery_against_drop_of_the_queue",
     [("src/reclaim/references.rs",
       "        drop(refused);",
       "        std::mem::forget(refused);")],
     "a token that nobody will take is lost"),
    ("delivery_against_wait",
     [("src/reclaim/references.rs",
       "        waker.into_iter().for_each(wake);",
       "        drop(waker);")],
     "whoever waits for a token is not woken"),
    ("last_handle_against_wait",
     [("src/reclaim/references.rs",
       "let done = state.sources == 0 || !state.tokens.is_empty();",
       "let done = !state.tokens.is_empty();")],
     "whoever waits is not told of the end"),
    ("single_flight_last_resort",
     [("src/engine/last_resort.rs",
       "                let mut flight = lock(&self.last_resort.flight);\n                // Under the lock: whoever said that callbacks may be run began its episode before.\n                let episode = self.last_resort.episodes.load(Ordering::Acquire);\n",
       "                let episode = self.last_resort.episodes.load(Ordering::Acquire);\n                let mut flight = lock(&self.last_resort.flight);\n")],
     "a new episode is taken for an old one"),
    ("last_but_one_drop_against_park",
     [("src/arena/header.rs",
       "                keep.owner().loosened();\n",
       "")],
     "nobody is told that a cached buffer has become evictable"),
]


def by_model(name):
    return next(edits for model, edits, _ in BREAKS if model == name)


# (test of shuttle-tests, as above, what that means)
LONG_BREAKS = [
    ("everything_at_once", by_model("cancel_after_grant"), "a cancelled grant is not passed on"),
    ("everything_at_once_by_priorities", by_model("drop_against_park"), "a waiter parks without shutting the magazines"),
    ("everything_and_close", by_model("waiter_against_close"), "close leaves the waiters waiting"),
    ("everything_and_close_by_priorities", by_model("cancel_in_mid_queue"), "whoever stood behind the cancelled one is forgotten"),
]


def path_of(root, package, model):
    """The whole name of a test, so that no other one runs and fails in its place."""
    folder = {"offheap-loom-tests": "loom-tests/src/models", "offheap-shuttle-tests": "shuttle-tests/src"}[package]
    for file in sorted((root / folder).glob("*.rs")):
        if f"fn {model}()" in file.read_text():
            module = "" if file.stem == "mod" else file.stem + "::"
            return ("models::" if "loom" in package else "") + module + model
    sys.exit(f"{model}: no such test in {folder}")


def invariants(root):
    """Which invariants a model is of, by ARCHITECTURE.md."""
    found = {}
    for line in (root / "ARCHITECTURE.md").read_text().splitlines():
        row = re.match(r"\| (\d+) \| .* \| .* \| (.*) \|$", line)
        for model in re.findall(r"`(\w+)`", row.group(2)) if row else []:
            found.setdefault(model, []).append(row.group(1))
    return found


def table(root):
    rows = ["| model | invariant | it was seen to fail when |", "| --- | --- | --- |"]
    known = invariants(root)
    for model, _, meaning in BREAKS:
        rows.append(f"| `{model}` | {', '.join(known.get(model, ['–']))} | {meaning} |")
    rows += [f"| `{test}` (shuttle) | 1, 4 to 8, 12, 13 | {meaning} |" for test, _, meaning in LONG_BREAKS]
    return "\n".join(rows)


def check_table(root):
    page = (root / "docs/testing.md").read_text()
    if table(root) not in page:
        sys.exit("docs/testing.md does not have the table that `loom-tests/break-on-purpose.py --table` prints")
    broken = {model for model, _, _ in BREAKS}
    models = set()
    for file in (root / "loom-tests/src/models").glob("*.rs"):
        models |= set(re.findall(r"#\[test\]\s+fn (\w+)\(", file.read_text()))
    if models != broken:
        sys.exit(f"models and what is broken for them differ: {sorted(models ^ broken)}")
    unknown = set(invariants(root)) - models
    if unknown:
        sys.exit(f"ARCHITECTURE.md names models that are not there: {sorted(unknown)}")
    print(f"{len(broken)} models, each with its break, as in docs/testing.md")


def run(command, tree, environment):
    """Whether a model fails, and what it says. A checker that has failed may hang at its end, with threads that it gave up."""
    with tempfile.TemporaryFile(mode="w+") as output:
        done = subprocess.Popen(command, cwd=tree, env=environment, stdout=output, stderr=output, start_new_session=True)
        for _ in range(300):
            try:
                done.wait(timeout=1)
            except subprocess.TimeoutExpired:
                pass
            output.seek(0)
            text = output.read()
            failed = "test result: FAILED" in text
            if failed or done.returncode is not None:
                break
        if done.poll() is None:
            os.killpg(done.pid, signal.SIGKILL)
            done.wait()
    why = next((line for line in text.splitlines()
                if "deadlock" in line.lower() or "panicked" in line or "Causality" in line), "")
    if "could not compile" in text:
        return False, text[-600:]
    # A model may also end by an abort.
    return failed or done.returncode not in (0, -signal.SIGKILL), why


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    wanted = sys.argv[1:]
    if wanted == ["--table"]:
        return print(table(root))
    if wanted == ["--check-table"]:
        return check_table(root)
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / "tree"
        skip = shutil.ignore_patterns("target", ".git")
        shutil.copytree(root, tree, ignore=skip)
        environment = dict(os.environ, CARGO_TARGET_DIR=str(root / "target" / "broken"), RUST_BACKTRACE="0")
        every = [("offheap-loom-tests", *one) for one in BREAKS] + [("offheap-shuttle-tests", *one) for one in LONG_BREAKS]
        for package, model, edits, meaning in every:
            if wanted and model not in wanted:
                continue
            before = {}
            for file, there, broken in edits:
                text = (tree / file).read_text()
                before.setdefault(file, text)
                if text.count(there) != 1:
                    sys.exit(f"{model}: {file} has changed, and with it the line to break:\n{there}")
                (tree / file).write_text(text.replace(there, broken))
            command = ["cargo", "test", "-q", "-p", package, "--", "--exact", path_of(root, package, model), "--nocapture"]
            caught, why = run(command, tree, environment)
            for file, text in before.items():
                (tree / file).write_text(text)
            print(f"{model}: {'fails as it should' if caught else 'DOES NOT FAIL'} when {meaning} {why}", flush=True)
            if not caught:
                failed.append(model)
    if failed:
        sys.exit("not seen to fail: " + ", ".join(failed))


main()
