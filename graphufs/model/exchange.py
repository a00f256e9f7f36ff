"""What devices that share a sample tell each other about mesh nodes, once a message step.

Each device has the nodes of its part (graphufs.graph.partition) and gets those of others that its edges end at. Inside
`jax.shard_map` over the axis SPACE; the derivative of a sum of all devices' losses is right, each device having its
own copy of the parameters: their gradients are to be added up.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from graphufs.graph.partition import Reach

SPACE = "space"
"""The axis of devices that share a sample."""


class Exchange(eqx.Module):
    """Sends rows of nodes to the parts that need them, and sums of messages back."""

    send: jax.Array
    """int32 [to part, place], own nodes; of all parts [part, to part, place]."""
    everything: bool = eqx.field(static=True)
    """Whether all nodes go to all parts, which is less."""
    nodes: int = eqx.field(static=True)
    """How many nodes a part has itself, the one that only pads included."""
    reached: int = eqx.field(static=True)
    """How many nodes a part reaches, its own included."""

    @staticmethod
    def of(reach: Reach) -> Exchange:
        """That of all parts."""
        return Exchange(jnp.asarray(reach.send), reach.everything, reach.nodes, reach.reached)

    def reach(self, rows: jax.Array) -> jax.Array:
        """Rows of own nodes [node * sample, L] with those of the others behind them, [reached node * sample, L]."""
        by_node = rows.reshape(self.nodes, -1)
        if self.everything:
            others = jax.lax.all_gather(by_node, SPACE, tiled=True)
        else:
            # float32, so that the derivative, which sums over all parts that took a row, is
            sent = by_node.astype(jnp.float32).at[self.send].get(mode="promise_in_bounds").astype(rows.dtype)
            others = jax.lax.all_to_all(sent, SPACE, 0, 0).reshape(-1, by_node.shape[1])
        return jnp.concatenate([by_node, others]).reshape(-1, rows.shape[1])

    def add_up(self, sums: jax.Array) -> jax.Array:
        """The sums of own nodes [node * sample, L], of what all parts have of them: [reached node * sample, L]."""
        by_node = sums.reshape(self.reached, -1)
        own, others = by_node[: self.nodes], by_node[self.nodes :]
        if self.everything:
            return (own + jax.lax.psum_scatter(others, SPACE, tiled=True)).reshape(-1, sums.shape[1])
        came = jax.lax.all_to_all(others.reshape(*self.send.shape, -1), SPACE, 0, 0)
        return own.at[self.send].add(came, mode="promise_in_bounds").reshape(-1, sums.shape[1])


def reached(rows: jax.Array, exchange: Exchange | None) -> jax.Array:
    """Rows [reached node * sample, L] of the mesh nodes that edges end at, from a device's own; None: it has all."""
    return rows if exchange is None else exchange.reach(rows)


def added_up(sums: jax.Array, exchange: Exchange | None) -> jax.Array:
    """The inverse for sums: those over all devices of a device's own nodes, [node * sample, L]."""
    return sums if exchange is None else exchange.add_up(sums)
