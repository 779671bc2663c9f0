"""An ordinary clone of a project, to push from as anybody would."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from local.stack import Stack


def push(
    stack: Stack, project: str, files: Mapping[str, str | None], message: str
) -> Sequence[str]:
    """Commit to the default branch in an ordinary clone and `git push`; returns the commands.

    A content of None deletes the file.
    """
    clone = stack.folder / "clones" / project
    git = stack.gitlab.control.git_environment()

    def run(*arguments: str, cwd: Path) -> None:
        subprocess.run(
            ["git", *arguments], env=git, cwd=cwd, check=True, capture_output=True, timeout=60
        )

    if not clone.exists():
        clone.parent.mkdir(parents=True, exist_ok=True)
        run(
            "clone", "--quiet", stack.gitlab.control.push_url(project), str(clone), cwd=clone.parent
        )
        run("checkout", "--quiet", "-B", "main", cwd=clone)
    for path, content in files.items():
        file = clone / path
        if content is None:
            file.unlink()
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
    run("add", "--all", cwd=clone)
    run("commit", "--quiet", "--message", message, cwd=clone)
    run("push", "--quiet", "origin", "main", cwd=clone)
    return [f"git add {' '.join(files)}", f"git commit -m '{message}'", "git push"]
