"""Run the whole system natively from a checkout: `Stack(home).up()`, `.down()`, `.kill("batches")`, `.settings`."""

from scripts.stack.failure import StackError
from scripts.stack.instance import REPOSITORY, SERVICES, Instance, PortBusy
from scripts.stack.lifecycle import Stack

__all__ = ["REPOSITORY", "SERVICES", "Instance", "PortBusy", "Stack", "StackError"]
