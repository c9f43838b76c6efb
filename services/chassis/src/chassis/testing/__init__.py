"""The pytest plugin of every service: a migrated database, a broker, a clock's patience, callers and a live process.

Needs `VAJ_TEST_DATABASE_ADMIN_URL`, `VAJ_TEST_BROKER_URL` and `VAJ_TEST_REDIS_URL`; `scripts/test` sets them.
"""

from chassis.testing.bus import Bus, Tap
from chassis.testing.callers import Callers
from chassis.testing.crowds import told
from chassis.testing.live import LiveService, free_port, service_environment
from chassis.testing.patience import eventually

__all__ = ["Bus", "Callers", "LiveService", "Tap", "eventually", "free_port", "service_environment", "told"]
