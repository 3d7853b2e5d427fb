"""Which file systems SQLite can live on: its locks and shared memory need a local disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
_NETWORK = {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "gfs", "gfs2", "glusterfs", "gpfs", "lustre"}
_NETWORK |= {"ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs"}
#: Drivers in user space that keep their data on a local disk.
_LOCAL_FUSE = {"fuse.fuse-overlayfs", "fuse.ntfs-3g", "fuse.exfat", "fuse.lxcfs", "fuse.bindfs"}


@dataclass(frozen=True)
class Mount:
    point: Path
    kind: str

    @property
    def is_network(self) -> bool:
        """Network file systems and buckets. A container's root may be 9p and still be local."""
        if self.kind == "9p" and self.point == Path("/"):
            return False
        return self.kind in _NETWORK or (self.kind.startswith("fuse.") and self.kind not in _LOCAL_FUSE)


def mount_of(path: Path, mounts: Path = MOUNTS) -> Mount | None:
    """The mount that holds ``path`` (which need not exist yet); None where the system does not say."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    path = path.resolve()
    found: Mount | None = None
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(_unescaped(fields[1]))
        # Later lines are mounted over earlier ones.
        if path.is_relative_to(point) and (found is None or len(point.parts) >= len(found.point.parts)):
            found = Mount(point, fields[2])
    return found


def _unescaped(text: str) -> str:
    for code, sign in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, sign)
    return text
