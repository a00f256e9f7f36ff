"""The kernels of a compiled program: what counts as one, what each moves and computes, and how often."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp

from graphufs.plan.hlo import Kernel, kernels_of, parse, size

# Made up in the form of XLA's own, short enough to count by hand.
LOOP, STRAIGHT = ((Path(__file__).parent / f"{name}.hlo").read_text() for name in ("loop", "straight"))


def by_name(text: str) -> dict[str, Kernel]:
    kernels, warnings = kernels_of(text)
    assert not warnings
    return {kernel.name: kernel for kernel in kernels}


def test_a_loops_kernels_count_as_often_as_it_runs_and_read_and_write_the_slices_they_take():
    found = by_name(LOOP)
    assert set(found) == {"product", "stored"} and {kernel.calls for kernel in found.values()} == {4}
    # a slice of the rows, the weight and the index; the product
    assert found["product"].bytes == 64 * 32 * 2 + 32 * 16 * 2 + 4 + 64 * 16 * 4
    assert found["product"].flop == {"bf16": 2 * 64 * 16 * 32}
    # the product and the index; what is stored of it
    assert found["stored"].bytes == 64 * 16 * 4 + 4 + 64 * 16 * 4


def test_a_loop_of_unknown_length_counts_once_and_is_named():
    kernels, warnings = kernels_of(LOOP.replace('"known_trip_count":{"n":"4"}', ""))
    assert {kernel.calls for kernel in kernels} == {1}
    assert len(warnings) == 1 and "while.1" in warnings[0]


def test_library_products_gathers_and_exchanges():
    found = by_name(STRAIGHT)
    assert set(found) == {"gemm", "rows", "begun"}
    assert found["gemm"].flop == {"f32": 2 * 8 * 16 * 4}
    assert found["gemm"].bytes == 4 * (8 * 4 + 4 * 16 + 8 * 16)  # without its workspace
    assert found["rows"].bytes == 4 * (8 * 4 + 8 + 8 * 4)  # what is gathered, the indices, the result
    assert (found["begun"].operation, found["begun"].exchanged) == ("all-reduce", 4 * 8 * 16)


def test_a_fused_kernel_says_in_its_scope_what_it_computes_and_loads_again():
    own = '%own = f32[8,4]{1,0} custom-call(%a, %b), custom_call_target="__gpu$xla.gpu.triton", metadata={op_name="'
    begin = STRAIGHT.index("%rows")
    rest = STRAIGHT[STRAIGHT.index("\n", begin) :]
    found = by_name(STRAIGHT[:begin] + own + 'jit(g)/kernel_bf16_flop_4096_loads_1000/pallas_call"}' + rest)["own"]
    assert found.flop == {"bf16": 4096.0} and found.bytes == 4 * (8 * 4 + 4 * 16 + 8 * 4)
    assert found.again == 1000 - 4 * (8 * 4 + 4 * 16)


def test_text_without_an_entry_is_said_to_be_unknown():
    assert kernels_of("HloModule nothing\n")[1] == [
        "the program's text has no entry; XLA writes it otherwise than this version knows"
    ]


def test_sizes_of_shapes():
    assert size("f32[2,3]{1,0}") == 24 and size("(bf16[5]{0}, pred[], s32[])") == 10 + 1 + 4
    assert size("f8e4m3fn[7]{0}") == 7 and size("c64[2]") == 16 and size("token[]") == 0


def test_a_program_compiled_here_has_the_products_of_its_formula():
    def function(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda carry, part: (jnp.tanh(carry @ w) + part, None), x[0], x)[0]

    x, w = jnp.ones((5, 64, 32)), jnp.ones((32, 32))
    text = jax.jit(function).lower(x, w).compile().as_text()
    computations, entry = parse(text)
    assert entry in computations
    kernels, warnings = kernels_of(text)
    assert not warnings
    assert sum(kernel.calls * sum(kernel.flop.values()) for kernel in kernels) == 5 * 2 * 64 * 32 * 32
