"""Every call of every step of create, update and delete, each in a lane of its own that a fault is armed for.

Behind each comes a delete and a create by another owner, so that what lands late meets a lane that has
moved on.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from uuid import UUID

from outbox import Intent
from outbox.testing import Armed, Call, FaultProxy, Gate, Late
from outbox.testing.faults import Hold
from tests.pipeline.harness import BAD_CRON, Pipeline

WRITE, REMOVE, READ = "WriteRelationships", "DeleteRelationships", "ReadRelationships"
CREATE, UPDATE, DELETE = "CreateSchedule", "UpdateSchedule", "DeleteSchedule"
DESCRIBE = "DescribeSchedule"
When = Callable[[Call], bool]
Fault = Armed | Late | Gate
Arm = Callable[[FaultProxy, str, When], Fault]

_ENDS = {
    "create": ("created", None),
    "broken": ("create_failed", "refused"),
    "update": ("updated", None),
    "delete": ("deleted", None),
}


@dataclass(frozen=True)
class Site:
    """One call of one step.

    Attributes:
        intent: what is under way when the call is made.
        mark: the call carries an intent's mark, not the schedule's id.
        lose: the reply that is lost first, as the call is only made to find out.
        of_follower: the call is the next intent's.
    """

    intent: str
    method: str
    mark: bool = False
    lose: str | None = None
    of_follower: bool = False


SITES = {
    "register": Site("create", WRITE),
    "look-for-registration": Site("create", REMOVE, lose=WRITE),
    "create": Site("create", CREATE),
    "look-for-schedule": Site("create", DESCRIBE, lose=CREATE),
    "mark-compensated": Site("broken", WRITE, mark=True),
    "compensate": Site("broken", REMOVE),
    "read": Site("update", DESCRIBE),
    "update": Site("update", UPDATE),
    "describe": Site("delete", DESCRIBE),
    "delete": Site("delete", DELETE),
    "mark-deleted": Site("delete", WRITE, mark=True),
    "deregister": Site("delete", REMOVE),
}


@dataclass
class Scene:
    """A fault armed at a site, in a lane of its own.

    Attributes:
        intent: what is under way.
        victim: the create whose effects the call is about.
        next: the intent behind it.
        last: the last intent of the lane, a create by another owner.
    """

    name: str
    site: Site
    intent: Intent
    victim: UUID
    next: Intent
    last: Intent
    fault: Fault = field(init=False)

    @property
    def gate(self) -> Gate:
        assert isinstance(self.fault, Gate)
        return self.fault

    def held(self, pipeline: Pipeline) -> Call:
        """The call that stands at the gate."""
        (call,) = (
            call
            for call in self.proxy(pipeline).calls()
            if isinstance(call.fault, Hold) and call.fault.gate is self.fault
        )
        return call

    def proxy(self, pipeline: Pipeline) -> FaultProxy:
        return pipeline.spicedb if self.site.method in {WRITE, REMOVE, READ} else pipeline.temporal

    def of(self, pipeline: Pipeline, method: str) -> When:
        """Select the scene's own calls: not those of what stands before or behind it in the lane."""
        lane = pipeline.about(pipeline.lane(self.name))
        stamped = pipeline.about(self.next.id if self.site.of_follower else self.victim)
        if self.site.mark:
            return lambda call: stamped(call) and not lane(call)
        if method in {WRITE, CREATE, REMOVE}:
            return lambda call: stamped(call) and lane(call)
        return lane

    async def ends_as_without_faults(self, pipeline: Pipeline) -> None:
        assert await pipeline.ledger.ended_as(self.intent.id) == _ENDS[self.site.intent], self.name
        assert await pipeline.ledger.ended_as(self.last.id) == ("created", None), self.name


async def set_the_scenes(
    pipeline: Pipeline, arm: Arm, sites: dict[str, Site], *, without: Collection[str] = ()
) -> list[Scene]:
    """Bring each lane to where its step comes next, and arm the fault."""
    sites = {name: site for name, site in sites.items() if name not in without}
    living = [name for name, site in sites.items() if site.intent in {"update", "delete"}]
    lives = {name: await pipeline.create(name) for name in living}
    await pipeline.work()
    return [await _set(pipeline, name, site, lives.get(name), arm) for name, site in sites.items()]


async def _set(pipeline: Pipeline, name: str, site: Site, live: Intent | None, arm: Arm) -> Scene:
    if site.intent == "update":
        intent = await pipeline.update(name, workflow_name="Other")
    elif live:
        intent = await pipeline.delete(name)
    else:
        intent = await pipeline.create(name, cron=BAD_CRON if site.intent == "broken" else "0 3 * * *")
    after = [await pipeline.delete(name)] if site.intent in {"create", "update"} else []
    last = await pipeline.create(name, by="bob")
    scene = Scene(name, site, intent, (live or intent).id, (after or [last])[0], last)
    if site.lose:
        scene.proxy(pipeline).lose_reply(site.lose, when=scene.of(pipeline, site.lose))
    scene.fault = arm(scene.proxy(pipeline), site.method, scene.of(pipeline, site.method))
    return scene
