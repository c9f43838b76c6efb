"""The main job on real data, through the public gateway only, and the reconciliation afterwards."""
