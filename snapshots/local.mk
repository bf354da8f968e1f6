# Base backups and WAL in the object store; nothing here yet.
