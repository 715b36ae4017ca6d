"""One process's runtime: cells (a service's mailbox and sessions), workers that run handlers, names, the clock.

The way of a message: `Cell.call` or `Cell.send` packs it, `Node.post` finds its destination, `Cell.enqueue` puts
it into a mailbox, `RunQueue` gives the cell its turn, a `Worker` runs the handler, `Node.answer` takes the answer
back, and `Pending` hands it to the caller. A call to an idle service takes the short way: the first step of the
handler runs inside `Cell.call`.
"""
