"""What a training would cost on a GPU, found out by compiling it for one on a machine that has none."""

__all__ = [
    "ahead", "child", "compile_ahead", "cost", "domains", "fit", "flops", "hlo", "measured", "programs", "sizes",
    "target", "time_model", "words",
]  # fmt: skip
