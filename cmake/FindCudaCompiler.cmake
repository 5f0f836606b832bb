# Finds nvcc and the CUDA headers: a toolkit, or the compiler wheels of the build's Python environment.
#
# Sets FASTNET_NVCC (empty without one), FASTNET_CUDA_ROOT, FASTNET_CUDA_INCLUDE (the folder with cuda_bf16.h, empty
# without one) and FASTNET_WITHOUT_CUDA (why there is no nvcc, empty when there is).
#
# FASTNET_TOOLKIT in the environment: auto (a toolkit first, then wheels), wheels, none (headers only).

set(toolkit "$ENV{FASTNET_TOOLKIT}")
if(NOT toolkit)
  set(toolkit auto)
endif()

# Every location of the namespace package that the wheels install into.
execute_process(
  COMMAND ${Python_EXECUTABLE} -c "import nvidia.cu13 as p; print(';'.join(p.__path__))"
  OUTPUT_VARIABLE wheel_roots OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)

set(roots "")
if(toolkit STREQUAL "auto")
  if(DEFINED ENV{CUDACXX})
    get_filename_component(bin "$ENV{CUDACXX}" DIRECTORY)
    list(APPEND roots "${bin}/..")
  endif()
  foreach(variable CUDAToolkit_ROOT CUDA_PATH CUDA_HOME)
    if(DEFINED ENV{${variable}})
      list(APPEND roots "$ENV{${variable}}")
    endif()
  endforeach()
  list(APPEND roots /usr/local/cuda)
  find_program(nvcc_on_path nvcc NO_CACHE)
  if(nvcc_on_path)
    # nvcc may be a shim: it knows where its toolkit lies.
    execute_process(COMMAND ${nvcc_on_path} --dryrun -c -x cu /dev/null ERROR_VARIABLE dryrun OUTPUT_QUIET)
    if(dryrun MATCHES "TOP=([^\n]+)")
      list(APPEND roots "${CMAKE_MATCH_1}")
    endif()
  endif()
endif()
list(APPEND roots ${wheel_roots})

set(FASTNET_NVCC "")
set(FASTNET_CUDA_ROOT "")
set(include_folder "")
foreach(root IN LISTS roots)
  file(REAL_PATH "${root}" root)
  if(NOT include_folder AND EXISTS "${root}/include/cuda_bf16.h")
    set(include_folder "${root}/include")
  endif()
  if(NOT FASTNET_NVCC AND EXISTS "${root}/bin/nvcc" AND NOT toolkit STREQUAL "none")
    set(FASTNET_NVCC "${root}/bin/nvcc")
    set(FASTNET_CUDA_ROOT "${root}")
    set(include_folder "${root}/include")
  endif()
endforeach()
set(FASTNET_CUDA_INCLUDE "${include_folder}" CACHE PATH "Folder with the CUDA headers" FORCE)

set(FASTNET_WITHOUT_CUDA "")
if(FASTNET_CUDA STREQUAL "off")
  set(FASTNET_NVCC "")
  set(FASTNET_WITHOUT_CUDA "the build was asked to leave it out (FASTNET_CUDA=off)")
elseif(toolkit STREQUAL "none")
  set(FASTNET_WITHOUT_CUDA "the build was asked to leave it out (FASTNET_TOOLKIT=none)")
elseif(NOT FASTNET_NVCC)
  set(FASTNET_WITHOUT_CUDA "no nvcc was found when fastnet was built: neither a CUDA toolkit nor the compiler wheels")
  if(FASTNET_CUDA STREQUAL "on")
    message(FATAL_ERROR "FASTNET_CUDA=on, but ${FASTNET_WITHOUT_CUDA}")
  endif()
endif()
message(STATUS "nvcc: ${FASTNET_NVCC}${FASTNET_WITHOUT_CUDA}; CUDA headers: ${FASTNET_CUDA_INCLUDE}")
