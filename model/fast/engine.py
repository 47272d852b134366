"""One shape's training step: buffers, kernels, and the CUDA graph they are captured in.

What is float32: master weights, moments, averages, the residual stream and its
gradient, all statistics, sums, softmax, loss.  What is bf16 (`dtype`): operands of
matrix products and convolutions, and the gradients of the big matrices, as autocast
has them too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
import triton
from torch import Tensor

from model.config import ModelConfig, Optimizer
from model.data.info import DatasetInfo
from model.fast.batches import Batches
from model.fast.blocks import BlockStack, FlatBuffers, Projection
from model.fast.colour_tokens import ColourTokensStage
from model.fast.embed_and_head import EmbedAndHead
from model.fast.flat_layout import Layout, make_layout
from model.fast.kernels import optimizer as optimizer_kernels
from model.fast.muon import MuonGroup, make_groups
from model.fast.projection import PackedProjection
from model.fast.run_values import RunValues, shape_of
from model.fast.split_projection import SplitProjection
from model.fast.stem_stage import make_stem_stage, takes_plain_images
from model.kernels.triton_launch import compiling_together, launch
from model.network.vit import empty_network

_BRANCHES = 2
"""Streams beside the main one, for gradients that only the optimiser waits for; split heads
have one more, for what is made of the images alone."""

_WARM_UPS = 2
"""Eager steps before capture: kernels are compiled and libraries initialised there."""


class Engine:
    """A warm training step for every run of one shape.

    The network and its average live here; their parameters are views of the flat
    buffers.  A run takes the engine over by writing its weights, values and images.

    Args:
        config: the network's (only its shape counts).
        optimizer: of the blocks' matrices; AdamW updates the rest.
        info: the images' kind.
        train_size: images of the training set.
        batch, steps: images a step, steps an epoch.
        table_rows: steps a schedule has room for.
        dtype: of products: bfloat16, or float32 for the tests' twin.
    """

    def __init__(
        self,
        *,
        config: ModelConfig,
        optimizer: Optimizer,
        info: DatasetInfo,
        train_size: int,
        batch: int,
        steps: int,
        table_rows: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.config, self.steps, self.dtype = shape_of(config), steps, dtype
        self.device = device
        self.network, self.averaged = (empty_network(self.config, device=device) for _ in range(2))
        self.averaged.eval().requires_grad_(False)
        self.layout: Layout = make_layout(self.network, optimizer=optimizer)
        self.flats = FlatBuffers.empty(self.layout, device=device, dtype=dtype)
        self.layout.bind(self.network, self.flats.weights)
        self.layout.bind(self.averaged, self.flats.average)
        self.values = RunValues.empty(depth=config.depth, rows=table_rows, device=device)
        self.losses = torch.zeros(steps * batch, device=device)
        self.batches = Batches(
            info=info,
            images=steps * batch,
            labels=train_size,
            steps=steps,
            values=self.values,
            dtype=dtype if takes_plain_images(self.network) else torch.float32,
        )
        self.blocks = BlockStack(
            config=self.config,
            batch=batch,
            projection=self._projection(),
            layout=self.layout,
            flats=self.flats,
            attention_values=self.values.attention,
            theta_weights=self.values.theta,
            seed=self.values.seed,
        )
        self.embed_and_head = EmbedAndHead(
            blocks=self.blocks,
            dropout=self.values.dropout,
            smoothing=self.values.smoothing,
            counter=self.values.counter,
            losses=self.losses,
        )
        self.stem = make_stem_stage(
            network=self.network,
            layout=self.layout,
            flats=self.flats,
            images=self.batches.out,
            dtype=dtype,
        )
        places, flats = self.layout.places, self.flats
        self._patch_weight = places["patches.project.weight"].view(flats.copies)
        self._patch_bias = places["patches.project.bias"].view(flats.copies)
        self._patch_grad = places["patches.project.weight"].view(flats.low_grads)
        self._patches = torch.empty_like(self.embed_and_head.dpatches)
        rows, pixels = len(self._patches), self._patch_weight.shape[1]
        self._dpixels = self._patches.new_empty(rows if self.layout.stem else 0, pixels)
        self._splits = self.network.colour_tokens is not None
        branches = _BRANCHES + self._splits if device.type == "cuda" else 0
        self._branches = [_new_stream(device) for _ in range(branches)]
        self._squares = torch.zeros(optimizer_kernels.PARTS, device=device)
        self._muon: tuple[MuonGroup, ...] = ()
        if optimizer == "muon":
            self._muon = make_groups(
                layout=self.layout, flats=flats, values=self.values, squares=self._squares
            )
        self._graph: torch.cuda.CUDAGraph | None = None
        self.owner: object | None = None

    def _projection(self) -> Projection:
        colours, batch = self.network.colour_tokens, self.batches.batch
        config, layout, flats = self.config, self.layout, self.flats
        if colours is None:
            return PackedProjection(config=config, batch=batch, layout=layout, flats=flats)
        stage = ColourTokensStage(
            config=config,
            module=colours,
            layout=layout,
            flats=flats,
            images=self.batches.out,
        )
        return SplitProjection(
            config=config, batch=batch, layout=layout, flats=flats, colours=stage
        )

    def capture(self, *, also: Callable[[], None] = lambda: None) -> None:
        """Capture the step.  The weights are noise afterwards: write them after this.

        Args:
            also: launches more kernels of the run, to be compiled beside the step's.
        """
        with compiling_together():
            self.step()
            also()
        self.flats.weights.fill_(0.01)
        self.values.counter.zero_()
        stream = _new_stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self.step()
                self.values.counter.zero_()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # what the branches do waits for room beside the main stream's next kernel
        with torch.cuda.graph(self._graph, stream=_new_stream(self.device, priority=-1)):
            self.step()

    def run_epoch(self, *, seed: Tensor) -> None:
        """All steps of an epoch whose images are ready; nothing waits for the device.

        Args:
            seed: int64 [1], of the epoch's dropout.
        """
        self.values.counter[1:].zero_()
        self.values.seed.copy_(seed)
        self.network.train()
        for _ in range(self.steps):
            if self._graph is None:
                self.step()
            else:
                self._graph.replay()

    def refresh_copies(self) -> None:
        """The products' copies of the weights, after these were written from outside."""
        self.flats.copies.copy_(self.flats.weights[: self.layout.trained])

    def step(self) -> None:
        """One whole training step, eagerly."""
        embed_and_head, blocks = self.embed_and_head, self.blocks
        self.batches.prepare(embed_and_head.labels, embed_and_head.partners, embed_and_head.share)
        if self._splits:
            with self._beside(-1):
                blocks.projection.prepare()
        pixels = self.stem.forward()
        torch.addmm(self._patch_bias, pixels, self._patch_weight.t(), out=self._patches)
        embed_and_head.embed(self._patches)
        if self._splits:
            self._join(-1)
        blocks.forward()
        embed_and_head.head()
        blocks.backward(embed_and_head.dpooled)
        embed_and_head.embed_back()
        if self._splits:
            with self._beside(-1):
                blocks.projection.images_backward()
        with self._beside(0):
            blocks.weight_gradients()
            torch.mm(embed_and_head.dpatches.t(), pixels, out=self._patch_grad)
        with self._beside(1):
            blocks.vector_gradients()
            embed_and_head.head_gradients()
            embed_and_head.embed_gradients()
        if self.layout.stem:
            torch.mm(embed_and_head.dpatches, self._patch_weight, out=self._dpixels)
            self.stem.backward(self._dpixels)
        self._join()
        self._update()

    @contextlib.contextmanager
    def _beside(self, branch: int) -> Iterator[None]:
        """Work of which nothing else waits before `_join`, nor it for anything later."""
        if not self._branches:
            yield
            return
        stream = self._branches[branch]
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            yield

    def _join(self, branch: int | None = None) -> None:
        """Wait for a branch that work was given to in this step, or for all of them."""
        branches = self._branches if branch is None else self._branches[branch:][:1]
        for stream in branches:
            torch.cuda.current_stream(self.device).wait_stream(stream)

    def _update(self) -> None:
        flats, layout, values = self.flats, self.layout, self.values
        parts = optimizer_kernels.PARTS
        longest = max(layout.low, layout.trained - layout.low)
        summers = min(parts, triton.cdiv(longest, optimizer_kernels.SUM_BLOCK))
        # sums beyond the summers stay 0
        launch(optimizer_kernels.squared_sums, (summers,))(
            flats.low_grads,
            flats.high_grads,
            self._squares,
            layout.low,
            layout.trained - layout.low,
            BLOCK=optimizer_kernels.SUM_BLOCK,
        )
        # the first group's products are the longest chain: all else goes beside it
        for branch, group in enumerate(self._muon[1:]):
            with self._beside(branch):
                group.step()
        with self._beside(-1) if self._muon else contextlib.nullcontext():
            self._adamw()
        for group in self._muon[:1]:
            group.step()
        if self._muon:
            self._join()
        launch(optimizer_kernels.advance, (1,))(values.counter, values.seed)

    def _adamw(self) -> None:
        """AdamW's step of all that Muon does not update."""
        flats, layout, values = self.flats, self.layout, self.values
        block = optimizer_kernels.BLOCK
        launch(optimizer_kernels.adamw_step, (triton.cdiv(layout.total - layout.muon, block),))(
            flats.weights,
            flats.low_grads,
            flats.high_grads,
            flats.first,
            flats.second,
            flats.average,
            flats.copies,
            self._squares,
            values.table,
            values.counter,
            values.optimizer,
            layout.muon,
            layout.low,
            layout.decayed,
            layout.trained,
            BLOCK=block,
            PARTS=optimizer_kernels.PARTS,
        )

    @property
    def bytes(self) -> int:
        """Device memory of the engine's own buffers (the graph's pool comes on top)."""
        owners = (
            self.blocks,
            self.embed_and_head,
            self.batches,
            self.flats,
            self.values,
            *self.blocks.projection.owners,
            *self.stem.owners,
            *self._muon,
        )
        tensors = {
            value.untyped_storage()._cdata: value.untyped_storage().nbytes()
            for owner in owners
            for value in _fields(owner)
            if isinstance(value, Tensor)
        }
        return sum(tensors.values())


def predicted_bytes(
    config: ModelConfig,
    *,
    optimizer: Optimizer,
    info: DatasetInfo,
    train_size: int,
    batch: int,
    table_rows: int,
) -> int:
    """`Engine.bytes` of an engine that has not been built: nothing is allocated."""
    planned = Engine(
        config=config,
        optimizer=optimizer,
        info=info,
        train_size=train_size,
        batch=batch,
        steps=max(1, train_size // batch),
        table_rows=table_rows,
        device=torch.device("meta"),
        dtype=torch.bfloat16,
    )
    return planned.bytes


def _new_stream(device: torch.device, *, priority: int = 0) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call]


def _fields(owner: object) -> list[object]:
    if hasattr(owner, "__dict__"):
        return list(vars(owner).values())
    return [getattr(owner, name) for name in type(owner).__slots__]  # type: ignore[attr-defined]
