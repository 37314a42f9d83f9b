"""MySQL and MariaDB databases as a source of Penstock."""
