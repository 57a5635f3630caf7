# SPDX-License-Identifier: Apache-2.0
# A folder is a layer: a target of its own, whose include paths are the folders that it may include and no others, so a wrong include
# does not compile. The file "layers", beside this one, lists them.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/layers)
file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/layers rows REGEX "^[^#]")
set(ETAGD_LAYERS)
foreach(row ${rows})
    string(REGEX MATCH "^([^:]+):(.*)$" row "${row}")
    set(layer ${CMAKE_MATCH_1})
    string(REGEX MATCHALL "[^ ]+" named "${CMAKE_MATCH_2}")
    # Those that it names are above it in the file, so they are complete.
    set(reaches ${layer})
    foreach(lower ${named})
        if(NOT lower IN_LIST ETAGD_LAYERS)
            message(FATAL_ERROR "cmake/layers: ${layer} names ${lower}, which is not above it")
        endif()
        list(APPEND reaches ${ETAGD_LAYER_${lower}})
    endforeach()
    list(REMOVE_DUPLICATES reaches)
    set(ETAGD_LAYER_${layer} ${reaches})
    list(APPEND ETAGD_LAYERS ${layer})
endforeach()

# The include paths of a layer.
function(layer_includes out layer)
    set(folders)
    foreach(folder ${ETAGD_LAYER_${layer}})
        list(APPEND folders ${PROJECT_SOURCE_DIR}/${folder})
    endforeach()
    set(${out} ${folders} PARENT_SCOPE)
endfunction()

# The folders of all layers at and below this one, and what they may include: for a test, which looks at everything.
function(layers_below_includes out top)
    set(folders)
    foreach(layer ${ETAGD_LAYERS})
        if(layer STREQUAL top OR layer MATCHES "^${top}/")
            layer_includes(paths ${layer})
            list(APPEND folders ${paths})
        endif()
    endforeach()
    list(REMOVE_DUPLICATES folders)
    set(${out} ${folders} PARENT_SCOPE)
endfunction()

# Its objects, in a target that is called after its folder: daemon/store is daemon_store. LINK: libraries whose headers it includes.
# EXCEPT: sources that are there and are not built.
function(add_layer layer)
    cmake_parse_arguments(PARSE_ARGV 1 layer "" "" "LINK;EXCEPT")
    string(REPLACE "/" "_" name ${layer})
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${layer}/*.c)
    foreach(other ${layer_EXCEPT})
        list(REMOVE_ITEM sources ${PROJECT_SOURCE_DIR}/${layer}/${other})
    endforeach()
    layer_includes(folders ${layer})
    add_library(${name} OBJECT ${sources})
    target_include_directories(${name} PRIVATE ${folders})
    target_link_libraries(${name} PRIVATE etag_flags ${layer_LINK})
endfunction()
