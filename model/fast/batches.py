"""An epoch's augmented images, and the step's batch made of them."""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
from torch import Tensor

from model.augment import Augment
from model.augment.crop import CHANNEL_ORDERS
from model.augment.operations import OperationTables, operation_tables
from model.augment.pipeline import FIRST_OPERATION
from model.data.device import DeviceSet
from model.data.info import DatasetInfo
from model.fast.kernels import images as image_kernels
from model.fast.limits import MOST_COLUMNS
from model.fast.run_values import RunValues
from model.kernels.triton_launch import launch


@lru_cache(maxsize=32)
def _tables(magnitude: int, size: int, device: torch.device) -> OperationTables:
    return operation_tables(magnitude=magnitude, image_size=size, device=device)


class Batches:
    """Buffers for one epoch of `images` images of one kind.

    Args:
        info: the kind: size and channels.
        images: of an epoch (whole batches).
        labels: of the training set, how many.
        values: `mixing` and `counter` are read.
        dtype: of the step's batch.
        steps: of an epoch.
    """

    def __init__(
        self,
        *,
        info: DatasetInfo,
        images: int,
        labels: int,
        steps: int,
        values: RunValues,
        dtype: torch.dtype,
    ) -> None:
        self._info, self._values = info, values
        self.batch = images // steps
        device = values.counter.device
        shape = (images, info.channels, info.image_size, info.image_size)
        self.augmented = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._between = torch.zeros_like(self.augmented)
        self.order = torch.zeros(images, dtype=torch.int64, device=device)
        self.uniform = torch.zeros(images, MOST_COLUMNS, device=device)
        self.mix = torch.zeros(steps, 4, device=device)
        self.labels = torch.zeros(labels, dtype=torch.int64, device=device)
        self.mean = torch.zeros(info.channels, device=device)
        self.std = torch.ones(info.channels, device=device)
        size = info.image_size
        self.out = torch.zeros(self.batch, size, size, info.channels, dtype=dtype, device=device)
        self._block = int(triton.next_power_of_2(size * size))
        self._plain_table = torch.arange(size * size, dtype=torch.int32, device=device)
        self._orders = torch.tensor(CHANNEL_ORDERS, dtype=torch.int32, device=device)

    def take(self, train: DeviceSet) -> None:
        """The set that the next epochs are of."""
        self.labels.copy_(train.labels)
        self.mean.copy_(train.mean)
        self.std.copy_(train.std)

    def augment(
        self, train: DeviceSet, augment: Augment, *, order: Tensor, uniform: Tensor
    ) -> None:
        """Fill `augmented` with train.images[order] under `uniform`'s numbers, but for
        cutout, which is the batch's.  The numbers are `Augment.draw`'s."""
        columns = uniform.shape[1]
        self.order.copy_(order)
        self.uniform[:, :columns].copy_(uniform)
        plain = self._plain_table
        config = augment.config
        operations = config.randaugment_ops
        tables = None
        if operations:
            tables = _tables(config.randaugment_magnitude, self._info.image_size, plain.device)
        ones = torch.ones(1, device=plain.device)
        given: Tensor = train.images
        # the last pass must end in `augmented`
        passes = max(1, operations)
        for index in range(passes):
            out = self.augmented if (passes - 1 - index) % 2 == 0 else self._between
            launch(image_kernels.augment_images, (len(order),))(
                given,
                self.order,
                self.uniform,
                plain if tables is None else tables.positions,
                ones if tables is None else tables.keep,
                ones if tables is None else tables.blend,
                ones if tables is None else tables.sharpen,
                ones if tables is None else tables.mask,
                ones if tables is None else tables.invert_from,
                self._orders,
                out,
                MOST_COLUMNS,
                FIRST_OPERATION + 2 * index,
                config.crop_padding,
                0.5 if augment.flip else 0.0,
                float(augment.shuffle),
                SIZE=self._info.image_size,
                CHANNELS=self._info.channels,
                BLOCK=self._block,
                FIRST=index == 0,
                REFLECT=augment.crop_mode == "reflect",
                OPERATES=tables is not None,
                enable_fp_fusion=False,
            )
            given = out

    def prepare(self, labels_out: Tensor, partners_out: Tensor, share_out: Tensor) -> None:
        """The step's batch into `out` (channels last), and its labels."""
        launch(image_kernels.prepare_batch, (self.batch,))(
            self.augmented,
            self.labels,
            self.order,
            self.uniform,
            self.mix,
            self._values.counter,
            self._values.mixing,
            self.mean,
            self.std,
            self.out,
            labels_out,
            partners_out,
            share_out,
            MOST_COLUMNS,
            self.batch,
            SIZE=self._info.image_size,
            CHANNELS=self._info.channels,
            BLOCK=self._block,
            enable_fp_fusion=False,
        )
