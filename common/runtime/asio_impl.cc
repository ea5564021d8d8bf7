// Asio and its TLS part are compiled here, once, and linked as cairn::asio.
#include <boost/asio/impl/src.hpp>
#include <boost/asio/ssl/impl/src.hpp>
