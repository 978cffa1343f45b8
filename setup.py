"""The extension modules; everything else about the distribution stands in pyproject.toml."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

# CASTCORE_DEBUG=1 brings bounds checks, the annotated HTML and symbols back ("make debug").
debug = os.environ.get("CASTCORE_DEBUG") == "1"

extensions = [
    Extension(
        "upf._engine",
        sources=["cext/upf/_engine.pyx"],
        include_dirs=["cext/upf"],
        depends=["cext/upf/intrinsics.h"],
        extra_compile_args=["-O0", "-g", "-Wall"] if debug else ["-O3", "-fno-strict-aliasing", "-Wall"],
    ),
]

setup(
    ext_modules=cythonize(
        extensions,
        build_dir="build/cython",
        annotate=debug,
        include_path=["cext/upf"],
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
