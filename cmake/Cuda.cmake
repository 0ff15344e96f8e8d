# The CUDA language and how .cu files are compiled. sm_90a code for Hopper, and PTX of compute_80
# that a driver compiles on any later or older device from sm_80 on.
find_program(KRAIT_NVCC nvcc HINTS /usr/local/cuda/bin ENV CUDA_HOME PATH_SUFFIXES bin REQUIRED)
if(NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER ${KRAIT_NVCC})
endif()
set(CMAKE_CUDA_ARCHITECTURES OFF)
set(CMAKE_CUDA_FLAGS_RELEASE "-O2")
enable_language(CUDA)
# CMake 3.25 does not know how nvcc 13 is asked for C++20.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
find_package(CUDAToolkit 13 REQUIRED)
find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
if(CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
# As for C++: no contraction. What is to be fused says so, and shared formulas keep the CPU's bits.
add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:--fmad=false;--expt-relaxed-constexpr;-Xcompiler=-ffp-contract=off,-Wall>"
  "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-gencode arch=compute_90a,code=sm_90a -gencode arch=compute_80,code=compute_80>")
# A bundle's libraries lie beside its binaries; RPATH, unlike RUNPATH, holds for theirs too.
add_link_options(-Wl,--disable-new-dtags)
