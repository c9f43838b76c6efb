"""A delivery from the plan to the handover, every act by who may do it: planner, volunteer, provider, receiver."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from scripts.demo_run.client import Gateway, Json, Person, Refused
from scripts.demo_run.hands import NEWS, Hands, TooSlow
from scripts.demo_run.people import Cast, Place
from scripts.demo_run.plan import Fate, Trip
from scripts.demo_run.progress import Stages
from scripts.demo_run.supply import CHILLED_DC

RIVALS = 3
NOT_THIS_ONE = ("vehicle-does-not-fit", "claim-overlaps")
NO_MORE_TODAY = ("claim-cap-reached",)


@dataclass
class Outcome:
    """What became of the deliveries; `left` is what the next run finishes."""

    ended: Counter[str] = field(default_factory=Counter)
    planned: int = 0
    for_requests: int = 0
    wrong_codes_refused: int = 0
    claims_lost: int = 0
    claims_declined: int = 0
    claims: Counter[str] = field(default_factory=Counter)  # by e-mail address
    left: list[Json] = field(default_factory=list)

    @property
    def delivered(self) -> int:
        """Those that reached a shelter."""
        return self.ended["delivered"]


class Pool:
    """The volunteers who are free; who has carried enough today does not come back."""

    def __init__(self, volunteers: list[Person]) -> None:
        self._free: asyncio.Queue[Person] = asyncio.Queue()
        self._out = 0
        self._all = len(volunteers)
        for volunteer in volunteers:
            self._free.put_nowait(volunteer)

    async def take(self) -> Person:
        """The next free one."""
        if self._out >= self._all:
            raise TooSlow("no volunteer is left: all have reached their limit for today")
        return await self._free.get()

    def rivals(self, count: int) -> list[Person]:
        """Up to so many who are free right now."""
        return [self._free.get_nowait() for _ in range(min(count, self._free.qsize()))]

    def give_back(self, *volunteers: Person) -> None:
        """They are free again."""
        for volunteer in volunteers:
            self._free.put_nowait(volunteer)

    def leave(self) -> None:
        """One does not come back."""
        self._out += 1


class Journeys:
    """Carries out trips."""

    def __init__(self, gateway: Gateway, cast: Cast) -> None:
        self._gateway = gateway
        self._hands = Hands(gateway)
        self.pool = Pool(cast.volunteers)
        self._people = {person.email: person for person in cast.people}
        self.outcome = Outcome()
        self._endings: dict[Fate, Callable[[Trip, str, Person], Awaitable[None]]] = {
            Fate.CANCELLED_CLAIMED: self._cancel,
            Fate.LEFT_CLAIMED: self._leave,
            Fate.PART_RETURNED: self._return_a_part,
            Fate.REROUTED: self._reroute,
        }

    async def carry(self, stages: Stages, trips: list[Trip]) -> Outcome:
        """All of them, as many at once as there are volunteers."""
        await stages.each("deliveries", trips, self._trip)
        return self.outcome

    async def finish(self, stages: Stages, left: list[Json]) -> None:
        """Those that the last run left claimed: the same volunteers bring them now."""
        await stages.each("deliveries of the last run", left, self._finish)

    async def _trip(self, trip: Trip) -> None:
        delivery = await self._plan(trip)
        if trip.fate is Fate.OVERSOLD:
            await self._hands.until(trip.planner, delivery, "cancelled")
        else:
            await self._hands.until(trip.planner, delivery, "open")
        if trip.fate is Fate.CANCELLED_OPEN:
            await self._cancel(trip, delivery, trip.planner)
        elif trip.fate not in (Fate.LEFT_OPEN, Fate.OVERSOLD):
            await self._by_a_volunteer(trip, delivery)
        ended = await self._gateway.get(trip.planner, "/v1/deliveries/{}", delivery)
        self.outcome.ended[ended["status"]] += 1

    async def _plan(self, trip: Trip) -> str:
        request = trip.request.id if trip.request else None
        self.outcome.for_requests += request is not None
        delivery = await self._hands.plan(trip.planner, trip.batch.id, trip.quantity, trip.to, request=request)
        self.outcome.planned += 1
        return delivery

    # -- the volunteer's part --------------------------------------------------------------------------------------------

    async def _by_a_volunteer(self, trip: Trip, delivery: str) -> None:
        volunteer = await self._claimed(trip, delivery)
        if trip.fate is Fate.RELEASED:
            volunteer = await self._hand_on(trip, delivery, volunteer)
        ending = self._endings.get(trip.fate, self._deliver)
        await ending(trip, delivery, volunteer)
        if trip.fate is Fate.LEFT_CLAIMED:
            self.pool.leave()
        else:
            self.pool.give_back(volunteer)

    async def _claimed(self, trip: Trip, delivery: str) -> Person:
        """The first free volunteer who can; or, when contested, whoever of several is quickest."""
        passed: list[Person] = []
        try:
            while True:
                volunteer = await self.pool.take()
                rivals = self.pool.rivals(RIVALS - 1) if trip.fate is Fate.CONTESTED else []
                winner = await self._compete(delivery, [volunteer, *rivals], passed)
                if winner is not None:
                    return winner
        finally:
            self.pool.give_back(*passed)

    async def _compete(self, delivery: str, rivals: list[Person], passed: list[Person]) -> Person | None:
        codes = await asyncio.gather(*(self._claim(delivery, rival) for rival in rivals))
        winners = [rival for rival, code in zip(rivals, codes, strict=True) if code == ""]
        if len(winners) > 1:
            raise AssertionError(f"delivery {delivery} has {len(winners)} claims")
        for rival, code in zip(rivals, codes, strict=True):
            if code in NO_MORE_TODAY:
                self.pool.leave()
            elif code:
                passed.append(rival)
        return winners[0] if winners else None

    async def _claim(self, delivery: str, volunteer: Person) -> str:
        """An empty text, or the code of the refusal."""
        try:
            await self._gateway.post(volunteer, "/v1/deliveries/{}/claim", delivery, json={}, patience=NEWS)
        except Refused as refused:
            if refused.code in NOT_THIS_ONE or refused.code in NO_MORE_TODAY:
                self.outcome.claims_declined += 1
            elif refused.status == 409:
                self.outcome.claims_lost += 1
            else:
                raise
            return refused.code
        self.outcome.claims[volunteer.email] += 1
        return ""

    async def _hand_on(self, trip: Trip, delivery: str, volunteer: Person) -> Person:
        body = {"reason": "Imprevisto com o veículo"}
        await self._gateway.post(volunteer, "/v1/deliveries/{}/release", delivery, json=body)
        another = await self._claimed(trip, delivery)
        self.pool.give_back(volunteer)
        return another

    # -- custody ---------------------------------------------------------------------------------------------------------

    async def _pick_up(self, trip: Trip, delivery: str, volunteer: Person) -> Json:
        giver, temperature_dc = trip.batch.place.organization.somebody(trip.number), _temperature_dc(trip)
        if trip.fate is Fate.WRONG_CODE:
            await self._try_wrong_code(giver, delivery, temperature_dc)
        missing = 1 if trip.fate is Fate.SHORT else 0
        return await self._hands.pick_up(giver, volunteer, delivery, missing=missing, temperature_dc=temperature_dc)

    async def _try_wrong_code(self, giver: Person, delivery: str, temperature_dc: int | None) -> None:
        lines = (await self._gateway.get(giver, "/v1/deliveries/{}", delivery))["lines"]
        picked = [{"line_id": line["line_id"], "picked": line["planned"]} for line in lines]
        body = {"code": "000000", "lines": picked, "temperature_dc": temperature_dc}
        try:
            await self._gateway.post(giver, "/v1/deliveries/{}/pickup", delivery, json=body)
        except Refused as refused:
            if refused.code != "wrong-code":
                raise
            self.outcome.wrong_codes_refused += 1
            return
        raise AssertionError("a wrong code was accepted")

    async def _deliver(self, trip: Trip, delivery: str, volunteer: Person) -> None:
        carried = await self._pick_up(trip, delivery, volunteer)
        await self._drop_off(trip, volunteer, carried, trip.to)

    async def _drop_off(self, trip: Trip, volunteer: Person, carried: Json, to: Place, *, rejected: int = 0) -> None:
        taker, temperature_dc = to.organization.somebody(trip.number), _temperature_dc(trip)
        await self._hands.drop_off(taker, volunteer, carried, rejected=rejected, temperature_dc=temperature_dc)

    async def _return_a_part(self, trip: Trip, delivery: str, volunteer: Person) -> None:
        carried = await self._pick_up(trip, delivery, volunteer)
        await self._drop_off(trip, volunteer, carried, trip.to, rejected=1)
        await self._hands.give_back(trip.batch.place.organization.somebody(trip.number), volunteer, delivery)

    async def _reroute(self, trip: Trip, delivery: str, volunteer: Person) -> None:
        carried = await self._pick_up(trip, delivery, volunteer)
        await self._hands.refuse(trip.to.organization.somebody(trip.number), delivery, "Abrigo sem espaço")
        await self._hands.reroute(volunteer, delivery, trip.elsewhere)
        await self._drop_off(trip, volunteer, carried, trip.elsewhere)

    # -- other ends ------------------------------------------------------------------------------------------------------

    async def _cancel(self, trip: Trip, delivery: str, _: Person) -> None:
        body = {"reason": "O abrigo foi desativado"}
        await self._gateway.post(trip.planner, "/v1/deliveries/{}/cancel", delivery, json=body)

    async def _leave(self, trip: Trip, delivery: str, volunteer: Person) -> None:
        giver, taker = trip.batch.place.organization, trip.to.organization
        self.outcome.left.append(
            {
                "delivery": delivery,
                "volunteer": volunteer.email,
                "giver": giver.somebody(trip.number).email,
                "taker": taker.somebody(trip.number).email,
                "temperature_dc": _temperature_dc(trip),
            }
        )

    async def _finish(self, left: Json) -> None:
        delivery, volunteer = left["delivery"], self._people[left["volunteer"]]
        found = await self._gateway.get(volunteer, "/v1/deliveries/{}", delivery)
        if found["status"] != "claimed":
            return
        giver, taker, temperature_dc = self._people[left["giver"]], self._people[left["taker"]], left["temperature_dc"]
        carried = await self._hands.pick_up(giver, volunteer, delivery, temperature_dc=temperature_dc)
        await self._hands.drop_off(taker, volunteer, carried, temperature_dc=temperature_dc)
        self.outcome.ended["delivered"] += 1


def _temperature_dc(trip: Trip) -> int | None:
    return CHILLED_DC if trip.batch.product.storage == "chilled" else None
