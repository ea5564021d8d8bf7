"""Is a history linearizable? Operations on one object, each with the time before it was asked and after it was answered, must fit into
one order in which each takes effect at once, at some moment between the two.

The order is searched event by event (Lowe, "Testing for linearizability", 2016, just-in-time linearization): what is kept are all pairs
of a state and the operations without an answer that have taken effect in it. With few at a time that is little.
"""

import math

NEVER = math.inf  # the end of an operation that has failed: it may take effect at any time later, or not at all
WRONG = object()


class Op:
    """What was asked of one object, and answered. `take(state)` gives the state behind it, or WRONG if the answer does not fit."""

    __slots__ = ("begin", "end", "kind", "value", "by")

    def __init__(self, begin, end, kind, value, by=""):
        self.begin, self.end, self.kind, self.value, self.by = begin, end, kind, value, by

    def take(self, state):
        if self.kind == "write":
            return self.value
        if self.kind == "read":
            return state if state == self.value else WRONG
        if self.kind == "present":  # of a name: is there anything?
            return state if (state is not None) == self.value else WRONG
        if self.kind == "create":  # where nothing was
            return self.value if state is None else WRONG
        if self.kind == "remove":  # what was there
            return None if state is not None else WRONG
        raise ValueError(self.kind)

    def mount(self):
        return self.by.split()[1] if self.by else None

    def __repr__(self):
        return f"{self.begin:.6f} to {self.end:.6f} {self.by} {self.kind} {self.value}"


def without_unseen(ops):
    """Writes that failed and that nobody saw have not happened; those that were seen happened by then."""
    seen = {}
    for op in ops:
        if op.kind == "read":
            seen[op.value] = min(seen.get(op.value, NEVER), op.end)
    out = []
    for op in ops:
        if op.end == NEVER and op.kind == "write":
            if op.value not in seen:
                continue
            op = Op(op.begin, seen[op.value], op.kind, op.value, op.by)
        out.append(op)
    return out


def first_wrong(ops, state):
    """None if the history is linearizable; else the operation whose answer fits into no order."""
    events = sorted([(op.begin, 0, i) for i, op in enumerate(ops)] + [(op.end, 1, i) for i, op in enumerate(ops) if op.end != NEVER])
    kept = {(state, frozenset())}
    waiting = set()
    for _, answered, i in events:
        if not answered:
            waiting.add(i)
            continue
        todo, seen, after = list(kept), set(kept), set()
        while todo:
            state, done = todo.pop()
            if i in done:
                after.add((state, done - {i}))
                continue
            for j in waiting - done:
                then = ops[j].take(state)
                if then is not WRONG and (pair := (then, done | {j})) not in seen:
                    seen.add(pair)
                    todo.append(pair)
        if not after:
            return ops[i]
        kept = after
        waiting.remove(i)
    return None


def wrong_log(appends, reads):
    """Of records that are appended to a list: (begin, end, record), and lists that were read: (begin, end, records); the last read comes
    after everything. None, or what is wrong."""
    final = reads[-1][2]
    place = {record: i for i, record in enumerate(final)}
    if len(place) != len(final):
        return f"{len(final) - len(place)} records are there twice"
    known = {record for _, _, record in appends}
    for record in final:
        if record not in known:
            return f"record {record} was never appended"
    latest = -1  # of what had its answer before
    times = sorted([(begin, 0, record) for begin, _, record in appends] + [(end, 1, record) for _, end, record in appends if end != NEVER])
    for _, answered, record in times:
        if answered and record not in place:
            return f"record {record} is lost"
        if answered:
            latest = max(latest, place[record])
        elif place.get(record, math.inf) < latest:
            return f"record {record} stands before one that was there when it was appended"
    for begin, end, records in reads:
        if records != final[: len(records)]:
            return f"what was read at {begin:.6f} is not how the file begins"
        for started, done, record in appends:
            at = place.get(record, math.inf)
            if done < begin and at >= len(records):
                return f"record {record} was appended at {done:.6f}, and not read at {begin:.6f}"
            if started > end and at < len(records):
                return f"record {record} was read before it was appended"
    ends = sorted((e, len(r)) for _, e, r in reads)
    for begin, _, records in reads:
        if any(e < begin and length > len(records) for e, length in ends):
            return f"what was read at {begin:.6f} is shorter than what was read before"
    return None
