"""A whole search in one file, to keep or to continue on another machine."""

from __future__ import annotations

from storage.backup.archive import Archive, BackupInfo
from storage.backup.move import Restored, make_backup, restore_backup

__all__ = ["Archive", "BackupInfo", "Restored", "make_backup", "restore_backup"]
