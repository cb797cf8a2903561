# conclave_module(NAME DEPS ...): one folder, one library, its tests.
#
# Every *.cc of the calling folder is found by name, so nothing is left out by
# a list that was not edited:
#   *_test.cc     one GoogleTest binary `NAME_test`, run by ctest
#   *_bench.cc    one binary each, named as the file; never run by ctest
#   *_fuzz.cc     one libFuzzer binary each, with -DCONCLAVE_FUZZ=ON
#   *_avx2.cc     compiled for AVX2+FMA+F16C; *_avx512.cc for AVX-512 with
#                 VNNI; called only after a look at the processor
#   *_main.cc     left to the folder's own CMakeLists.txt
# DEPS are public: what the folder's headers or sources use.
# TEST_DEPS are linked into the tests, benches and fuzzers alone.
set(CONCLAVE_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion
    -Wno-sign-conversion -Wnon-virtual-dtor -Wimplicit-fallthrough -Werror)

if(CONCLAVE_FUZZ)
  # Another compiler, for its sanitizers: the release's compiler is the judge.
  list(REMOVE_ITEM CONCLAVE_WARNINGS -Werror)
endif()

function(conclave_warnings target)
  target_compile_options(${target} PRIVATE ${CONCLAVE_WARNINGS})
endfunction()

function(conclave_module)
  cmake_parse_arguments(ARG "" "NAME" "DEPS;TEST_DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  set(benches ${sources})
  list(FILTER benches INCLUDE REGEX "_bench\\.cc$")
  set(fuzzers ${sources})
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")
  list(FILTER sources EXCLUDE REGEX "(_test|_bench|_fuzz|_main)\\.cc$")

  # Under a sanitizer the fast files take minutes at -O3, and prove no more.
  set(fast -O3)
  if(CMAKE_CXX_FLAGS MATCHES "sanitize")
    set(fast -O1)
  endif()
  foreach(source ${sources})
    if(source MATCHES "_avx2\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
        "-mavx2;-mfma;-mf16c;-mbmi2;${fast}")
    elseif(source MATCHES "_avx512\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
        "-mavx2;-mfma;-mf16c;-mbmi2;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vnni;-mprefer-vector-width=512;${fast}")
    endif()
  endforeach()

  if(sources)
    add_library(${ARG_NAME} STATIC ${sources})
    target_include_directories(${ARG_NAME} PUBLIC ${CMAKE_SOURCE_DIR})
    target_link_libraries(${ARG_NAME} PUBLIC ${ARG_DEPS})
    conclave_warnings(${ARG_NAME})
  else()
    add_library(${ARG_NAME} INTERFACE)
    target_include_directories(${ARG_NAME} INTERFACE ${CMAKE_SOURCE_DIR})
    target_link_libraries(${ARG_NAME} INTERFACE ${ARG_DEPS})
  endif()

  if(tests)
    add_executable(${ARG_NAME}_test ${tests})
    target_link_libraries(${ARG_NAME}_test PRIVATE ${ARG_NAME}
      ${ARG_TEST_DEPS} GTest::gmock GTest::gtest_main)
    conclave_warnings(${ARG_NAME}_test)
    add_test(NAME ${ARG_NAME} COMMAND ${ARG_NAME}_test
             WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${ARG_NAME} PROPERTIES TIMEOUT 600)
  endif()
  foreach(bench ${benches})
    get_filename_component(name ${bench} NAME_WE)
    add_executable(${name} ${bench})
    target_link_libraries(${name} PRIVATE ${ARG_NAME} ${ARG_TEST_DEPS}
      benchmark::benchmark_main)
    conclave_warnings(${name})
  endforeach()
  if(CONCLAVE_FUZZ)
    foreach(fuzzer ${fuzzers})
      get_filename_component(name ${fuzzer} NAME_WE)
      add_executable(${name} ${fuzzer})
      target_link_libraries(${name} PRIVATE ${ARG_NAME} ${ARG_TEST_DEPS})
      target_link_options(${name} PRIVATE -fsanitize=fuzzer)
      conclave_warnings(${name})
    endforeach()
  endif()
endfunction()
