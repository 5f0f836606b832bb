"""Switches that training scripts set, as ``torch.backends``.

fastnet's kernels are deterministic and choose no algorithms by timing, so most switches have nothing to change: they
keep what they are set to, and refuse what fastnet cannot do. ``cuda.matmul.allow_tf32`` is
``fastnet.set_float32_matmul_precision``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastnet._device import why_no_cuda
from fastnet.kernels.matmul import get_float32_matmul_precision, set_float32_matmul_precision


class _Switches:
    """Named values of fixed types."""

    def __init__(self, **values: Any):
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__:
            raise AttributeError(f"fastnet.backends has no switch {name!r} here; it has {', '.join(self.__dict__)}")
        wanted = type(self.__dict__[name])
        if not isinstance(value, wanted):
            raise RuntimeError(f"{name}: expected a {wanted.__name__}, got {value!r}")
        self.__dict__[name] = value


class _Cudnn(_Switches):
    """cuDNN is never used."""

    def is_available(self) -> bool:
        """False: the kernels are fastnet's own."""
        return False

    def version(self) -> None:
        """None: the kernels are fastnet's own."""
        return None


class _Matmul:
    """Matrix products on the GPU."""

    @property
    def allow_tf32(self) -> bool:
        """Whether float32 products may use TF32."""
        return get_float32_matmul_precision() != "highest"

    @allow_tf32.setter
    def allow_tf32(self, value: bool) -> None:
        set_float32_matmul_precision("high" if value else "highest")


class _Cuda:
    """The GPU."""

    matmul = _Matmul()

    def __init__(self) -> None:
        self._attention = dict.fromkeys(("flash", "math", "mem_efficient", "cudnn"), True)

    def __getattr__(self, name: str) -> Any:
        """``enable_flash_sdp(enabled)``, ``flash_sdp_enabled()`` and their kin: PyTorch's switches of attention
        kernels, which keep what they are set to."""
        kind = name.removeprefix("enable_").removesuffix("_enabled").removesuffix("_sdp")
        if name == f"enable_{kind}_sdp" and kind in self._attention:
            return lambda enabled: self._attention.__setitem__(kind, bool(enabled))
        if name == f"{kind}_sdp_enabled" and kind in self._attention:
            return lambda: self._attention[kind]
        raise AttributeError(f"fastnet.backends.cuda has no {name!r}")

    def is_built(self) -> bool:
        """Whether the package has GPU code."""
        from fastnet import kernels

        return kernels.available()["native"] is True or why_no_cuda() is None

    @contextmanager
    def sdp_kernel(
        self,
        enable_flash: bool = True,
        enable_math: bool = True,
        enable_mem_efficient: bool = True,
        enable_cudnn: bool = True,
    ) -> Iterator[dict]:
        """A block in which PyTorch would choose among these attention kernels; fastnet's run as ever."""
        yield {}


class _Absent:
    """A kind of device that fastnet does not serve."""

    def is_available(self) -> bool:
        """False."""
        return False

    def is_built(self) -> bool:
        """False."""
        return False


cudnn = _Cudnn(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
cuda = _Cuda()
mps = _Absent()
mkldnn = _Absent()

for _name in ("cuda", "cudnn", "mps"):  # `import torch.backends.cudnn as cudnn`
    if _name in globals():
        sys.modules[f"{__name__}.{_name}"] = globals()[_name]
