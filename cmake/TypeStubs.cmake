# fastnet_type_stub(target): after each link, the extension's type stub beside it, and installed with it. Written by
# pybind11-stubgen, which the build requires; where it is missing all the same (--no-build-isolation) there are no stubs,
# and FASTNET_WITHOUT_STUBS says so.
execute_process(
  COMMAND ${Python_EXECUTABLE} -c "import pybind11_stubgen"
  RESULT_VARIABLE stubgen_missing OUTPUT_QUIET ERROR_QUIET)
set(FASTNET_WITHOUT_STUBS "")
if(stubgen_missing)
  set(FASTNET_WITHOUT_STUBS "pybind11-stubgen is not installed in the Python that built fastnet")
endif()
message(STATUS "type stubs: ${FASTNET_WITHOUT_STUBS}")

function(fastnet_type_stub target)
  if(FASTNET_WITHOUT_STUBS)
    return()
  endif()
  set(stub "${CMAKE_BINARY_DIR}/${target}.pyi")
  add_custom_command(
    TARGET ${target} POST_BUILD
    COMMAND ${Python_EXECUTABLE} ${CMAKE_SOURCE_DIR}/cmake/stub.py $<TARGET_FILE:${target}> ${stub}
    BYPRODUCTS ${stub} VERBATIM)
  install(FILES ${stub} DESTINATION fastnet)
endfunction()
