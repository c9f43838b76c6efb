"""`python -m webhooks api|worker|all|migrate|refold`."""

from chassis.app import main

from webhooks.main import build

if __name__ == "__main__":
    main(build)
