# SPDX-License-Identifier: Apache-2.0
# The Debian packages, by CPack: a component of the install rules is a package. scripts/package sets ETAGD_PACKAGING, builds and
# calls cpack; an ordinary "cmake --install" puts nothing outside of its prefix.
if(NOT ETAGD_PACKAGING)
    return()
endif()
if(NOT CMAKE_INSTALL_PREFIX STREQUAL "/usr")
    message(FATAL_ERROR "ETAGD_PACKAGING wants CMAKE_INSTALL_PREFIX=/usr")
endif()
foreach(needed ETAGD_NGINX_MODULE ETAGD_PYTHON_PACKAGE)
    if(NOT ${needed})
        message(FATAL_ERROR "${needed} is off: its Debian packages are missing (scripts/lib/packages.sh)")
    endif()
endforeach()

set(packaging ${PROJECT_SOURCE_DIR}/packaging)
set(made ${PROJECT_BINARY_DIR}/packaging)
set(packages etagd etag-relay libetag0 libetag-dev etagctl libnginx-mod-http-etag-cache python3-etagd)
set(ETAGD_PACKAGE_RELEASE 1 CACHE STRING "Debian revision of the packages")
set(ETAGD_PACKAGE_MAINTAINER "etagd maintainers <maintainers@etagd.invalid>" CACHE STRING "Maintainer: of the packages")
set(version ${PROJECT_VERSION}-${ETAGD_PACKAGE_RELEASE})

# ---- What a package holds besides the programs ----

install(FILES ${packaging}/systemd/etagd.service ${packaging}/systemd/etagd.socket
    ${packaging}/systemd/run-etagd-spool.mount DESTINATION lib/systemd/system COMPONENT etagd)
install(FILES ${packaging}/systemd/etag-exporter.service DESTINATION lib/systemd/system COMPONENT etagctl)
install(FILES ${packaging}/systemd/etag-relay.service DESTINATION lib/systemd/system COMPONENT etag-relay)
install(FILES ${packaging}/etag-relay/etag-relay.sysusers DESTINATION lib/sysusers.d RENAME etag-relay.conf COMPONENT etag-relay)
install(FILES ${packaging}/etag-relay/etag-relay.yaml DESTINATION /etc/etag-relay COMPONENT etag-relay)
install(FILES ${packaging}/etagd/etagd.sysusers DESTINATION lib/sysusers.d RENAME etagd.conf COMPONENT etagd)
install(FILES ${packaging}/etagd/etagd.tmpfiles DESTINATION lib/tmpfiles.d RENAME etagd.conf COMPONENT etagd)
install(FILES ${packaging}/etagd/etagd.yaml DESTINATION /etc/etagd COMPONENT etagd)

# Man pages, where the build makes them; compressed as policy wants it.
if(TARGET man)
    foreach(place 1:etagctl 3:libetag-dev 5:etagd 8:etagd 5:etag-relay 8:etag-relay)
        string(REPLACE ":" ";" place ${place})
        list(GET place 0 number)
        list(GET place 1 package)
        # Two programs have pages in sections 5 and 8.
        if(package STREQUAL "etag-relay")
            set(which FILES_MATCHING PATTERN "etag-relay*")
        else()
            set(which PATTERN "etag-relay*" EXCLUDE)
        endif()
        install(DIRECTORY ${PROJECT_BINARY_DIR}/docs/man/man${number} DESTINATION share/man COMPONENT ${package} ${which})
        install(CODE "execute_process(COMMAND gzip -9nrf \$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/share/man/man${number})"
            COMPONENT ${package})
    endforeach()
endif()

