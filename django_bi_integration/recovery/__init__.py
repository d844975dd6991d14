"""Repair after mistakes: run failed receivers again, swap conflicting bodies, rebuild object states."""
