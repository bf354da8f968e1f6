# systemd units, alert rules.
