"""`python -m notifications api|worker|all|migrate|refold`."""

from chassis.app import main

from notifications.main import build

if __name__ == "__main__":
    main(build)
