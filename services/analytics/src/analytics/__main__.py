"""`python -m analytics api|worker|all|migrate|refold`."""

from chassis.app import main

from analytics.main import build

if __name__ == "__main__":
    main(build)
