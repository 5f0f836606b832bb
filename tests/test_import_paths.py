"""Paths by which files written for PyTorch import things, each in a process that has imported nothing else."""

import subprocess
import sys

import pytest

PATHS = [
    "import fastnet as torch; torch.utils.data.DataLoader; torch.utils.checkpoint.checkpoint",
    "import fastnet.backends.cudnn as cudnn; cudnn.benchmark = True",
    "import fastnet.utils.data as data; data.Dataset",
    "from fastnet.utils.data.dataloader import default_collate",
    "from fastnet.utils.data.sampler import RandomSampler",
    "from fastnet.utils.data._utils.collate import default_collate; import fastnet as torch; "
    "assert torch.utils.data._utils.collate.default_collate is default_collate",
    "import fastnet as torch; assert issubclass(torch.jit.ScriptModule, torch.nn.Module)",
    "from fastnet.func import vmap, grad_and_value; import fastnet as torch; assert torch.vmap is vmap",
    "import fastnet as torch; assert torch.torch.functional.norm is torch.norm",
    "from fastnet.nn.modules.utils import _pair; assert _pair(3) == (3, 3) and _pair((1, 2)) == (1, 2)",
    "from fastnet.nn.modules.batchnorm import _BatchNorm; from fastnet.nn import BatchNorm2d as B; "
    "assert issubclass(B, _BatchNorm)",
    "from fastnet.nn.modules.conv import Conv2d; import fastnet; assert fastnet.nn.Conv2d is Conv2d",
    "from fastnet import nn; assert nn.modules.Linear is nn.Linear; nn.modules.container.Sequential",
    "import fastnet.nn.modules.activation as a; a.ReLU",
    "from fastnet.distributions.categorical import Categorical; from fastnet.distributions.normal import Normal",
    "from fastnet.optim.lr_scheduler import LambdaLR; from fastnet.optim.optimizer import Optimizer",
    "from fastnet.nn.parameter import Parameter; from fastnet.nn.init import kaiming_normal_",
    "from fastnet.nn.utils.rnn import pack_padded_sequence; from fastnet.nn.utils import clip_grad_norm_",
    "from fastnet.cuda.amp import autocast, GradScaler; from fastnet.amp import autocast",
    "from fastnet.autograd import Function, Variable",
    "import fastnet as torch; torch.jit.is_scripting(); f = torch.jit.script(lambda x: x); assert f(1) == 1",
    "from fastnet.nn.modules.conv import Conv3d, LazyConv2d; from fastnet.nn.modules.pooling import MaxUnpool2d",
    "from fastnet.nn.modules.lazy import LazyModuleMixin; from fastnet.nn.parameter import UninitializedParameter",
    "import fastnet as torch; torch.signal.windows.hann(4); torch.special.ndtr(torch.zeros(1))",
    "from fastnet import Tensor, nn; from typing import Optional; Optional[Tensor]",
    "import fastnet.fx; f = fastnet.fx.wrap(lambda x: x); assert f(1) == 1; fastnet.fx.wrap('len')",
    "import fastnet as torch; torch._assert(True, ''); torch._check(1 == 1, lambda: '')",
    "import fastnet as torch; assert not torch.compiler.is_compiling(); torch.compiler.disable(len)",
    "from fastnet.compiler import disable; f = disable(recursive=False)(len); assert f is len",
    "import fastnet.distributed as dist; assert not dist.is_available() and not dist.is_initialized()",
    "from fastnet.hub import load_state_dict_from_url; import fastnet.utils.model_zoo as m; m.load_url",
    "import fastnet as torch; d = torch.accelerator.current_accelerator(); "
    "assert (d is not None) == torch.accelerator.is_available() == torch.cuda.is_available()",
    "import fastnet as torch; f: torch.memory_format = torch.channels_last; assert isinstance(f, torch.memory_format)",
    "from fastnet.nn.attention import SDPBackend, sdpa_kernel; "
    "c = sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]); c.__enter__(); c.__exit__(None, None, None)",
    "import fastnet as torch; torch.backends.cuda.enable_flash_sdp(False); "
    "assert not torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.math_sdp_enabled(); "
    "c = torch.backends.cuda.sdp_kernel(enable_math=False); c.__enter__(); c.__exit__(None, None, None)",
    "from fastnet.nn.common_types import _size_2_t, _ratio_2_t; from typing import get_args; "
    "assert get_args(_size_2_t) == (int, tuple[int, int])",
    "from fastnet.jit.annotations import List; from fastnet.hub import HASH_REGEX, download_url_to_file, urlparse",
    "from fastnet.types import Device, Number; assert isinstance(3, Number)",
    "from fastnet.overrides import has_torch_function, is_tensor_like; import fastnet; "
    "assert not has_torch_function((fastnet.ones(1),)) and is_tensor_like(fastnet.ones(1))",
    "from fastnet.jit import Final, annotate; import fastnet as torch; assert annotate(int, 3) == 3; "
    "f = torch.jit.script_if_tracing(len); assert f is len and torch.jit.freeze(f) is len",
    "import fastnet as torch; assert torch.func.functional_call(torch.nn.ReLU(), {}, torch.ones(1)) == 1",
    "from fastnet.nn.utils.weight_norm import WeightNorm; from fastnet.nn.utils import weight_norm, spectral_norm; "
    "assert callable(weight_norm) and callable(spectral_norm)",
    "from fastnet.nn.modules.batchnorm import SyncBatchNorm; from fastnet import nn; "
    "assert nn.SyncBatchNorm is SyncBatchNorm",
    "from fastnet.utils.data.distributed import DistributedSampler",
    "from fastnet.nn.parallel import DistributedDataParallel",
    "from fastnet.utils._pytree import tree_flatten, tree_map",
    "import fastnet as torch; assert torch.get_autocast_gpu_dtype() is torch.float16; torch.is_autocast_cpu_enabled()",
]


@pytest.mark.parametrize("code", PATHS)
def test_path(code):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_data_parallel_is_the_module():
    import fastnet

    layer = fastnet.nn.Linear(3, 2)
    wrapped = fastnet.nn.DataParallel(layer, device_ids=[0])
    assert list(wrapped.state_dict()) == ["module.weight", "module.bias"]
    x = fastnet.ones(1, 3)
    assert wrapped(x).tolist() == layer(x).tolist()
    with pytest.raises(ValueError, match="device_ids"):
        fastnet.nn.DataParallel(layer, device_ids=[0, 1])


def test_what_is_not_here_says_so():
    import fastnet

    with pytest.raises(AttributeError, match="one GPU"):
        fastnet.distributed.init_process_group("nccl")
    with pytest.raises(AssertionError, match="wrong size"):
        fastnet._assert(False, "wrong size")
    with pytest.raises(RuntimeError, match="Expected cond to be True"):
        fastnet._check(False)
    with pytest.raises(RuntimeError, match=r"^too long$"):
        fastnet._check(False, lambda: "too long")
    with pytest.raises(RuntimeError, match="Unsupported type"):
        fastnet.fx.wrap(3)


def test_distributed_data_parallel_is_a_group_of_one():
    import fastnet
    from fastnet.nn.parallel import DistributedDataParallel

    wrapped = DistributedDataParallel(fastnet.nn.Linear(3, 2), find_unused_parameters=True)
    assert list(wrapped.state_dict()) == ["module.weight", "module.bias"]
    with wrapped.no_sync():
        wrapped(fastnet.ones(1, 3)).sum().backward()
    assert wrapped.module.weight.grad.shape == (2, 3)
