"""What can be done with deliveries: load, decide, save. Callers' rights are checked here, once."""

from deliveries.repository import KnownBatch, know_batch, know_volunteer
from deliveries.usecases.asking import Asked, NotYourDelivery, Policy
from deliveries.usecases.claims import (
    claim,
    confirm,
    contest_no_show,
    join_waiting_list,
    leave_waiting_list,
    no_show,
    reassign,
    release,
)
from deliveries.usecases.custody import Custody, show_code
from deliveries.usecases.ends import cancel, fail
from deliveries.usecases.following import Following
from deliveries.usecases.handovers import (
    dropoff,
    override_dropoff,
    override_pickup,
    override_return,
    pickup,
    return_,
)
from deliveries.usecases.plans import NewDelivery, plan
from deliveries.usecases.reactions import (
    batch_spoiled,
    expire,
    grant_hold,
    organization_gone,
    reject_hold,
    release_unconfirmed,
    volunteer_suspended,
)
from deliveries.usecases.road import discard, lose, refuse, reroute
from deliveries.usecases.saving import EXPIRE, UNCONFIRMED
from deliveries.usecases.seeing import WhereTo, history, offers, where_to
from deliveries.usecases.stages import entered
from deliveries.usecases.stages import timers as stage_timers

__all__ = [
    "EXPIRE",
    "UNCONFIRMED",
    "Asked",
    "Custody",
    "Following",
    "KnownBatch",
    "NewDelivery",
    "NotYourDelivery",
    "Policy",
    "WhereTo",
    "batch_spoiled",
    "cancel",
    "claim",
    "confirm",
    "contest_no_show",
    "discard",
    "dropoff",
    "entered",
    "expire",
    "fail",
    "grant_hold",
    "history",
    "join_waiting_list",
    "know_batch",
    "know_volunteer",
    "leave_waiting_list",
    "lose",
    "no_show",
    "offers",
    "organization_gone",
    "override_dropoff",
    "override_pickup",
    "override_return",
    "pickup",
    "plan",
    "reassign",
    "refuse",
    "reject_hold",
    "release",
    "release_unconfirmed",
    "reroute",
    "return_",
    "show_code",
    "stage_timers",
    "volunteer_suspended",
    "where_to",
]
