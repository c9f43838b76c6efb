"""`python -m resources api|worker|all|migrate|refold`."""

from chassis.app import main

from resources.main import build

if __name__ == "__main__":
    main(build)
