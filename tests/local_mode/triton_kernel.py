"""Runs inside a GPU image without a GPU: Triton compiles a kernel, to code of Hopper's own."""

import importlib.util
import tempfile
from pathlib import Path

import triton.compiler
from triton.backends.compiler import GPUTarget

KERNEL = """
import triton
import triton.language as tl


@triton.jit
def add(first, second, out, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    tl.store(out + at, tl.load(first + at, mask=inside) + tl.load(second + at, mask=inside), inside)
"""
# Triton reads the source of a kernel from its file.
path = Path(tempfile.mkdtemp()) / "kernel.py"
path.write_text(KERNEL)
spec = importlib.util.spec_from_file_location("kernel", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

kinds = {"first": "*bf16", "second": "*bf16", "out": "*bf16", "count": "i32", "BLOCK": "constexpr"}
source = triton.compiler.ASTSource(fn=module.add, signature=kinds, constexprs={"BLOCK": 128})
made = triton.compiler.compile(source, target=GPUTarget("cuda", 90, 32))
assert made.asm["cubin"].startswith(b"\x7fELF")
print("compiled")
