"""`python -m batches api|worker|all|migrate|refold`."""

from chassis.app import main

from batches.main import build

if __name__ == "__main__":
    main(build)
