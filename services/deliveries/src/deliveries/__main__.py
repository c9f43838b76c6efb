"""`python -m deliveries api|worker|all|migrate|refold`."""

from chassis.app import main

from deliveries.main import build

if __name__ == "__main__":
    main(build)
