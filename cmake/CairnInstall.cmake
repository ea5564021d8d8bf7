# cmake --install: programs, mount(8)'s helper, units, documents, example configurations.
include(GNUInstallDirs)

get_property(programs GLOBAL PROPERTY CAIRN_PROGRAMS)
install(TARGETS ${programs} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")

# mount(8) looks for its helpers in /sbin, which is /usr/sbin: with another prefix than /usr link it there by hand.
file(RELATIVE_PATH program_from_sbin "/prefix/${CMAKE_INSTALL_SBINDIR}" "/prefix/${CMAKE_INSTALL_BINDIR}/cairn")
install(CODE "
  set(sbin \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_SBINDIR}\")
  message(STATUS \"Installing: \${sbin}/mount.cairn\")
  file(MAKE_DIRECTORY \"\${sbin}\")
  file(CREATE_LINK \"${program_from_sbin}\" \"\${sbin}/mount.cairn\" SYMBOLIC)")

# Not CMAKE_INSTALL_LIBDIR, which may be lib64 or lib/x86_64-linux-gnu: systemd reads lib.
install(
  FILES deploy/systemd/cairn-master.service deploy/systemd/cairn-chunkserver.service deploy/systemd/cairn-mount@.service
  DESTINATION lib/systemd/system)
install(FILES deploy/systemd/cairn.sysusers DESTINATION lib/sysusers.d RENAME cairn.conf)
install(FILES README.md CHANGELOG.md LICENSE DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/cairn")
install(DIRECTORY docs/ DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/cairn")
# Examples: what is in /etc/cairn belongs to whoever runs the cluster.
install(DIRECTORY deploy/config/ DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/cairn/config")
