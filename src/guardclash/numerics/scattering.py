"""The 2-D scattering transform (Bruna and Mallat 2013): features of images that nobody has trained.

Images are filtered by Morlet wavelets of several scales and orientations, the moduli are filtered again, and all is
averaged: orders 0, 1 and 2. The filters and the order of channels are those of kymatio, whose package import fails
with current SciPy, so that it is no dependency but an oracle of the tests.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

PI = 3.1415
"""As the reference has it where filters are normalised."""
Floats = NDArray[np.float64]


class Wavelet(NamedTuple):
    """One filter in the Fourier domain, at every resolution at which it is used."""

    scale: int
    levels: tuple[Tensor, ...]


def gabor(size: tuple[int, int], width: float, angle: float, frequency: float, slant: float) -> NDArray[np.complex128]:
    """A plane wave under a Gaussian, periodised to an image of some size."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    curve = turn @ np.diag([1, slant**2]) @ turn.T / (2 * width**2)
    found = np.zeros(size, dtype=np.complex128)
    for down in range(-2, 3):
        for across in range(-2, 3):
            x, y = np.mgrid[down * size[0] : size[0] + down * size[0], across * size[1] : size[1] + across * size[1]]
            falls = curve[0, 0] * x**2 + (curve[0, 1] + curve[1, 0]) * x * y + curve[1, 1] * y**2
            wave = frequency * (x * math.cos(angle) + y * math.sin(angle))
            found += np.exp(-falls + 1j * wave)
    return found / (2 * PI * width**2 / slant)


def morlet(size: tuple[int, int], width: float, angle: float, frequency: float, slant: float) -> NDArray[np.complex128]:
    """The same without a mean."""
    wave, bump = (gabor(size, width, angle, one, slant) for one in (frequency, 0.0))
    found: NDArray[np.complex128] = wave - wave.sum() / bump.sum() * bump
    return found


def periodised(spectrum: Floats, level: int) -> Tensor:
    """A filter for images that have every 2^level-th pixel only."""
    rows, columns = spectrum.shape
    factor = 2**level
    kept = np.ones_like(spectrum)
    for axis, whole in enumerate((rows, columns)):
        start, length = int(whole * 2.0 ** (-level - 1)), int(whole * (1 - 2.0**-level))
        kept[(slice(start, start + length), slice(None))[:: 1 if axis == 0 else -1]] = 0
    folded = (spectrum * kept).reshape(factor, rows // factor, factor, columns // factor).sum((0, 2))
    return torch.from_numpy(folded).float()


class Scattering(nn.Module):
    """The transform as a layer without parameters: [N, C, H, W] to [N, C K, H / 2^J, W / 2^J]."""

    def __init__(self, shape: tuple[int, int], scales: int = 2, angles: int = 8):
        """Makes the filters.

        Args:
            shape: Height and width of the images.
            scales: J; images must be divisible by 2^J.
            angles: L.
        """
        super().__init__()
        self.scales, self.angles = scales, angles
        step = 2**scales
        padded = tuple(((side + step) // step + 1) * step for side in shape)
        self.margins = [
            part for side, whole in zip(shape[::-1], padded[::-1], strict=True) for part in _around(side, whole)
        ]
        size = (padded[0], padded[1])
        for scale in range(scales):
            for turn in range(angles):
                angle = (angles - angles // 2 - 1 - turn) * math.pi / angles
                wave = morlet(size, 0.8 * 2**scale, angle, 0.75 * math.pi / 2**scale, 4.0 / angles)
                spectrum = np.real(np.fft.fft2(wave))
                for level in range(min(scale + 1, max(scales - 1, 1))):
                    self.register_buffer(f"psi_{scale}_{turn}_{level}", periodised(spectrum, level), persistent=False)
        bump = np.real(np.fft.fft2(gabor(size, 0.8 * 2 ** (scales - 1), 0.0, 0.0, 1.0)))
        for level in range(scales):
            self.register_buffer(f"phi_{level}", periodised(bump, level), persistent=False)

    @property
    def channels(self) -> int:
        """K, features of each place and channel: 1 + J L + L² J (J - 1) / 2."""
        count, turns = self.scales, self.angles
        return 1 + count * turns + turns**2 * count * (count - 1) // 2

    def _psi(self, scale: int, level: int) -> Tensor:
        return torch.stack([getattr(self, f"psi_{scale}_{turn}_{level}") for turn in range(self.angles)])

    def _averaged(self, spectrum: Tensor, scale: int) -> Tensor:
        found = torch.fft.ifft2(_thinned(spectrum * getattr(self, f"phi_{scale}"), 2 ** (self.scales - scale))).real
        return found[..., 1:-1, 1:-1]

    def forward(self, x: Tensor) -> Tensor:
        """Features, those of each channel after one another: order 0, then 1 and 2 by scale and angle."""
        whole = torch.fft.fft2(functional.pad(x, self.margins, mode="reflect"))
        found = [self._averaged(whole, 0).unsqueeze(2)]
        seconds = []
        for first in range(self.scales):
            moduli = _modulus(whole.unsqueeze(2) * self._psi(first, 0), 2**first)
            found.append(self._averaged(moduli, first))
            further = [
                self._averaged(_modulus(moduli.unsqueeze(3) * self._psi(second, first), 2 ** (second - first)), second)
                for second in range(first + 1, self.scales)
            ]
            if further:  # for each angle of the first filter all of the second, scale by scale
                seconds.append(torch.cat(further, 3).flatten(2, 3))
        return torch.cat([*found, *seconds], 2).flatten(1, 2)


def _around(side: int, whole: int) -> tuple[int, int]:
    return (whole - side) // 2, (whole - side + 1) // 2


def _thinned(spectrum: Tensor, factor: int) -> Tensor:
    """The spectrum of every factor-th pixel."""
    *lead, rows, columns = spectrum.shape
    return spectrum.reshape(*lead, factor, rows // factor, factor, columns // factor).mean((-4, -2))


def _modulus(spectrum: Tensor, factor: int) -> Tensor:
    return torch.fft.fft2(torch.fft.ifft2(_thinned(spectrum, factor)).abs().to(spectrum.dtype))
