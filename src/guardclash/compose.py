"""Composition: a plan and a combination of mechanisms become one plan, stage by stage.

Stages go over all mechanisms, not mechanisms over all stages, so that {wm, dpsgd} and {dpsgd, wm} give the same plan:
first every mechanism has its data, then the network is rewritten, and only then are the streams treated, all of them
known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from guardclash.errors import UserError
from guardclash.mechanism import Mechanism
from guardclash.plan.plan import Plan, Stream
from guardclash.plan.structure import check_network, has_batch_norm, moved_statistics
from guardclash.plan.trainings import made_of

T = TypeVar("T")
MANY, ONE = "many", "one"
STAGES: dict[str, dict[str, str]] = {
    "data": {"streams": MANY},
    "architecture": {"model": ONE, "rewrites": MANY, "arithmetic": ONE, "averaging": ONE},
    "batch": {"maps": MANY},
    "objective": {"objectives": MANY, "penalties": MANY},
    "gradient": {"sampler": ONE, "gradient": ONE, "optimizer": ONE},
}
"""Which stage may change which field. Of MANY, what several mechanisms add stacks, in an order of theirs (`rank`) and
not that in which they are named; what one of them replaces is its own, as is all of ONE: a second one is a clash.
`data` and `architecture` edit the plan, the others each stream."""


class Clash(Exception):
    """Two mechanisms cannot be deployed together, whatever is measured: they need the same place in the training.

    The paper's "does not admit joint deployment" (section 8.2). A result, not a mistake; it costs no training.
    """


Setters = dict[tuple[str, Any], Mechanism]
"""Who set a field of a place, and who put a part there."""


def compose(plan: Plan, combination: Sequence[Mechanism], *, partial: bool = False) -> Plan:
    """The plan under a combination of mechanisms.

    Args:
        plan: The unprotected training (a recipe's plan).
        combination: Mechanisms, in any order: it is a set. The empty one gives the plan back.
        partial: Accept an `on` whose streams are all absent: a part of a larger combination that would add them.

    Returns:
        The composed plan. A mechanism that changes nothing (a post-hoc one, or `on=()`) leaves it equal, and so its
        key.

    Raises:
        Clash: If two mechanisms set the same exclusive field of the same stream, or add a stream of the same name.
        UserError: If a mechanism edits a field outside its stage, or names a stream in `on` that is not there.

    Example:
        >>> from guardclash.mechanisms.wm import Watermark
        >>> from guardclash.tasks.recipe import recipe
        >>> [stream.name for stream in compose(recipe("digits", "smoke").plan(), [Watermark()]).streams]
        ['task', 'trigger']
    """
    active = sorted((mechanism for mechanism in combination if mechanism.on != ()), key=rank)
    for mechanism in active:
        _check_fits(plan, mechanism)
    active = [_beside(mechanism, plan, active, partial) for mechanism in active]
    # Over all stages: what one mechanism set in an earlier stage, another must not undo later.
    set_by: Setters = {}
    for mechanism in active:
        plan = _edit_streams(plan, mechanism, set_by)
    # Only now are all streams there that an `on` may name.
    if not partial:
        _check_streams_named(plan, active)
    before = plan.model
    for mechanism in _replacing_first(plan, active, "architecture", Mechanism.architecture):
        edited = mechanism.architecture(plan)
        _check_edit(plan, edited, mechanism, "architecture", "the plan", set_by)
        plan = edited
    for mechanism in active if plan.model != before else ():
        _check_still_fits(plan, mechanism, set_by)
    # Within a stage, every mechanism sees the plan as the stage before left it.
    for stage in ("batch", "objective", "gradient"):
        plan = _treat_streams(plan, active, stage, set_by)
    # Only at the end: what mixes examples may have come before or after the bound on them.
    for stream in plan.streams:
        _check_examples_apart(stream, set_by)
    for mechanism in active:
        plan = _gone_on(plan, mechanism, set_by)
    # Rewrites can make a network senseless that was sound before.
    check_network(plan.model, plan.all_rewrites)
    batch_norm, others = has_batch_norm(plan.model, plan.all_rewrites), moved_statistics(plan.model, plan.all_rewrites)
    _check_reestimated(plan, others)
    if batch_norm:
        _check_batch_sizes(plan)
    return plan if batch_norm or others else _without_policies(plan)


def _beside(mechanism: Mechanism, plan: Plan, active: Sequence[Mechanism], partial: bool) -> Mechanism:
    """A mechanism that knows what it is combined with; the others are composed only if it asks."""
    others = [other for other in active if other is not mechanism]
    return mechanism.beside(lambda: compose(plan, others, partial=partial))


def _gone_on(plan: Plan, mechanism: Mechanism, set_by: Setters) -> Plan:
    """The last stage: a training that goes on with the weights of the one composed so far, or that one."""
    if type(mechanism).after is not Mechanism.after:
        _check_still_fits(plan, mechanism, set_by)
    found = mechanism.after(plan)
    before: Plan | None = found
    # Several trainings may follow one another; the first of them must begin with the one composed so far.
    while before is not None and before != plan:
        before = before.initial
    if before is None:
        allowed = "the plan itself, or one that goes on from it (`initial`)"
        raise UserError(
            "a plan that does not begin with what was trained", where=f"{mechanism.name}.after", allowed=allowed
        )
    return found


def _check_fits(plan: Plan, mechanism: Mechanism) -> None:
    # A text is a sequence as well: `on = "task"` would name the streams t, a, s and k.
    if isinstance(mechanism.on, str):
        raise UserError("streams are given as a tuple", where=f"{mechanism.name}.on", got=mechanism.on)
    if reason := mechanism.misfit(plan):
        raise Clash(f"{mechanism.name} {reason}")


def _check_still_fits(plan: Plan, mechanism: Mechanism, set_by: Setters) -> None:
    """Looks once more: another may have replaced the network that a mechanism works on."""
    if reason := mechanism.misfit(plan):
        whose = set_by.get(("the plan", "model"))
        raise Clash(f"{mechanism.name} {reason}{f': it is that of {whose.name}' if whose else ''}")


def rank(mechanism: Mechanism) -> tuple[int, str, str]:
    """The place of a mechanism among those of its stage, whatever the order in which a combination names them."""
    # The last one tells variants of one mechanism apart, which have the same name.
    return mechanism.order, mechanism.name, repr(mechanism)


def _replacing_first(
    base: T, active: Sequence[Mechanism], stage: str, edit: Callable[[Mechanism, T], T]
) -> Sequence[Mechanism]:
    """Mechanisms that put something in the place of what is there come before those that add to it.

    Otherwise one that adds would clash with one that replaces, or stack upon it, by the order of their names.
    """
    many = [name for name, how in STAGES[stage].items() if how == MANY]

    def adds(mechanism: Mechanism) -> bool:
        edited = edit(mechanism, base)
        return all(_stacks(getattr(base, name), getattr(edited, name, ())) for name in many)

    # False comes first; sorting is stable, so ranks stay within both halves.
    return sorted(active, key=adds) if many and len(active) > 1 else active


def _check_examples_apart(stream: Stream, set_by: Setters) -> None:
    """A bound on what one example does to the gradient says nothing where examples enter each other's losses."""
    if not getattr(stream.gradient, "per_example", False):
        return
    # Not what other trainings read: these are accounted for by themselves.
    for part in (*made_of(stream.source), *stream.maps, *stream.objectives):
        if getattr(part, "mixes_examples", False):
            who, whose = set_by.get((stream.name, "gradient")), set_by.get((stream.name, part))
            raise Clash(
                f"{who.name if who else 'the gradient'} bounds what one example does to stream {stream.name!r}, where "
                f"{type(part).__name__}{f' of {whose.name}' if whose else ''} makes an example's loss depend on others"
            )


def _check_reestimated(plan: Plan, others: Sequence[str]) -> None:
    for stream in plan.streams:
        if others and stream.batch_norm == "recalibrate":
            raise UserError(
                "statistics that are not those of batch norm cannot be estimated anew",
                where=f"stream {stream.name!r}",
                got=", ".join(others),
                mend='Use batch_norm = "update" or "freeze", or a model that keeps no statistics but batch norm\'s.',
            )


def _check_batch_sizes(plan: Plan) -> None:
    for stream in plan.streams:
        if min(stream.sampler.batch_size, stream.source.size) < 2:
            raise UserError(
                "batch norm cannot be trained on batches of one",
                where=f"stream {stream.name!r}",
                mend="Use larger batches, or a model without batch norm.",
            )


def _without_policies(plan: Plan) -> Plan:
    """Without batch norm every policy for its statistics is the same training, so it must have the same key."""
    return replace(plan, streams=tuple(replace(stream, batch_norm="update") for stream in plan.streams))


def _edit_streams(plan: Plan, mechanism: Mechanism, set_by: Setters) -> Plan:
    """The data stage: a mechanism adds streams, or gives streams another source."""
    edited = mechanism.data(plan)
    _check_fields(plan, edited, STAGES["data"], f"{mechanism.name}.data()", "the plan")
    names = [stream.name for stream in edited.streams]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise Clash(f"{mechanism.name} adds a stream {twice!r}, which another mechanism added already")
    # The first stream is the task, by which epochs and schedules count.
    if names[: len(plan.streams)] != [stream.name for stream in plan.streams]:
        raise UserError("a mechanism may add streams, not remove or reorder them", where=f"{mechanism.name}.data()")
    for before, after in zip(plan.streams, edited.streams, strict=False):
        _check_fields(before, after, {"source": MANY}, f"{mechanism.name}.data()", before.name)
    known = [part for stream in plan.streams for part in _mixing(stream)]
    for stream in edited.streams:
        for part in _mixing(stream):
            if part not in known:  # so that a clash for it names who put it there
                set_by.setdefault((stream.name, part), mechanism)
    return edited


def _mixing(stream: Stream) -> list[Any]:
    """The parts of a stream's source that make or choose an example by looking at others."""
    return [part for part in made_of(stream.source) if getattr(part, "mixes_examples", False)]


def _treat_streams(plan: Plan, active: list[Mechanism], stage: str, set_by: Setters) -> Plan:
    """One stage over all streams and, for each, over the mechanisms that touch it."""
    streams = []

    def treat(mechanism: Mechanism, stream: Stream) -> Stream:
        edit: Callable[[Stream, Plan], Stream] = getattr(mechanism, stage)
        return edit(stream, plan)

    for stream in plan.streams:
        here = [mechanism for mechanism in active if mechanism.on is None or stream.name in mechanism.on]
        for mechanism in _replacing_first(stream, here, stage, treat):
            edited = treat(mechanism, stream)
            _check_edit(stream, edited, mechanism, stage, stream.name, set_by)
            stream = edited
        streams.append(stream)
    return replace(plan, streams=tuple(streams))


def _check_edit(before: Any, after: Any, mechanism: Mechanism, stage: str, place: str, set_by: Setters) -> None:
    changed = _check_fields(before, after, STAGES[stage], f"{mechanism.name}.{stage}()", place)
    for name in changed:
        first = set_by.setdefault((place, name), mechanism)
        stacks = STAGES[stage][name] == MANY and _stacks(getattr(before, name), getattr(after, name))
        if first is not mechanism and not stacks:
            raise Clash(f"{first.name} and {mechanism.name} both set {name!r} of {_place(place)}")
        if STAGES[stage][name] == MANY:
            for part in getattr(after, name):
                if part not in getattr(before, name):
                    set_by.setdefault((place, part), mechanism)


def _stacks(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    """Whether a mechanism added to what others put there, instead of taking its place."""
    return after[: len(before)] == before


def _check_fields(before: Any, after: Any, allowed: dict[str, str], who: str, place: str) -> list[str]:
    if type(after) is not type(before):
        raise UserError(f"{who} must return an edited copy of {_place(place)}", got=type(after).__name__)
    fields = [field.name for field in dataclasses.fields(before)]
    changed = [name for name in fields if getattr(before, name) != getattr(after, name)]
    outside = [name for name in changed if name not in allowed]
    if outside:
        raise UserError(f"{who} changed {outside[0]!r} of {_place(place)}", allowed=f"to change {', '.join(allowed)}")
    return changed


def _place(name: str) -> str:
    return name if name == "the plan" else f"stream {name!r}"


def _check_streams_named(plan: Plan, active: list[Mechanism]) -> None:
    """A misspelt stream in `on` would silently leave a mechanism out; one that matches nothing at all is refused."""
    names = [stream.name for stream in plan.streams]
    for mechanism in active:
        if mechanism.on and not set(mechanism.on) & set(names):
            raise UserError(
                "a mechanism is told to touch streams that the plan does not have",
                where=f"{mechanism.name}.on",
                got=mechanism.on,
                allowed=f"some of {', '.join(names)}",
            )
