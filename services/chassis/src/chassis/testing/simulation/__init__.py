"""Relay and consumers in a world of one seed: crashes, duplicates, delays and losses, thousands of schedules a minute."""
