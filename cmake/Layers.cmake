# SPDX-License-Identifier: Apache-2.0
# A folder is a layer.

# The folders at and below this one that have headers.
function(header_folders out folder)
    file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.h)
    set(folders)
    foreach(header ${headers})
        get_filename_component(place ${header} DIRECTORY)
        list(APPEND folders ${place})
    endforeach()
    list(REMOVE_DUPLICATES folders)
    set(${out} ${folders} PARENT_SCOPE)
endfunction()
