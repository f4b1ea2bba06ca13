"""`Figure`: a matplotlib figure that notebooks show. Import it only where one is drawn: matplotlib is optional."""

from io import BytesIO

from matplotlib.figure import Figure as MatplotlibFigure

_DPI = 200  # twice as many pixels as are shown: sharp on a fine screen


class Figure(MatplotlibFigure):
    """A matplotlib figure that a notebook shows as an image, also where pyplot is not loaded.

    Example:
        >>> png, about = Figure(figsize=(4, 3))._repr_png_()
        >>> png[1:4], about
        (b'PNG', {'width': 400})
    """

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        file = BytesIO()
        self.savefig(file, format="png", dpi=_DPI)
        return file.getvalue(), {"width": round(self.get_figwidth() * _DPI / 2)}
