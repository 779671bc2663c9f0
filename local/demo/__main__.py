"""`make demo`: starts everything, tells the story, ends everything."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from local.demo.narrator import Narrator
from local.demo.story import STEPS, StepFailedError, Story
from local.kubernetes.progress import TerminalProgress
from local.stack import EXPECTED_ERRORS, Stack

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--cluster", type=Path, help="a kubeconfig to use instead of a new cluster")
    parser.add_argument("--port", type=int, default=0, help="the gateway's port, by default free")
    options = parser.parse_args(arguments)
    # Ctrl-C and a polite kill end alike: by unwinding, so that nothing is left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    namespace = f"jobgate-demo-{secrets.token_hex(3)}"
    if options.cluster is not None and not _agreed(options.cluster, namespace):
        print("Nothing was done.")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="jobgate-demo-"))
    try:
        return _run(folder, options.cluster, options.port, namespace)
    except KeyboardInterrupt:
        print("\nInterrupted; everything was ended.", file=sys.stderr)
        return 130
    except EXPECTED_ERRORS as error:
        print(f"\n{error}\n\nThe demo can't go on; everything was ended.", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, kubeconfig: Path | None, port: int, namespace: str) -> int:
    progress = TerminalProgress(sys.stdout)
    narrator = Narrator(sys.stdout, progress, steps=len(STEPS))
    began = time.monotonic()
    with Stack.start(folder, progress=progress, kubeconfig=kubeconfig, port=port) as stack:
        narrator.says(f"Everything runs, after {time.monotonic() - began:.0f} s.")
        story = Story(stack, narrator, namespace)
        try:
            with stack.watched():
                done = _tell(story)
        finally:
            if kubeconfig is not None and story.installation is not None:
                narrator.says(
                    f"Removing {namespace}, {namespace}-access and all that goes with it."
                )
                story.installation.remove()
    print()
    for what, seconds in story.measured.items():
        print(f"  {what}: {seconds:.1f} s")
    print(f"\n{done} of {len(STEPS)} steps, {time.monotonic() - began:.0f} s in all")
    return 0 if done == len(STEPS) else 1


def _tell(story: Story) -> int:
    """Tell all steps; returns how many came out as they should."""
    done = 0
    for title, step in STEPS:
        story.narrator.step(title)
        try:
            step(story)
            done += 1
        except (StepFailedError, *EXPECTED_ERRORS) as error:
            story.stack.check()  # a part that has ended is the cause, not what came of it
            story.narrator.failed(str(error))
            if story.installation is None:
                break
    return done


def _agreed(kubeconfig: Path, namespace: str) -> bool:
    """Show what the demo creates in somebody's cluster, and ask."""
    print(
        f"The demo will create in the current context of {kubeconfig}, and remove at its end:\n"
        f"  namespace           {namespace}, with all that the story deploys into it\n"
        f"  namespace           {namespace}-access, with jobgate-relay and jobgate-agent\n"
        f"  ClusterRole and -Binding for jobgate-relay: to impersonate users and groups\n"
        f"  ClusterRole         like edit, without ServiceAccounts\n"
        f"  RoleBindings        in these namespaces only"
    )
    try:
        return input("Go on? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main(sys.argv[1:]))
    os._exit(1)
