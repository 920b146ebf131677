"""What the machine's cores multiply in a second at most, and what the softmax's products alone take.

The peak: square products that fit no cache. The tiles: the three products of the softmax over all
items (logits, gradient of the states, gradient of the items) in bf16, 512 positions at a time, and
nothing between them.
"""

import time

import torch
from common import ARGUMENTS, THREADS, finish

torch.set_num_threads(THREADS)
TILE = 512


def seconds(work, times: int = 20) -> float:
    """The quickest time, because it is a limit; the first one warms up."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def peak(kind: torch.dtype, size: int = 2048) -> float:
    a, b = torch.randn(size, size).to(kind), torch.randn(size, size).to(kind)
    return 2 * size**3 / seconds(lambda: a @ b)


def tile(candidates: int, dim: int) -> float:
    """Seconds of the three products for one tile of positions."""
    states, items = torch.randn(TILE, dim).bfloat16(), torch.randn(candidates, dim).bfloat16()
    gradient = torch.randn(TILE, candidates).bfloat16()

    def products():
        states @ items.T
        gradient @ items
        gradient.T @ states

    return seconds(products)


with torch.no_grad():
    tiles = ARGUMENTS["targets"] / TILE * tile(ARGUMENTS["candidates"], ARGUMENTS["dim"])
    finish(bf16=peak(torch.bfloat16), f32=peak(torch.float32), tiles=tiles)
