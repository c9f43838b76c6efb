"""Real data that ships with the demo; `SOURCES.md` says where it comes from and under which licence."""
