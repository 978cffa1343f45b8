"""The extension modules; everything else about the distribution stands in pyproject.toml.

The user plane is compiled twice from the same sources: for every machine of the architecture and, on x86-64, for those
that have the instructions of x86-64-v3 (AVX2, BMI2, MOVBE). `upf.engine` chooses between them at import. Replication
of what is multicast waits for the kernel, whatever the instructions: one module for every machine.
"""

import os
import platform

from Cython.Build import cythonize
from setuptools import Extension, setup

# CASTCORE_DEBUG=1 brings bounds checks, the annotated HTML and symbols back ("make debug").
debug = os.environ.get("CASTCORE_DEBUG") == "1"
# CASTCORE_ENGINE=baseline builds that one alone, CASTCORE_ENGINE=none neither, nor any other module.
only = os.environ.get("CASTCORE_ENGINE")

modules = [("baseline", "upf._engine", []), ("baseline", "upf._mbs", [])]
if platform.machine() in ("x86_64", "AMD64"):
    modules.append(("x86-64-v3", "upf._engine_v3", ["-march=x86-64-v3"]))

extensions = [
    Extension(
        name,
        sources=[f"cext/upf/{name.removeprefix('upf.')}.pyx"],
        include_dirs=["cext/upf"],
        depends=[f"cext/upf/{header}.h" for header in ("copies", "datagrams", "door", "intrinsics", "system")],
        extra_compile_args=["-Wall", *(["-O0", "-g"] if debug else ["-O3", "-fno-strict-aliasing"]), *instructions],
    )
    for engine, name, instructions in modules
    if only in (None, engine)
]
if only != "none":
    flags = ["-Wall", *(["-O0", "-g"] if debug else ["-O3"])]
    extensions += [
        Extension(
            "nf.mbstf._sending",
            sources=["cext/mbstf/_sending.pyx"],
            include_dirs=["cext/mbstf", "cext/upf"],
            depends=["cext/mbstf/pacing.h", "cext/upf/datagrams.h", "cext/upf/system.h"],
            extra_compile_args=[*flags, "-pthread"],
            extra_link_args=["-pthread"],
        ),
        Extension("nf.client.mbs._erasures", sources=["cext/mbs_client/_erasures.pyx"], extra_compile_args=flags),
    ]


setup(
    # Side by side.
    options={"build_ext": {"parallel": len(extensions) or 1}},
    ext_modules=cythonize(
        extensions,
        nthreads=len(extensions),
        build_dir="build/cython",
        annotate=debug,
        include_path=["cext/upf", "cext/mbstf"],
        compiler_directives={
            "language_level": "3",
            "boundscheck": debug,
            "wraparound": False,
            "initializedcheck": debug,
            "cdivision": True,
            "freethreading_compatible": True,
        },
    ),
)
