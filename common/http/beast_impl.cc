// Beast is compiled here, once, and linked as cairn::beast.
#include <boost/beast/src.hpp>
