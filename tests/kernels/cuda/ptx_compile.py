"""Compile every CUDA kernel of the package to PTX with no driver; print the texts as JSON.

    python -m tests.kernels.cuda.ptx_compile 90

The argument is the compute capability to compile for, times ten. Run by test_ptx.py in a process of its own, since it
changes what numba-cuda believes of this machine. While it types device functions it asks the current device for its
compute capability, and here there is none. And it asks NVRTC, which has no part in making PTX of Python, where it lies
and what capabilities there are: to answer for it spares the tests a library of 90 MB.
Prints {"skip": reason} where the compiler is missing, else {"module.kernel sm_90 0": PTX, ...}, the last number being
that of the signature: a kernel may have several.
"""

import importlib
import json
import pkgutil
import sys
from types import SimpleNamespace


def main(capability: tuple[int, int]) -> dict[str, str]:
    try:
        from numba import cuda
        from numba.cuda import compiler, cuda_paths, dispatcher
        from numba.cuda.cudadrv import nvrtc, nvvm

        nvrtc.get_supported_ccs = lambda: (capability,)
        cuda_paths._get_nvrtc_path = lambda: None
        nvvm.NVVM().get_version()
    except Exception as error:
        return {"skip": f"no CUDA compiler: {' '.join(str(error).split())[:200]}"}
    import kernels

    device = SimpleNamespace(compute_capability=capability)
    for module in (compiler, dispatcher):
        module.get_current_device = lambda: device
    texts: dict[str, str] = {}
    for found in pkgutil.walk_packages(kernels.__path__, "kernels."):
        module = importlib.import_module(found.name)
        kernels_here = {
            name: value
            for name, value in vars(module).items()
            if isinstance(value, dispatcher.CUDADispatcher)
            and value.py_func.__module__ == module.__name__
            and not value.targetoptions["device"]
        }
        for name, kernel in kernels_here.items():
            label = f"{found.name.rpartition('.')[2]}.{name} sm_{capability[0]}{capability[1]}"
            signatures = getattr(module, "SIGNATURES", {}).get(name, [])
            if not signatures:
                texts[label] = "no signature"
            for number, signature in enumerate(signatures if isinstance(signatures, list) else [signatures]):
                texts[f"{label} {number}"] = cuda.compile_ptx(kernel.py_func, signature, cc=capability)[0]
    return texts


if __name__ == "__main__":
    print(json.dumps(main((int(sys.argv[1][:-1]), int(sys.argv[1][-1])))))
