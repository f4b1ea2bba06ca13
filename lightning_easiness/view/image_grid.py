"""`ImageGrid`: the pixels of a grid of images, shown as an image by notebooks."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import torch
from torch import Tensor

from lightning_easiness.view.images import transforms


class ImageGrid(Tensor):
    """An image as a tensor, uint8 `(3, H, W)`, that a notebook shows as an image.

    What is computed from it, a copy included, is an ordinary tensor, and so is what torch.save keeps of it.

    Example:
        >>> grid = torch.zeros(3, 40, 60, dtype=torch.uint8).as_subclass(ImageGrid)
        >>> grid
        ImageGrid(60 x 40 pixels)
        >>> type(grid[0])
        <class 'torch.Tensor'>
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"ImageGrid({self.shape[2]} x {self.shape[1]} pixels)"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self.clone()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.as_subclass(Tensor).__reduce_ex__(protocol)  # type: ignore[no-untyped-call]

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        transforms().to_pil_image(self.as_subclass(Tensor)).save(file, "PNG")
        return file.getvalue()