# Documents that policy wants in each package.
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC) # of the sources, where SOURCE_DATE_EPOCH says it
configure_file(${packaging}/changelog.in ${made}/changelog.Debian @ONLY)
configure_file(${PROJECT_SOURCE_DIR}/CHANGELOG.md ${made}/changelog COPYONLY)
foreach(name changelog.Debian changelog)
    execute_process(COMMAND gzip -9nkf ${made}/${name} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
foreach(package ${packages})
    install(FILES ${packaging}/copyright ${made}/changelog.Debian.gz ${made}/changelog.gz DESTINATION share/doc/${package}
        COMPONENT ${package})
    if(EXISTS ${packaging}/${package}/lintian-overrides)
        install(FILES ${packaging}/${package}/lintian-overrides DESTINATION share/lintian/overrides RENAME ${package}
            COMPONENT ${package})
    endif()
endforeach()

# ---- What a package depends on, besides what its programs are linked with ----

# Modules of nginx fit one build of it: nginx-dev says which, as its dh_nginx writes it into Debian's own module packages.
file(STRINGS ${ETAGD_NGINX_SOURCE}/debian/libnginx-mod.abisubstvars nginx_abi REGEX "^nginx:abi=")
string(REPLACE "nginx:abi=" "" nginx_abi "${nginx_abi}")
if(NOT nginx_abi)
    message(FATAL_ERROR "nginx-dev does not say which nginx-abi-... it is for")
endif()
# The compiled half fits one minor version of Python, and the cffi backends that speak its version of their interface.
execute_process(COMMAND ${ETAGD_PYTHON} -c "import sys; from cffi import recompiler; \
v = sys.version_info; print(f'{v[0]}.{v[1]}', f'{v[0]}.{v[1] + 1}', recompiler.VERSION_BASE, sep=';')"
    OUTPUT_VARIABLE python OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
list(GET python 0 python_this)
list(GET python 1 python_next)
list(GET python 2 cffi)

set(etagd_depends "systemd | systemd-standalone-sysusers | systemd-sysusers, systemd | systemd-standalone-tmpfiles | systemd-tmpfiles")
set(etag-relay_depends "systemd | systemd-standalone-sysusers | systemd-sysusers")
set(libetag-dev_depends "libetag0 (= ${version}), libssl-dev")
set(libnginx-mod-http-etag-cache_depends "${nginx_abi}")
set(python3-etagd_depends
    "libetag0 (>= ${PROJECT_VERSION}), python3 (>= ${python_this}~), python3 (<< ${python_next}), python3-cffi-backend-api-min (<= ${cffi}), python3-cffi-backend-api-max (>= ${cffi})")
set(etagd_recommends etagctl)
set(etag-relay_recommends etagd)
set(etag-relay_suggests postgresql-client)
set(etagctl_suggests etagd)
set(libetag0_suggests etagd)
set(python3-etagd_suggests "etagd, python3-django")
set(libnginx-mod-http-etag-cache_recommends etagd)

set(etagd_section web)
set(etag-relay_section web)
set(libetag0_section libs)
set(libetag-dev_section libdevel)
set(etagctl_section web)
set(libnginx-mod-http-etag-cache_section httpd)
set(python3-etagd_section python)

set(etagd_description "cache of HTTP entity tags in shared memory: the daemon
Web front ends on this host answer If-None-Match with 304 Not Modified
without rendering, hashing, or asking another process: they read entity
tags from memory that this daemon publishes, and write paths tell it what
they changed.
.
This package holds the daemon, its units for systemd and its configuration.")
set(etag-relay_description "cache of HTTP entity tags in shared memory: many hosts
Carries what etagd promises from one host to many, on the PostgreSQL that the
application has, or on etcd: reads what other hosts have changed, says what this one has,
and proves to the daemon how fresh that is.")
set(etagctl_description "cache of HTTP entity tags in shared memory: the command line tool
Looks into etagd's cache, explains why a request was or was not answered
304, and invalidates by resource, prefix or surrogate key, from shells and
cron jobs.")
set(libetag0_description "cache of HTTP entity tags in shared memory: the library
Looks entity tags up in etagd's shared memory without a system call,
evaluates preconditions as RFC 9110 says, and tells the daemon what was
rendered and what was changed.")
set(libetag-dev_description "cache of HTTP entity tags in shared memory: headers
What is needed to build a front end or a write path with libetag: the
header, the static library, and files for pkg-config and CMake.")
set(libnginx-mod-http-etag-cache_description "cache of HTTP entity tags in shared memory: module for nginx
Answers conditional requests from etagd's shared memory before nginx asks
the application, whatever language that is written in, and takes part by
header fields.")
set(python3-etagd_description "cache of HTTP entity tags in shared memory: Python and Django
The package etagd for Python: libetag by cffi; and for Django a middleware,
a mixin, and an ORM whose writes invalidate.")

# ---- CPack ----

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME etagd)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "${ETAGD_PACKAGE_MAINTAINER}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL ${packages})
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE ${ETAGD_PACKAGE_RELEASE})
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR}/libclient)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
foreach(package ${packages})
    string(TOUPPER ${package} NAME)
    set(CPACK_DEBIAN_${NAME}_PACKAGE_NAME ${package})
    set(CPACK_DEBIAN_${NAME}_PACKAGE_SECTION ${${package}_section})
    set(CPACK_DEBIAN_${NAME}_DESCRIPTION "${${package}_description}")
    set(CPACK_COMPONENT_${NAME}_DESCRIPTION "${${package}_description}")
    foreach(field DEPENDS RECOMMENDS SUGGESTS)
        string(TOLOWER ${field} suffix)
        if(DEFINED ${package}_${suffix})
            set(CPACK_DEBIAN_${NAME}_PACKAGE_${field} "${${package}_${suffix}}")
        endif()
    endforeach()
    set(control)
    foreach(script postinst prerm postrm conffiles triggers)
        if(EXISTS ${packaging}/${package}/${script})
            list(APPEND control ${packaging}/${package}/${script})
        endif()
    endforeach()
    if(package STREQUAL "libetag0")
        # What packages of others that link libetag will depend on. (CPack's own would bring scripts that call ldconfig.)
        file(WRITE ${made}/shlibs "libetag 0 libetag0 (>= ${PROJECT_VERSION})\n")
        list(APPEND control ${made}/shlibs)
    endif()
    set(CPACK_DEBIAN_${NAME}_PACKAGE_CONTROL_EXTRA "${control}")
endforeach()
include(CPack)
