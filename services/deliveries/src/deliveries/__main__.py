"""`python -m deliveries api|worker|all|migrate`."""

from chassis.app import main

from deliveries.main import build

if __name__ == "__main__":
    main(build)
