"""How the daemon is watched and stopped: health, lag, probes, HTTP, signals, systemd."""
