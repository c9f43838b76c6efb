"""What can be done with identity: load, decide, save. Callers' rights are checked here, once."""
