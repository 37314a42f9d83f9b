"""What permissions of a file system can do for a repository, and what they cannot."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from penstock.api import PolicyText, Right, Rights, prefixes_with

__all__ = ["policy_of"]


def policy_of(root: Path, rights: Sequence[Rights]) -> tuple[PolicyText, ...]:
    """An account of its own, and what that is worth."""
    folder = shlex.quote(str(root))
    account = "# As root. One account for all that use this folder, with no other purpose.\n"
    commands = f"useradd --system --shell /usr/sbin/nologin penstock\ninstall -d -m 0700 -o penstock {folder}"
    return (
        PolicyText(f"The folder {root}", account + commands),
        PolicyText("What permissions cannot do", _limits(rights)),
    )


def _limits(rights: Sequence[Rights]) -> str:
    wanted = ", ".join(right for right in Right if prefixes_with(right, rights))
    return "\n".join(
        [
            f"This role needs: {wanted}. POSIX permissions cannot grant that and no more: who may put a file into a",
            "folder may remove files from it, and the owner of a file or a folder may change its permissions back. A",
            "sticky folder only keeps accounts from each other's files, and the folders of a repository belong to one",
            "account. So whoever runs as that account can delete the whole repository. What is in it stays sealed and",
            "signed: it cannot be read without the owner's key, and not be changed unnoticed.",
            "",
            "What helps, the strongest first:",
            "- Keep a second repository in an object store with object lock, and back up to both.",
            "- Let another account or host keep copies that this account cannot reach: snapshots of the file system",
            "  (ZFS, Btrfs, LVM or the file server's own), or a host that fetches the folder and lets this one not in.",
            "- chattr +a on a folder and +i on files (ext4, XFS, Btrfs) need root to lift. Penstock does not set them;",
            "  a prune leaves such files, and says so.",
        ]
    )
