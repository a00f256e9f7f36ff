"""An MLP of one hidden layer, row by row and differentiable, by kernels: from what goes into it to what is made of it.

    z = sum of (source @ first) + sum of terms + static;  x = (z sigmoid(z)) @ W + b
    result = residual + (x - mean(x)) r * scale + offset;  products = result @ A, result @ B, ...

Only sources, terms, the result and its products are arrays over rows in memory on the way there. The way back
(`row_gradients`) computes the rest again. Its sums over all rows, the gradients of first and of A, are products of two
stored arrays, which are XLA's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from graphufs.model import gpu_layers
from graphufs.model.arrangement import Arrangement
from graphufs.model.kernels.row_gradients import gradients_of_layers, gradients_of_rows
from graphufs.model.kernels.row_tile import (
    Given,
    Rows,
    first,
    here,
    hidden,
    normalized,
    put,
    rounded,
    sources_of,
)
from graphufs.model.kernels.tile import call, product
from graphufs.model.layers import MLP


def layers_of_rows(
    mlp: MLP,
    sources: Sequence[tuple[jax.Array, jax.Array]],
    static: jax.Array,
    arrangement: Arrangement,
    *,
    terms: Sequence[tuple[jax.Array, jax.Array | None]] = (),
    samples: int = 1,
    affine: bool = True,
    residual: bool = False,
    both: bool = False,
    after: Sequence[jax.Array] = (),
    only_after: bool = False,
) -> tuple[jax.Array, ...]:
    """What an MLP makes of rows, and the products of that with the matrices `after` [out, L].

    Parameters
    ----------
    mlp
        Of one hidden layer; its first layer is not looked at.
    sources
        Rows [edge * sample, K] with their part of the first layer's weight, [K, L]; float32 or bfloat16.
    static
        [edge, L], the same for all samples, or a bias [L]; with the first layer's bias.
    arrangement
        Its kernels are `fused`, for a GPU, or `interpreted`, which is slow, and possible anywhere.
    terms
        Rows [node * sample, L] with the node [edge] whose row is added to that of an edge; None: [edge * sample, L].
    samples
        How many.
    affine
        Whether a LayerNorm's scale and offset are applied. An MLP without a LayerNorm has no normalization.
    residual
        Whether the first of the sources is added to the result.
    both
        Whether the result and the first of the sources together are a second result, before the products.
    after
        Matrices [out, L].
    only_after
        Whether the products are all that is asked for.

    Returns
    -------
    tuple of jax.Array
        The result [edge * sample, out], unless `only_after`, and the products [edge * sample, L], as precise as
        sources and terms.
    """
    rows = [array for array, _ in (*sources, *terms)]
    count = next(
        array.shape[0] if nodes is None else nodes.shape[0] * samples
        for array, nodes in (*((array, None) for array, _ in sources), *terms)
    )
    last = mlp.linears[-1]
    norm = mlp.norm if affine else None
    given = Given(
        tuple(array for array, _ in sources),
        tuple(weight for _, weight in sources),
        tuple(array for array, _ in terms),
        tuple(nodes for _, nodes in terms),
        static if static.ndim == 2 else static[None],
        last.weight,
        last.bias,
        norm and norm.scale,
        norm and norm.offset,
        tuple(after),
    )
    sizes = Rows(
        count=count,
        samples=samples,
        width=last.weight.shape[0],
        out=last.weight.shape[1],
        inputs=tuple(array.shape[1] for array in given.sources),
        statics=given.static.shape[0],
        item=rows[0].dtype.itemsize,
        normal=mlp.norm is not None,
        residual=residual,
        both=both,
        interpret=arrangement.kernels == "interpreted",
        hidden=only_after,
    )
    return _layers(given, sizes)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _layers(given: Given, sizes: Rows) -> tuple[jax.Array, ...]:
    dtype = _dtype(given)
    leaves, tree = jax.tree.flatten(rounded(given, dtype))

    def kernel(*refs: Any) -> None:
        given = jax.tree.unflatten(tree, refs[: len(leaves)])
        results = refs[len(leaves) :]
        row = here(pl.program_id(0), sizes)
        tiles = sources_of(given, row, sizes)
        x = hidden(given, tiles, row, sizes)
        x = normalized(x)[0] if sizes.normal else x
        if given.scale is not None:
            x = x * given.scale[...][None, :] + given.offset[...][None, :]
        if sizes.residual:
            x = x + tiles[0].astype(jnp.float32)
        everything = jnp.arange(x.shape[1], dtype=jnp.int32)
        if not sizes.hidden:
            put(results[0], row, everything, x)
        if sizes.both:
            put(results[1], row, everything, x + tiles[0].astype(jnp.float32))
        x = x.astype(dtype)
        for weight, out in zip(given.after, results[len(results) - len(given.after) :], strict=True):

            def multiply(chunk: jax.Array, nothing: int, weight: Any = weight, out: Any = out) -> int:
                columns = sizes.columns_of(chunk)
                put(out, row, columns, product(x, first(weight, columns, sizes.out, sizes)))
                return nothing

            jax.lax.fori_loop(0, sizes.chunks, multiply, 0)

    shapes = [*([] if sizes.hidden else [sizes.out] * (1 + sizes.both)), *(weight.shape[1] for weight in given.after)]
    found = call(
        "layers_of_rows",
        kernel,
        sizes.tiles,
        [jax.ShapeDtypeStruct((sizes.count, width), dtype) for width in shapes],
        leaves,
        sizes,
        edges=sizes.count // sizes.samples,
        products=sizes.firsts + sizes.last + len(given.after) * sizes.last,
        loads=sizes.loads + len(given.terms) + len(given.after) * sizes.loads_of_weight,
        warps=sizes.warps,
        stages=1,
    )
    return tuple(found)


def _forward(given: Given, sizes: Rows) -> tuple[tuple[jax.Array, ...], Any]:
    found = _layers(given, replace(sizes, hidden=False))
    return found[sizes.hidden :], (given, found[0] if given.after else None)


def _backward(sizes: Rows, saved: Any, gradients: tuple[jax.Array, ...]) -> tuple[Given]:
    given, result = saved
    direct, rest = (None, gradients) if sizes.hidden else (gradients[0], gradients[1:])
    of_both, of_products = (rest[0], rest[1:]) if sizes.both else (None, rest)
    cast = rounded(given, _dtype(given))
    found = gradients_of_rows(cast, direct, of_both, of_products, sizes)
    by_weight, by_bias, by_scale, by_offset = gradients_of_layers(cast, found, sizes)
    by_terms: list[Any] = []
    for term, nodes in zip(given.terms, given.nodes, strict=True):
        by_term = found.z
        if nodes is not None:
            total = jnp.zeros((term.shape[0] // sizes.samples, sizes.samples * sizes.width), jnp.float32)
            by_edge = by_term.reshape(nodes.shape[0], -1).astype(jnp.float32)
            by_term = total.at[nodes].add(by_edge, mode="promise_in_bounds").astype(term.dtype).reshape(term.shape)
        by_terms.append(by_term)
    return (
        Given(
            found.sources,
            tuple(gpu_layers.weight_gradient(source, found.z) for source in given.sources),
            tuple(by_terms),
            tuple(None for _ in given.nodes),
            found.static.astype(given.static.dtype),
            by_weight,
            by_bias,
            None if given.scale is None else by_scale,
            None if given.offset is None else by_offset,
            tuple(gpu_layers.weight_gradient(result, of_product) for of_product in of_products),
        ),
    )


_layers.defvjp(_forward, _backward)


def _dtype(given: Given) -> Any:
    return (*given.sources, *given.terms)[0].dtype
